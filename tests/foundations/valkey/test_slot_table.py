"""The table of slots: who asks for one that moves waits for those before, and keeps the order."""

from __future__ import annotations

import asyncio

import pytest

from foundations.errors import Unavailable
from foundations.valkey.address import Address, Endpoint
from foundations.valkey.line import Figures
from foundations.valkey.slot_table import Node, SlotTable
from tests.support.speaking import speaking
from tests.support.waiting import until

pytestmark = pytest.mark.on_both_loops

GREETING = b"%1\r\n$5\r\nproto\r\n:3\r\n+PONG\r\n"
SLOT = 5


class Former:
    """A node that greets, and answers the one command that it gets once it is told to."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        await self.answers.wait()
        writer.write(b"+OK\r\n")
        await reader.read()


async def moved_while_asked(table: SlotTable, port: int) -> tuple[Node, asyncio.Task[object]]:
    """Gives the slot to another node while its former one owes a reply."""
    former = table.node(Endpoint("127.0.0.1", port))
    table.hand_over({SLOT: former})
    asked = asyncio.create_task(former.pipe.ask(("ECHO", "x")))
    await until(lambda: bool(former.unanswered()), "asked")
    table.hand_over({SLOT: table.node(Endpoint("127.0.0.1", 1))})
    return former, asked


async def test_who_comes_when_the_last_reply_does_overtakes_nobody() -> None:
    former = Former()
    async with speaking(former.serve) as port:
        table = SlotTable(Address.read(f"redis://127.0.0.1:{port}/?cluster=true"), seconds=5, figures=Figures())
        node, before = await moved_while_asked(table, port)
        order: list[int] = []

        async def ask(number: int) -> None:
            if not table.is_settled(SLOT):
                await table.settled(SLOT, asyncio.get_running_loop().time() + 5)
            order.append(number)

        asking: list[asyncio.Task[None]] = []
        while not (before.done() and len(order) > 20):
            asking.append(asyncio.create_task(ask(len(asking))))
            if len(asking) == 10:
                former.answers.set()
            await asyncio.sleep(0)  # one more comes in each turn
        await asyncio.gather(*asking)
        assert order == list(range(len(asking)))
        assert table.is_settled(SLOT)
        await node.close()


async def test_a_former_node_that_does_not_answer_is_not_waited_for_longer_than_a_deadline() -> None:
    former = Former()
    async with speaking(former.serve) as port:
        table = SlotTable(Address.read(f"redis://127.0.0.1:{port}/?cluster=true"), seconds=5, figures=Figures())
        node, before = await moved_while_asked(table, port)
        with pytest.raises(Unavailable, match="former node"):
            await table.settled(SLOT, asyncio.get_running_loop().time() + 0.05)
        assert not table.is_settled(SLOT)
        former.answers.set()
        assert await before == b"OK"
        await until(lambda: table.is_settled(SLOT), "nobody is waited for")
        await node.close()
