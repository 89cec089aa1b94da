"""Replies that come once replicas have what was written: each turn's commands leave with one WAIT behind them.

WAIT blocks its connection and speaks of what that connection has written, so this is a connection of its own, on which
one batch is under way at a time: what comes meanwhile gathers and shares the next WAIT. It deliberately knows nothing
of what is written, and takes nothing back: where replicas are missing, the primary has it all the same.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import hiredis

from foundations.valkey.line import Figures, Line
from foundations.valkey.refusals import NOT_COPIED
from foundations.valkey.wire import Reply, packed

_log = logging.getLogger("smart_city.valkey.replicas")


@dataclass(frozen=True, slots=True)
class Copies:
    """On how many replicas a write must be before it is answered, and how long one WAIT waits for them."""

    replicas: int
    seconds: float


class CopiedLine(Line):
    """A connection on which a reply means that so many replicas have what it tells of.

    With fewer of them in time, the reply is a refusal, `NOT_COPIED`: it was written, and may be lost with its server.
    Whoever asks again must write again, be it the same, for WAIT counts by the last write of its own connection.
    """

    def __init__(self, figures: Figures, copies: Copies) -> None:
        super().__init__(figures)
        self._replicas = copies.replicas
        self._wait = packed(("WAIT", copies.replicas, round(copies.seconds * 1000)))
        self._under_way = 0
        self._replies: list[Reply] = []
        self._is_short = False

    def _send(self) -> None:
        if self._under_way:
            return  # it goes when the batch under way has come back
        commands, self._unsent = self._unsent, []
        self._under_way = len(commands)
        self._wire.write(b"".join((*commands, self._wait)))

    def _received(self, reply: Reply) -> None:
        if isinstance(reply, hiredis.PushNotification):
            return
        if len(self._replies) < self._under_way:
            self._replies.append(reply)
            return
        replies, self._replies, self._under_way = self._replies, [], 0
        refusal = self._refusal(reply)
        for each in replies:
            super()._received(each if refusal is None or isinstance(each, hiredis.ReplyError) else refusal)
        if self._unsent:
            self._send()

    def _refusal(self, waited: Reply) -> hiredis.ReplyError | None:
        """What stands for the batch's replies when too few replicas have it."""
        is_short = not isinstance(waited, int) or waited < self._replicas
        if is_short and not self._is_short:
            _log.warning("too few replicas have what is written: %s of %d", waited, self._replicas)
        elif self._is_short and not is_short:
            _log.info("enough replicas have what is written again")
        self._is_short = is_short
        if not is_short:
            return None
        return hiredis.ReplyError(f"{NOT_COPIED} Valkey has it, but {waited} of {self._replicas} replicas")
