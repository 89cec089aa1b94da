"""An answer in parts, told as the post office tells it: its start in the log, its parts beside it and on the bus."""

from __future__ import annotations

import json
from typing import Any

from smart_city.post_office.answers import frames
from smart_city.post_office.answers.frames import About
from smart_city.post_office.answers.open_answers import OpenAnswers, Part
from smart_city.post_office.envelopes import new_message_id
from smart_city.post_office.log import Entry
from tests.support.hubs import Instance

ABOUT = About("guide", "guide", "question", "")


class Telling:
    """One open answer on a log; part N says ``N;``, and so does the start, which is part 0."""

    def __init__(self, instance: Instance, log: str) -> None:
        self.message_id = new_message_id()
        self.newest = 0
        self._instance = instance
        self._log = log
        self._open = OpenAnswers(instance.valkey, instance.tasks, most_bytes=1_000_000)

    async def start(self) -> None:
        frame = frames.start(ABOUT, self._log, self.message_id, b'{"message":"0;"}')
        await self._instance.log.append_now(self._log, Entry(frame, self.message_id))
        head = frames.snapshot_head(ABOUT, self._log, self.message_id)
        await self._open.open(self._log, self.message_id, head, b"0;", is_hidden=False)

    async def go_on(self, parts: int = 1) -> None:
        for _ in range(parts):
            self.newest += 1
            head = frames.delta_head(ABOUT, self._log, self.message_id)
            await self._open.append(self._log, self.message_id, Part(self.newest, head, b"%d;" % self.newest))

    async def end(self) -> None:
        await self._open.forget(self._log, self.message_id)
        frame = frames.whole(ABOUT, self._log, self.message_id, b"{}", is_end=True)
        await self._instance.log.append_now(self._log, Entry(frame, self.message_id))

    def heard_in(self, frames: list[dict[str, Any]]) -> list[int | str]:
        """What these frames say of this answer: parts by number, snapshots as ``..N``, its start and its end."""
        found: list[int | str] = []
        for frame in frames:
            if frame.get("message_id") != self.message_id:
                continue
            if frame["stream"] != "delta":
                found.append(frame["stream"])
            else:
                text = "".join(f"{part};" for part in range(frame["part"] + 1))
                own = f"{frame['part']};"
                assert frame["payload"]["message"] == (text if frame.get("snapshot") else own), json.dumps(frame)
                found.append(f"..{frame['part']}" if frame.get("snapshot") else frame["part"])
        return found
