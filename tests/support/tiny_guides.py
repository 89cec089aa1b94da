"""Stands where the demo agents stand under a supervisor: notes what it was told, and waits for its end."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from city_hall.lifeline import Lifeline


def main() -> None:
    lifeline = Lifeline(int(sys.argv[1]))
    lifeline.briefing()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    lifeline.ready()
    note = Path(os.environ["SMART_CITY_DATA_DIR"]) / "guides"
    new = note.with_suffix(".new")
    new.write_text(f"{os.getpid()} {os.environ['SMART_CITY_URL']} {os.environ['SMART_CITY_TOKEN']}")
    new.replace(note)
    signal.pause()


if __name__ == "__main__":
    main()
