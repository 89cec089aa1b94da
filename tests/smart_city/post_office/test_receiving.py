"""Receiving by a tool: what a caller took and never saw is somebody else's at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from foundations.supervision import Tasks
from foundations.telemetry import Traces
from foundations.valkey.client import Valkey
from smart_city.post_office.channels import Channels
from smart_city.post_office.consumers import Consumers
from smart_city.post_office.gateway.draining import Drain
from smart_city.post_office.gateway.hub import Hub
from smart_city.post_office.inbox import Delivery
from smart_city.post_office.operations import Agents
from smart_city.vocabulary import Identity
from tests.support.offices import Office, an_office, attached

CALLER = Identity(kind="service", subject="~tools", credential="t1", scopes=frozenset({"post_office.consume"}))


class LeavingAsItGets:
    """The real dispatcher, for a call whose client is gone in the moment in which it is given something."""

    def __init__(self, office: Office) -> None:
        self._dispatcher = office.dispatcher
        self.call: asyncio.Task[Any] | None = None
        self.given: list[Delivery] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dispatcher, name)

    def attach(self, channel: str, taker: Any, **how: Any) -> None:
        deliver = taker.deliver

        def deliver_and_leave(delivery: Delivery) -> None:
            deliver(delivery)
            self.given.append(delivery)
            assert self.call is not None
            self.call.cancel()

        taker.deliver = deliver_and_leave
        self._dispatcher.attach(channel, taker, **how)


async def test_what_was_taken_for_a_call_that_was_given_up_goes_back(valkey: Valkey, tasks: Tasks) -> None:
    async with an_office(valkey, tasks) as office:
        dispatcher: Any = LeavingAsItGets(office)
        agents = Agents(
            consumers=Consumers(valkey), log=office.log, answers=office.answers, dispatcher=dispatcher,
            hub=Hub(office.log, office.subscriptions, tasks, office.counters, Traces()), channels=Channels(()),
            draining=Drain(1),
        )  # fmt: skip
        made = await agents.subscribe_to_channel(CALLER, "guide", "inbox")
        dispatcher.call = asyncio.create_task(
            agents.receive_messages(CALLER, made.consumer, wait_ms=20_000, lease_seconds=600)
        )
        await office.ask("Who is there?")
        with pytest.raises(asyncio.CancelledError):
            await dispatcher.call
        assert len(dispatcher.given) == 1
        again = await attached(office).next()
        assert again.message_id == dispatcher.given[0].message_id
