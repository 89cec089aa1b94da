"""``smart-city serve`` over `tiny_city` and `tiny_guides`: the whole supervisor, and nothing below it.

To be run with ``-P``: modules beside it are named like packages that it needs.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from city_hall.refusals import StopFailed, refusal_of
from city_hall.supervisor import Opened, Plan, Supervisor
from foundations.settings import Settings
from foundations.telemetry import configure_logging

HERE = Path(__file__).parent


def announce(opened: Opened) -> None:
    print(f"open at {opened.url} after {opened.seconds:.2f} s", flush=True)  # noqa: T201


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--valkey-port", type=int, default=0)
    parser.add_argument("--demo", action="store_true")
    asked = parser.parse_args()

    def settings() -> Settings:
        configure_logging("text", "info", "supervisor")
        return Settings.read()

    plan = Plan(
        workers=asked.workers, valkey_port=asked.valkey_port, has_demo=asked.demo,
        worker=(sys.executable, "-P", str(HERE / "tiny_city.py")),
        guides=(sys.executable, "-P", str(HERE / "tiny_guides.py")),
    )  # fmt: skip
    try:
        asyncio.run(Supervisor(plan, settings, announce).run())
    except StopFailed as failed:
        print(f"stopped: {failed}", flush=True)  # noqa: T201
        return 1
    except Exception as error:
        refusal = refusal_of(error)
        if refusal is None:
            raise
        print(f"refused: {refusal}", flush=True)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
