"""A small language model's server: OpenAI's streaming chat completions over real HTTP, and what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

NAME, KEY = "parrot-1", "sk-parrot"


class ModelServer:
    """It answers each question with its own words, a piece at a time; `status` makes it refuse instead."""

    def __init__(self) -> None:
        self.asked: list[list[dict[str, str]]] = []
        self.status: list[int] = []
        """With what the next requests are refused."""
        self.pieces: list[str] | None = None
        """What it writes, if not what it was asked."""
        self.hold = asyncio.Event()
        """Set while it may write more than its first piece."""
        self.hold.set()
        self.left = asyncio.Event()
        """Set when somebody has left before it was done."""
        self.app = Starlette(routes=[Route("/v1/chat/completions", self._complete, methods=["POST"])])

    async def _complete(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"error": {"message": "Incorrect API key provided"}}, 401)
        wanted: dict[str, Any] = await request.json()
        if wanted.get("model") != NAME:
            return JSONResponse({"error": {"message": "The model does not exist"}}, 404)
        assert wanted["stream"] is True
        self.asked.append(wanted["messages"])
        if self.status:
            return JSONResponse({"error": {"message": "Try again later"}}, self.status.pop(0))
        text = f"{len(wanted['messages'])} messages, at last: {wanted['messages'][-1]['content']}"
        pieces = self.pieces if self.pieces is not None else [f"{word} " for word in text.split(" ")]
        return StreamingResponse(self._stream(pieces), media_type="text/event-stream")

    async def _stream(self, pieces: list[str]) -> AsyncIterator[str]:
        try:
            yield _chunk({"role": "assistant", "content": ""})
            for number, piece in enumerate(pieces):
                if number:
                    await self.hold.wait()
                yield _chunk({"content": piece})
            yield _chunk({}, finish="stop")
            yield 'data: {"id": "c1", "object": "chat.completion.chunk", "choices": [], "usage": {}}\n\n'
            yield "data: [DONE]\n\n"
        except (asyncio.CancelledError, GeneratorExit):
            self.left.set()
            raise


def _chunk(delta: dict[str, str], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "model": NAME, "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n"
