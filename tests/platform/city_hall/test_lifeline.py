"""A child's end of the line: when its supervisor is gone, it ends, whatever of its reports was not read."""

from __future__ import annotations

import socket
import subprocess
import sys

from city_hall.lifeline import SUPERVISOR_GONE
from tests.support.waiting import PATIENCE

CHILD = """
import signal, sys
from city_hall.lifeline import Lifeline
line = Lifeline(int(sys.argv[1]))
line.briefing()
line.beat()
signal.pause()
"""


def test_a_child_ends_with_a_supervisor_that_dies_before_it_has_read_a_beat() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = (sys.executable, "-c", CHILD, str(theirs.fileno()))
        child = subprocess.Popen(command, pass_fds=(theirs.fileno(),))
        theirs.close()
        ours.settimeout(PATIENCE)
        ours.sendall(b"{}\n")
        assert ours.recv(5, socket.MSG_PEEK)
        ours.close()
        try:
            assert child.wait(PATIENCE) == SUPERVISOR_GONE
        finally:
            child.kill()
            child.wait()
