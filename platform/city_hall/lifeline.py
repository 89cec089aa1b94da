"""A child's end of the socket to its supervisor: what it is to be, what it reports, when it has to end.

It runs before anything heavy is imported, and knows nothing of what the child does (`children` is the other
end).
"""

from __future__ import annotations

import json
import os
import socket
import threading
from contextlib import suppress

SUPERVISOR_GONE = 4
"""Exit status of a child whose supervisor has died."""
MOST_FILES = 4


class Lifeline:
    """The line to the supervisor, by its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._line = socket.socket(fileno=descriptor)
        self._line.set_inheritable(False)

    def briefing(self) -> list[int]:
        """Waits for the briefing, puts it into the environment, and from then on dies with the supervisor.

        Returns the files that came with it. The end is hard: whoever starts the platform again is to find the
        port and the instance's name free at once, and a gateway that is killed loses nothing that it has
        acknowledged.
        """
        told, files, _, _ = socket.recv_fds(self._line, 65536, MOST_FILES)
        while not told.endswith(b"\n"):
            more = self._line.recv(65536)
            if not more:
                os._exit(SUPERVISOR_GONE)
            told += more
        for file in files:
            os.set_inheritable(file, False)
        os.environ.update(json.loads(told))
        threading.Thread(target=self._follow, name="lifeline", daemon=True).start()
        return files

    def ready(self) -> None:
        """Reports that the child does its work from now on."""
        self._line.sendall(b"ready\n")

    def beat(self) -> None:
        """Reports that the child's event loop turns. A supervisor that does not listen is not waited for."""
        with suppress(BlockingIOError, ConnectionError):
            self._line.send(b"beat\n", socket.MSG_DONTWAIT)

    def failed(self, sentence: str) -> None:
        """Reports why the child is about to end. Whether it is started again its exit status says."""
        self._line.sendall(f"failed {' '.join(sentence.split())}\n".encode())

    def _follow(self) -> None:
        """In a thread, so that a busy or hanging event loop dies, too."""
        with suppress(ConnectionError):  # it died with a report unread
            while self._line.recv(1024):
                pass
        os._exit(SUPERVISOR_GONE)
