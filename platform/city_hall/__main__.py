"""``python -m city_hall``: the command line, or what a supervisor starts below it: a worker, the guides."""

from __future__ import annotations

import gc
import runpy
import sys
from collections.abc import Sequence

from city_hall.lifeline import Lifeline


def main(arguments: Sequence[str]) -> int:
    """Runs the role that ``arguments`` name; each imports only what it needs."""
    match arguments:
        case ["worker", line]:
            return _worker(Lifeline(int(line)))
        case ["guides", line]:
            _guides(Lifeline(int(line)))
        case _:
            from city_hall import cli

            cli.main()
    return 0


GENERATIONS = (5_000, 10, 10_000)
"""When garbage is collected. Every message leaves a few objects alive for one round trip, so that the default, a
collection each 700 of them, costs a question 7 µs of 25 (a hundred connections, twenty in flight). A collection of a
hundred thousand that stay, as thousands of connections bring them at once, takes 50 to 100 ms; of five thousand, 3."""


def _worker(lifeline: Lifeline) -> int:
    """Loads the platform while the supervisor still prepares what it needs.

    Without garbage collection in between that is a tenth faster, and what is loaded now never is garbage.
    """
    gc.disable()
    from city_hall import worker
    from city_hall.app import create_app, websocket_protocol

    gc.freeze()
    gc.set_threshold(*GENERATIONS)
    gc.enable()
    return worker.work(lifeline, create_app, websocket_protocol)


def _guides(lifeline: Lifeline) -> None:
    """The demo agents know nothing of a supervisor: their own program, in a process that ends with it."""
    lifeline.briefing()
    lifeline.ready()
    sys.argv[1:] = []
    runpy.run_module("city_guides", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
