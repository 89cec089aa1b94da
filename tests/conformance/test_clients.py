"""The Python client is held against the scenarios for clients in both encodings, the runner against bad clients."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from smart_city.post_office.gateway.messages import CLIENT_FRAMES
from tests.conformance import client_frames, clients
from tests.conformance.encodings import SUBPROTOCOLS
from tests.conformance.scenarios import scenarios

PYTHON_CLIENT = (sys.executable, "-m", "tests.conformance.python_driver")
FIRST = next(scenarios("client"))


@pytest.mark.parametrize("encoding", SUBPROTOCOLS)
async def test_the_python_client_keeps_to_the_protocol(encoding: str) -> None:
    held = [outcome async for outcome in clients.hold_all(PYTHON_CLIENT, scenarios("client", (encoding,)))]
    assert held
    assert not [str(outcome) for outcome in held if outcome.why]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("", "ended"),
        ("print('hello')", "JSON"),
        ('print(\'{"told": "ready", "can": []}\', flush=True); input(); input()', "did not connect"),
        ('print(\'{"told": "ready", "can": []}\', flush=True)', ""),
    ],
)
async def test_a_client_that_does_not_do_what_it_is_told_fails(
    program: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(clients, "RETURN_SECONDS", 0.2)
    script = tmp_path / "driver.py"
    script.write_text(program)
    outcome = await clients.hold((sys.executable, str(script)), FIRST)
    assert outcome.why
    assert said in outcome.why


@pytest.mark.parametrize("kind", CLIENT_FRAMES)
def test_the_table_of_the_clients_frames_is_that_of_the_server(kind: str) -> None:
    needed, allowed = (set(names.split()) for names in client_frames.FIELDS[kind])
    fields = msgspec.structs.fields(CLIENT_FRAMES[kind])
    assert {field.name for field in fields if field.required} == needed
    assert {field.name for field in fields if not field.required} == allowed | {"type", "id"}
    assert client_frames.FIELDS.keys() == CLIENT_FRAMES.keys()
