"""The Python client under test: does what the runner says on its standard input, and tells what it got.

An example for drivers in other languages, too: it adds nothing to the client that it drives.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any, Literal

from city_client import Answer, AnswerFailed, CityClient, ClientError, Ended, Question, Refused, Subscription
from city_client.events import Connected, Event
from tests.conformance.encodings import with_bytes, without_bytes

CAN = ["ask", "consume", "stop", "refresh", "bytes", "msgpack"]


def tell(told: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps(without_bytes({"told": told, **fields})) + "\n")
    sys.stdout.flush()


class Driver:
    """One client, and what it has under way."""

    def __init__(self, url: str, token: str, encoding: Literal["json", "msgpack"]) -> None:
        self.client = CityClient(url, token=token, encoding=encoding, on_event=self._event, connect_seconds=None)
        self._is_open = False
        self._readers: dict[str, Subscription] = {}
        self._questions: dict[str, Question] = {}
        self._asked: dict[str, Answer] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _event(self, event: Event) -> None:
        if isinstance(event, Connected) and not self._is_open:
            self._is_open = True
            tell("opened")

    async def watch(self) -> None:
        """Tells when the platform has ended the connection for good."""
        try:
            await self.client.wait_closed()
        except Ended as ended:
            tell("ended", code=ended.code)

    async def do(self, do: str, name: str, arguments: dict[str, Any]) -> None:
        """Carries out one instruction."""
        try:
            if do == "ask":
                arguments["name"] = name
            result = await getattr(self, do)(**arguments)
        except Refused as refused:
            tell("refused", code=refused.code, **{"as": name})
        except AnswerFailed as failed:
            tell("refused", code=failed.code, **{"as": name})
        except ClientError as error:
            tell("refused", code="ended" if isinstance(error, Ended) else "unconfirmed", **{"as": name})
        else:
            if name:
                tell("done", **{"as": name}, **(result or {}))

    async def subscribe(self, channel: str, since: str | None = None) -> None:
        reader = self._readers[channel] = await self.client.subscribe(channel, since=since)
        self.spawn(self._read(reader, channel))

    async def _read(self, reader: Subscription, channel: str) -> None:
        try:
            async for publication in reader:
                if publication.gap:
                    tell("gap", channel=channel, reason=publication.gap.reason)
                tell(
                    "publication", channel=channel, offset=publication.offset, epoch=publication.epoch,
                    payload=publication.payload,
                )  # fmt: skip
        except Refused as refused:
            tell("unsubscribed", channel=channel, code=refused.code)
        except Ended:
            pass  # `watch` tells

    async def unsubscribe(self, channel: str) -> None:
        await self._readers.pop(channel).close()

    async def publish(self, channel: str, payload: dict[str, Any]) -> dict[str, Any]:
        done = await self.client.publish(channel, payload)
        return {"offset": done.offset, "epoch": done.epoch, "message_id": done.message_id, "duplicate": done.duplicate}

    async def send(self, channel: str, payload: dict[str, Any]) -> dict[str, Any]:
        return {"message_id": (await self.client.send(channel, payload)).message_id}

    async def ask(self, channel: str, payload: dict[str, Any], name: str) -> dict[str, Any]:
        self._asked[name] = self.client.ask(channel, payload)
        reply = await self._asked[name]
        return {"text": reply.text, "payload": reply.payload}

    async def stop(self, question: str) -> None:
        await self._asked[question].stop()

    async def consume(self, channel: str) -> None:
        async def handle(question: Question) -> None:
            self._questions[question.message_id] = question
            tell("delivery", message_id=question.message_id, payload=question.payload, attempt=question.attempt)
            try:
                await asyncio.Event().wait()  # until it is answered, stopped, or dropped with its link
            finally:
                if question.delivery.is_stopped:
                    tell("stopped", message_id=question.message_id)

        self.client.consume(channel, handle)

    async def reply(self, message_id: str, payload: dict[str, Any]) -> None:
        await self._questions.pop(message_id).delivery.reply(payload)

    async def refresh(self, token: str) -> None:
        await self.client.refresh(token)


async def lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=64 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def main() -> None:
    source = await lines()
    tell("ready", can=CAN)
    opening = json.loads(await source.readline())
    driver = Driver(opening["url"], opening["token"], opening["encoding"])
    async with driver.client:
        driver.spawn(driver.watch())
        while line := await source.readline():
            instruction = with_bytes(json.loads(line))
            do, name = instruction.pop("do"), instruction.pop("as", "")
            if do == "close":
                break
            driver.spawn(driver.do(do, name, instruction))
    tell("closed")


if __name__ == "__main__":
    asyncio.run(main())
