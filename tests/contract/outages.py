"""Valkey away and back, killed or hung, and what is said of words that are held meanwhile. It expects nothing else."""

from __future__ import annotations

from tests.contract.shapes import has_only
from tests.support.valkey import ValkeyServer
from tests.support.wire_client import Frame, WireClient

RETURN_SECONDS = 20.0


class Outage:
    """Valkey away, and back."""

    def __init__(self, store: ValkeyServer, how: str) -> None:
        self._store, self._how = store, how

    def begin(self) -> None:
        self._store.kill() if self._how == "killed" else self._store.hang()

    def end(self) -> None:
        self._store.start() if self._how == "killed" else self._store.resume()


async def held(client: WireClient, **frame: object) -> Frame:
    """Sends what is to be held; its first ack."""
    ack = await client.ask(**frame)
    assert (ack["type"], ack.get("status")) == ("ack", "held"), ack
    has_only(ack, {"type", "id", "channel", "status", "message_id"}, {"duplicate"})
    return ack


async def final(client: WireClient, first: Frame, status: str) -> Frame:
    """The ack that follows a held one, under the same id."""
    ack = await client.until(lambda f: f["type"] in {"ack", "error"} and f.get("id") == first["id"], RETURN_SECONDS)
    assert (ack["type"], ack.get("status"), ack["message_id"]) == ("ack", status, first["message_id"]), ack
    return ack
