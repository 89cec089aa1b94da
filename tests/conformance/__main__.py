"""The command: ``python -m tests.conformance server …`` or ``… client …``; the README teaches it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Sequence

from tests.conformance.clients import hold_all
from tests.conformance.encodings import SUBPROTOCOLS
from tests.conformance.scenarios import Outcome, Scenario, Side, scenarios
from tests.conformance.servers import Target, hold

EXAMPLES = """examples:
  python -m tests.conformance server --url http://127.0.0.1:8000 --token "$(cat .smart-city/operator-token)"
  python -m tests.conformance client -- node my_driver.js
  python -m tests.conformance client --encoding msgpack --only recovers -- python -m tests.conformance.python_driver
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the scenarios; 0 if none failed, 1 if one did, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    encodings = tuple(SUBPROTOCOLS) if options.encoding == "both" else (options.encoding,)
    chosen = [one for one in scenarios(options.side, encodings) if options.only in one.path.stem]
    if not chosen:
        sys.stderr.write(f"no scenario has {options.only!r} in its name\n")
        return 2
    return asyncio.run(_run(options, chosen))


async def _run(options: argparse.Namespace, chosen: list[Scenario]) -> int:
    outcomes = []
    async for outcome in _outcomes(options, chosen):
        sys.stdout.write(f"{outcome}\n")
        sys.stdout.flush()
        outcomes.append(outcome)
    failed = sum(bool(outcome.why) and not outcome.is_skipped for outcome in outcomes)
    skipped = sum(outcome.is_skipped for outcome in outcomes)
    sys.stdout.write(f"{len(outcomes) - failed - skipped} passed, {failed} failed, {skipped} skipped\n")
    return 1 if failed else 0


async def _outcomes(options: argparse.Namespace, chosen: list[Scenario]) -> AsyncIterator[Outcome]:
    side: Side = options.side
    if side == "client":
        async for outcome in hold_all(options.command, chosen):
            yield outcome
        return
    async with Target.at(options.url, options.token, options.channel, options.other) as target:
        for scenario in chosen:
            yield await hold(target, scenario)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Holds a server or a client of the protocol against the scenarios in tests/conformance.",
    )  # fmt: skip
    sides = parser.add_subparsers(dest="side", required=True)
    server = sides.add_parser("server", help="a running server")
    server.add_argument("--url", required=True, help="its address, as http://HOST:PORT")
    server.add_argument("--token", required=True, help="the operator's, with which sessions and services are made")
    server.add_argument("--channel", default="guide", help="an agent channel where no agent is (default: guide)")
    server.add_argument("--other", default="pillar:content", help="a second one (default: pillar:content)")
    client = sides.add_parser("client", help="a client, through a driver")
    client.add_argument("command", nargs="+", help="the driver's command", metavar="COMMAND")
    for side in (server, client):
        side.add_argument("--encoding", choices=(*SUBPROTOCOLS, "both"), default="both")
        side.add_argument("--only", default="", help="only scenarios with this in their name")
    return parser


if __name__ == "__main__":
    sys.exit(main())
