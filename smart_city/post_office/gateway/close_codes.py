"""The codes with which a WebSocket of this platform is closed, and what each means to its client.

Codes that an error closes with are the error's own (`foundations.errors`); here all are named in one place.
"""

from __future__ import annotations

from collections.abc import Mapping

from websockets.frames import CloseCode

SILENT = 4008
TOO_SLOW = 4009
TAKEN_OVER = 4010
TOO_MANY = 4029
OVER = 4501
FOREIGN = 4503

CLOSE_CODES: Mapping[int, str] = {
    CloseCode.NORMAL_CLOSURE: "done, or disconnected by an operator",
    CloseCode.PROTOCOL_ERROR: "the WebSocket protocol was broken",
    CloseCode.UNSUPPORTED_DATA: "a frame in the other encoding than the one agreed on",
    CloseCode.INVALID_DATA: "text that is not UTF-8",
    CloseCode.POLICY_VIOLATION: "not a WebSocket of this platform (another path)",
    CloseCode.MESSAGE_TOO_BIG: "a message above max_message_bytes",
    CloseCode.INTERNAL_ERROR: "a defect of ours; the instance's log has it",
    CloseCode.SERVICE_RESTART: "this instance is draining: reconnect now",
    CloseCode.TRY_AGAIN_LATER: "at capacity, or the store is away; the reason begins with retry_after=SECONDS",
    SILENT: "two heartbeats without an answer",
    TOO_SLOW: "this reader was behind and took nothing for ten seconds; come back and recover",
    TAKEN_OVER: "another socket took over this connection id: come back without resume",
    TOO_MANY: "this user has as many connections as one may have",
    OVER: "the session is missing, unknown, expired or revoked",
    FOREIGN: "the origin is not allowed",
}

REVOKED = OVER, "the session or token was revoked"
OVERTAKEN = TAKEN_OVER, "another socket took over this connection; come back without resume"
DRAINING = CloseCode.SERVICE_RESTART, "this instance is draining; reconnect now"

WITHOUT_A_FRAME = frozenset((CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD, CloseCode.ABNORMAL_CLOSURE))
"""What else the ends of connections are counted as: a page was left, no code was said, nothing was said at all."""


def is_final(code: int) -> bool:
    """Whether a client must not come back."""
    return code == CloseCode.NORMAL_CLOSURE or 4500 <= code < 5000
