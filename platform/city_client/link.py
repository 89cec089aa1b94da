"""One life of a socket, from its welcome to its close: frames in, frames out, and answers matched by ``id``.

A link never comes back; coming back is `client`. It deliberately keeps no state that outlives the socket.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Mapping
from contextlib import suppress
from math import inf
from time import monotonic

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from city_client.addresses import Address
from city_client.encodings import JSON, Encoding, Name, offered
from city_client.errors import Ended, LinkLost, Refused, Unreachable
from city_client.frames import Frame
from city_client.reconnecting import ABNORMAL, Backoff

LARGEST_FRAME = 32 * 1024 * 1024
"""Bytes: a message of the largest allowed size, its envelope, and room for a server that allows more."""
DONE, GOING = 1000, 4000
"""Our close codes: this client will not come back, or it may."""
CLOSE_SECONDS = 2.0
WRITE_LIMIT = 256 * 1024
"""Bytes that may wait in the socket before a sender waits too."""
FORBIDDEN_STATUS = frozenset({400, 401, 403, 426})
"""Answers to the handshake that trying again does not change."""

logger = logging.getLogger(__name__)


class Link:
    """A welcomed socket. One task reads it; any number may send."""

    def __init__(self, socket: ClientConnection, encoding: Encoding, welcome: Frame) -> None:
        self.welcome = welcome
        self._socket = socket
        self._encoding = encoding
        self._silence = 2 * welcome.heartbeat_seconds
        self._quiet_since = inf
        self._ids = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Frame]] = {}
        self._given_up: LinkLost | None = None
        self._lost: LinkLost | None = None
        self._gone = asyncio.Event()

    @classmethod
    async def open(cls, address: Address, *, encoding: Name = "json", resume: str = "", seconds: float = 10.0) -> Link:
        """Connects and waits for the welcome.

        Raises:
            Unreachable: nothing answers, or not in time, or not with this protocol.
            LinkLost: it was closed before the welcome; the code says why.
            Ended: the handshake was refused in a way that trying again does not change.
        """
        try:
            async with asyncio.timeout(seconds):
                encodings = offered(encoding)
                socket = await _connect(address, resume, encodings)
                agreed = next((each for each in encodings if each.subprotocol == socket.subprotocol), JSON)
                try:
                    return cls(socket, agreed, await _welcome(socket, agreed))
                except BaseException:
                    await _close(socket, GOING)
                    raise
        except InvalidStatus as error:
            status = error.response.status_code
            if status in FORBIDDEN_STATUS:
                raise Ended(status, "the handshake was refused with this HTTP status") from None
            raise Unreachable(f"{address.http} answers with HTTP {status}") from None
        except (OSError, InvalidHandshake) as error:  # TimeoutError is an OSError
            raise Unreachable(f"{address.http}: {str(error) or 'no answer in time'}") from None

    def next_id(self) -> str:
        """A frame id that this socket has not used yet."""
        return str(next(self._ids))

    async def send(self, frame: Mapping[str, object]) -> None:
        """Sends a frame, waiting while the socket is full.

        Raises:
            LinkLost: the socket is gone.
            Refused: ``too_large``, without sending it.
        """
        data = self._encoding.write(frame)
        if len(data) > self.welcome.max_message_bytes:
            raise Refused("too_large", f"{len(data)} bytes, of {self.welcome.max_message_bytes} allowed")
        try:
            await self._socket.send(data, text=self._encoding.is_text)
        except ConnectionClosed as closed:
            raise _lost(closed) from None

    async def request(self, frame: Mapping[str, object], frame_id: str = "") -> Frame:
        """Sends a frame and returns its acknowledgement.

        Raises:
            Refused: an ``error`` answered it.
            LinkLost: the socket is gone; whether the frame arrived is not known.
        """
        frame_id = frame_id or self.next_id()
        if self._lost is not None:
            raise self._lost
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._waiting[frame_id] = answer
        try:
            await self.send({**frame, "id": frame_id})
            return await answer
        finally:
            self._waiting.pop(frame_id, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen, also where the caller was cancelled and does not look

    async def insist(self, frame: Mapping[str, object]) -> Frame:
        """Requests, and repeats what the platform cannot do right now; the caller sets the deadline."""
        backoff = Backoff()
        while True:
            try:
                return await self.request(frame)
            except Refused as refused:
                if not refused.retryable:
                    raise
                await asyncio.sleep(max(backoff.next(), refused.retry_after or 0.0))

    def settle(self, frame: Frame) -> bool:
        """Hands an ``ack`` or ``error`` to the request it answers; ``False`` if none waits for it.

        ``held`` is not final: the message is safe only with the acknowledgement that follows.
        """
        answer = self._waiting.get(frame.id)
        if answer is None or answer.done():
            return False
        if frame.type == "error":
            answer.set_exception(refusal(frame))
        elif frame.status != "held":
            answer.set_result(frame)
        return True

    async def receive(self) -> tuple[Frame, bytes]:
        """The next frame, and the bytes it came in; what cannot be read is passed over.

        Raises:
            LinkLost: the socket is gone.
        """
        while True:
            self._quiet_since = monotonic()
            try:
                data = await self._socket.recv(decode=False)
            except ConnectionClosed as closed:
                raise self._given_up or _lost(closed) from None
            self._quiet_since = inf
            try:
                return self._encoding.read(data), data
            except ValueError as error:
                logger.warning("passed over a frame that cannot be read: %s", error)

    async def watch(self) -> None:
        """Watches for silence, beside `receive`: a time-out around each frame would cost a quarter of it.

        Raises:
            LinkLost: nothing was heard for two heartbeats, although `receive` was ready to.
        """
        while True:
            await asyncio.sleep(self._silence / 4)
            if monotonic() - self._quiet_since > self._silence:
                raise LinkLost(ABNORMAL, f"nothing was heard for {self._silence:g} s")

    async def give_up(self, why: LinkLost) -> None:
        """Closes a socket that is of no use; `receive` then raises ``why``."""
        self._given_up = self._given_up or why
        await self.close()

    def lose(self, lost: LinkLost) -> None:
        """Tells everyone who waits on this socket that it is gone."""
        self._lost = lost
        self._gone.set()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(lost)

    async def gone(self) -> None:
        """Waits until the socket is known to be gone."""
        await self._gone.wait()

    async def close(self, code: int = GOING) -> None:
        """Closes the socket, waiting a little for the other side; only 1000 says that this client is done."""
        await _close(self._socket, code)


def refusal(frame: Frame) -> Refused:
    """An ``error`` frame as the exception it means."""
    code, after = frame.code or "internal", frame.retry_after
    return Refused(code, frame.sentence, retryable=frame.retryable, retry_after=after)


async def _connect(address: Address, resume: str, encodings: list[Encoding]) -> ClientConnection:
    return await connect(
        address.socket(resume),
        subprotocols=[Subprotocol(encoding.subprotocol) for encoding in encodings],
        additional_headers={"Authorization": f"Bearer {address.token}"},
        compression=None,
        max_size=LARGEST_FRAME,
        ping_interval=None,  # the server pings, and `receive` watches for silence
        open_timeout=None,
        close_timeout=CLOSE_SECONDS,
        write_limit=WRITE_LIMIT,
        logger=_silent_logger(),
    )


def _silent_logger() -> logging.Logger:
    """A logger whose debug level is never on: there, websockets would print the handshake with its token."""
    silent = logging.getLogger(f"{__name__}.socket")
    silent.setLevel(logging.INFO)
    return silent


async def _welcome(socket: ClientConnection, encoding: Encoding) -> Frame:
    try:
        frame = encoding.read(await socket.recv(decode=False))
    except ConnectionClosed as closed:
        raise _lost(closed) from None
    except ValueError as error:
        raise Unreachable(f"this is not the platform's protocol: {error}") from None
    if frame.type != "system" or frame.event != "welcome":
        raise Unreachable(f"the first frame was {frame.type!r} instead of a welcome")
    return frame


async def _close(socket: ClientConnection, code: int) -> None:
    with suppress(ConnectionClosed):
        await socket.close(code)


def _lost(closed: ConnectionClosed) -> LinkLost:
    received = closed.rcvd
    return LinkLost(received.code, received.reason) if received else LinkLost(ABNORMAL, str(closed))
