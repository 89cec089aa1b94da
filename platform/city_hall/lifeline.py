"""A child's end of its supervisor's pipes: what it is to be, how it reports, and that it never outlives it.

It runs before anything heavy is imported, and knows nothing of what the child does (`children` is the other
end).
"""

from __future__ import annotations

import json
import os
import threading

SUPERVISOR_GONE = 4
"""Exit status of a child whose supervisor has died."""


class Lifeline:
    """Two pipes: ``control`` from the supervisor, ``report`` to it."""

    def __init__(self, control: int, report: int) -> None:
        self._control = control
        self._report = report
        for file in (control, report):
            os.set_inheritable(file, False)

    def briefing(self) -> dict[str, str]:
        """Waits for the environment that the supervisor gives, and from then on dies with it.

        The end is hard: whoever starts the platform again is to find the port and the instance's name free at
        once, and a gateway that is killed loses nothing that it has acknowledged.
        """
        with os.fdopen(os.dup(self._control)) as pipe:
            line = pipe.readline()
        if not line:
            os._exit(SUPERVISOR_GONE)
        threading.Thread(target=self._follow, name="lifeline", daemon=True).start()
        told: dict[str, str] = json.loads(line)
        return told

    def ready(self) -> None:
        """Reports that the child does its work from now on."""
        self._say("ready")

    def failed(self, sentence: str) -> None:
        """Reports why the child is about to end. Whether it is started again its exit status says."""
        self._say("failed " + " ".join(sentence.split()))

    def _say(self, line: str) -> None:
        os.write(self._report, line.encode() + b"\n")

    def _follow(self) -> None:
        """In a thread, so that a busy or hanging event loop dies, too."""
        while os.read(self._control, 1024):
            pass
        os._exit(SUPERVISOR_GONE)
