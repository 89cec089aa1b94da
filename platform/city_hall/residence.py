"""Living in a data dir: the hold on it, the Valkey that runs there, and the operator's token.

Several ``serve`` may live in one data dir and share its Valkey; whoever is the last to leave stops it. One
that is killed leaves Valkey running, and the next to move in takes it over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from city_hall.data_dir import DataDir
from city_hall.refusals import StartRefused
from foundations.supervision import Tasks
from foundations.valkey import EmbeddedServer

BREATH_SECONDS = 0.5
"""Between two starts, should it die again and again."""

_log = logging.getLogger("smart_city.supervisor")


class Residence:
    """One resident's hold on a data dir. Made by `move_in`."""

    def __init__(self, data_dir: DataDir, valkey: EmbeddedServer, valkey_port: int, token: str) -> None:
        self.operator_token = token
        self._data_dir = data_dir
        self._valkey = valkey
        self._valkey_port = valkey_port
        self._tasks = Tasks("residence")

    @classmethod
    async def move_in(cls, path: Path, *, valkey_port: int = 0, token: str = "") -> Residence:
        """Starts Valkey, or takes over the one that lives there; ``token`` is the operator's, if one is set.

        Raises:
            StartRefused: the data dir cannot be used, or is locked, or keeps another token.
            NoServer, ServerFailed, ServerHung, UnusableDataDir: what is wrong with Valkey.
        """
        data_dir = DataDir(path)
        async with data_dir.door():
            token = data_dir.operator_token(token)
            await data_dir.move_in()
            try:
                valkey = await EmbeddedServer.start_or_adopt(data_dir.path, port=valkey_port)
            except BaseException:
                data_dir.move_out()
                raise
        return cls(data_dir, valkey, valkey_port, token)

    @property
    def valkey_url(self) -> str:
        return self._valkey.url

    def watch(self, on_moved: Callable[[], None]) -> None:
        """From now on a Valkey that dies is started again; ``on_moved`` when its URL is another one then."""

        async def look() -> None:
            while True:
                await self._valkey.ended()
                if await self._revive():
                    on_moved()
                await asyncio.sleep(BREATH_SECONDS)

        self._tasks.start("Valkey", look)

    async def move_out(self) -> None:
        """Gives up the hold; the last one stops Valkey."""
        await self._tasks.close()
        try:
            async with self._data_dir.door():
                if self._data_dir.move_out():
                    await self._valkey.stop()
        except StartRefused as locked:
            _log.error("Valkey is left running, for the next start to take over. %s", locked)

    async def _revive(self) -> bool:
        """Starts Valkey on what it has stored, unless another resident did; whether its URL changed."""
        _log.error("Valkey has died; starting it again on what it has stored")
        before = self._valkey.url
        async with self._data_dir.door():
            self._valkey = await EmbeddedServer.start_or_adopt(self._data_dir.path, port=self._valkey_port)
        return self._valkey.url != before
