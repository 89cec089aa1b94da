"""Ports of test servers: two processes of tests never have the same one."""

from __future__ import annotations

import subprocess
import sys

from tests.support.machine import ROOT
from tests.support.ports import free_port

ASKED = """
import sys
from tests.support import ports
ports.FIRST, ports.LAST = int(sys.argv[1]), int(sys.argv[1]) + 2
print(ports.free_port())
"""


def test_a_port_that_a_process_of_tests_has_is_given_to_no_other_one_while_nobody_listens() -> None:
    ours = free_port()
    theirs = subprocess.run((sys.executable, "-c", ASKED, str(ours)), cwd=ROOT, capture_output=True, check=True)
    assert int(theirs.stdout) == ours + 1


def test_a_process_gets_no_port_twice() -> None:
    given = [free_port() for _ in range(100)]
    assert len(set(given)) == len(given)
