"""Log lines: one record a line, as text or as JSON, with RFC 3339 times and without anybody's secrets.

Every line passes `redacted` as its last step, so that a token cannot slip out through an argument, a driver's
message or a traceback. It is no audit trail and ships nothing anywhere: lines go to standard error.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, TextIO

from foundations.telemetry.traces import current_traceparent, trace_id_of

LogFormat = Literal["", "text", "json"]

_FIELDS = "event_fields"
_ACCESS = "uvicorn.access"
"""The logger that is named for HTTP requests, as where uvicorn itself tells of them."""
_encode = json.JSONEncoder(default=str, ensure_ascii=False).encode
_QUIET = ("asyncio", "httpcore", "httpcore2", "httpx", "httpx2", "mcp", "uvicorn.error")
"""Libraries that tell at ``info`` what is of interest only to somebody who debugs them."""


@dataclass(frozen=True, slots=True)
class _Secret:
    """What a kind of secret looks like. ``marks``, in small letters, are what a text without it does not have."""

    marks: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str


_SECRETS: tuple[_Secret, ...] = (
    _Secret(
        ("ses_", "svc_", "tkt_", "op_"),
        re.compile(r"(?<![A-Za-z0-9])(ses|svc|tkt|op)_[A-Za-z0-9_-]{8,}"), r"\1_…",
    ),
    _Secret(("eyj",), re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), "…"),
    _Secret(
        ("bearer", "basic"), re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), r"\1 …",
    ),
    _Secret(
        ("authorization", "_token", "password"),
        re.compile(r"""(?ix) (authorization | session_token | access_token | operator_token | password)
                       (\\?["'])? \s* ([:=]) \s* (b?\\?["'])?  (?!(?:bearer|basic)\s) [^\s"'&,;)}\\]+"""),
        r"\1\2\3\4…",
    ),
    _Secret(("://",), re.compile(r"(://[^\s/:@]*:)[^\s/@]+@"), r"\1…@"),
    _Secret(("?",), re.compile(r"(?<=[\w/.~-])\?[^\s\"'\\?=]{1,128}=[^\s\"'\\]*"), ""),
)  # fmt: skip
"""Our tokens, JWTs, credentials in headers, in assignments and in URLs, and at last every query string."""


_MARKS = tuple(mark for secret in _SECRETS for mark in secret.marks)
"""What a text has none of has no secret: that is known in 1 µs, where the patterns take 75."""


def redacted(text: str) -> str:
    """``text`` without tokens, passwords and query strings."""
    small = text.lower()
    for mark in _MARKS:
        if mark in small:
            return _replaced(text, small)
    return text


def _replaced(text: str, small: str) -> str:
    for secret in _SECRETS:
        if any(mark in small for mark in secret.marks):
            text = secret.pattern.sub(secret.replacement, text)
    return text


def log_event(
    logger: logging.Logger,
    event: str,
    /,
    *,
    level: int = logging.INFO,
    exc_info: BaseException | bool | None = None,
    **fields: object,
) -> None:
    """Logs that ``event`` happened, with its circumstances as fields."""
    if logger.isEnabledFor(level):
        logger.log(level, "%s", event, exc_info=exc_info, extra={_FIELDS: fields}, stacklevel=2)


def log_request(**fields: object) -> None:
    """Logs that an HTTP request was answered, in a third of the time: no record is made, and no filters are asked.

    By `log_event` it was a sixth of a publication over HTTP (case `publishing`).
    """
    root = logging.getLogger()
    if root.isEnabledFor(logging.INFO):
        for handler in root.handlers:
            if isinstance(handler, _CityHandler):
                handler.tell(logging.INFO, _ACCESS, "HTTP request", fields)


def configure_logging(
    log_format: LogFormat, level: str, instance_id: str, *, stream: TextIO | None = None
) -> logging.Handler:
    """Sends all logging to standard error, in the platform's format; a second call replaces the first one's.

    An empty format means text on a terminal, else JSON. uvicorn is to be started with ``log_config=None``
    and ``access_log=False``.
    """
    stream = stream or sys.stderr
    text = log_format == "text" or (not log_format and stream.isatty())
    handler = _CityHandler(stream, TextFormatter(instance_id) if text else JsonFormatter(instance_id))
    root = logging.getLogger()
    for earlier in [found for found in root.handlers if isinstance(found, _CityHandler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)
    logging.captureWarnings(True)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no line tells them
    return handler


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """What a line tells, whichever form it takes."""

    at: float
    level: str
    logger: str
    event: str
    fields: Mapping[str, object]
    traceback: str = ""


class _LineFormatter(logging.Formatter, ABC):
    """What both formats share: the time, the fields, and redaction as the last step."""

    def __init__(self, instance_id: str) -> None:
        super().__init__()
        self._instance_id = instance_id

    def format(self, record: logging.LogRecord) -> str:
        return self.written(
            _Line(
                at=record.created, level=record.levelname, logger=record.name, event=record.getMessage(),
                fields=getattr(record, _FIELDS, {}), traceback=_traceback(record),
            )
        )  # fmt: skip

    def written(self, line: _Line) -> str:
        """The line in this format, with its trace and without secrets."""
        fields = line.fields
        if (traceparent := current_traceparent.get()) and (trace_id := trace_id_of(traceparent)):
            fields = {**fields, "trace_id": trace_id}
        return redacted(self._text(line, fields))

    @abstractmethod
    def _text(self, line: _Line, fields: Mapping[str, object]) -> str:
        """The line in this format, not yet redacted."""


class JsonFormatter(_LineFormatter):
    """One JSON object a line: time, level, logger, event, instance_id, the fields, and a traceback."""

    def _text(self, line: _Line, fields: Mapping[str, object]) -> str:
        told: dict[str, object] = {
            "time": _rfc3339(line.at), "level": line.level.lower(), "logger": line.logger,
            "event": line.event, "instance_id": self._instance_id, **fields,
        }  # fmt: skip
        if line.traceback:
            told["traceback"] = line.traceback
        return _encode(told)


class TextFormatter(_LineFormatter):
    """For a person at a terminal: ``TIME LEVEL logger: event name=value``, a traceback indented below it."""

    def _text(self, line: _Line, fields: Mapping[str, object]) -> str:
        pairs = "".join(f" {name}={_shown(value)}" for name, value in fields.items())
        text = f"{_rfc3339(line.at)} {line.level:<7} {line.logger}: {_one_line(line.event)}{pairs}"
        return text + "".join(f"\n    {row}" for row in line.traceback.splitlines())


class _CityHandler(logging.StreamHandler[TextIO]):
    """The platform's own, to be found again."""

    def __init__(self, stream: TextIO, form: _LineFormatter) -> None:
        super().__init__(stream)
        self.setFormatter(form)
        self._form = form

    def tell(self, level: int, logger: str, event: str, fields: Mapping[str, object]) -> None:
        """Writes a line of which no record is made. Like a record's, it fails nobody where it cannot be written."""
        line = _Line(at=time.time(), level=logging.getLevelName(level), logger=logger, event=event, fields=fields)
        self.acquire()
        try:
            self.stream.write(self._form.written(line) + self.terminator)
            self.flush()
        except (OSError, ValueError):
            pass
        finally:
            self.release()


def _traceback(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    return "".join(traceback.format_exception(*record.exc_info)).rstrip()


def _rfc3339(seconds: float) -> str:
    whole, milliseconds = divmod(int(seconds * 1000 + 0.0005), 1000)  # a float of today is that exact
    return f"{_written_out(whole)}.{milliseconds:03d}Z"


@lru_cache(maxsize=2)
def _written_out(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _shown(value: object) -> str:
    text = str(value)
    return text if re.fullmatch(r"[\w.:/@~|+-]+", text) else json.dumps(text, ensure_ascii=False)
