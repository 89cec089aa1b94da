"""``python -m city_hall``: the command line, or what a supervisor starts below it: a worker, the guides."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence

from city_hall.lifeline import Lifeline


def main(arguments: Sequence[str]) -> int:
    """Runs the role that ``arguments`` name; each imports only what it needs."""
    match arguments:
        case ["worker", *pipes]:
            from city_hall import worker

            return worker.main(pipes)
        case ["guides", control, report]:
            _guides(Lifeline(int(control), int(report)))
        case _:
            from city_hall import cli

            cli.main()
    return 0


def _guides(lifeline: Lifeline) -> None:
    """The demo agents know nothing of a supervisor: their own program, in a process that ends with it."""
    os.environ.update(lifeline.briefing())
    lifeline.ready()
    sys.argv[1:] = []
    runpy.run_module("city_guides", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
