"""The platform's settings: read once from the environment, frozen, each one documented by its field.

It reads variables with the prefix ``SMART_CITY_`` (and plain ``INSTANCE_ID``); it deliberately reads no file
and knows no service: whoever needs a setting is handed the value.
"""

from __future__ import annotations

import re
import resource
import socket
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from foundations.proxies import TrustedProxies
from foundations.rates import Rate

PREFIX = "SMART_CITY_"
CLIENT_VARIABLES = frozenset({"SMART_CITY_URL", "SMART_CITY_TOKEN"})
"""What clients of a running platform read."""
TEST_PREFIX = "SMART_CITY_TEST_"
RESERVED_FILES = 512
"""File descriptors kept free for everything that is not a client's socket."""

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s,]+")
_ADDRESS = re.compile(r"https?://[^/?#@\s]+(/[^?#\s]*)?")

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[int, Field(ge=1024)]
Share = Annotated[float, Field(gt=0, le=1)]
Words = Annotated[tuple[str, ...], NoDecode]
"""Several words in one variable, separated by commas."""


class WrongSetting(ValueError):
    """A variable whose value cannot be used; the text names variable, value and what is allowed."""


class Settings(BaseSettings):
    """Everything that can be set. Sizes are in bytes, durations in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True
    )

    # Where things are
    valkey_url: str = "embedded"
    valkey_key_prefix: Annotated[str, Field(pattern=r"^[^{}]*$")] = ""
    data_dir: Path = Path(".smart-city")
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    instance_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,120}$")] = Field(
        "", validation_alias=AliasChoices("SMART_CITY_INSTANCE_ID", "INSTANCE_ID")
    )
    public_url: str = ""
    operator_token: SecretStr = SecretStr("")

    # Who may come in
    allowed_origins: Words = ()
    trusted_proxies: Words = ()
    pillars: Words = ("content", "insights", "operations", "business_outcomes")
    open_metrics: bool = False
    open_docs: bool = False

    # Admission
    max_connections: Count = 50_000
    max_connections_per_user: Count = 20
    max_subscriptions: Count = 500
    max_listeners: Count = 1000
    max_mcp_sessions: Count = 100
    max_message_bytes: Bytes = 4 * 1024 * 1024
    max_unsent_bytes: Bytes = 1024 * 1024
    max_unanswered: Count = 256
    handshake_seconds: Seconds = 10
    handshakes_at_once: Count = 64
    handshake_patience_seconds: Annotated[float, Field(ge=0)] = 3
    body_seconds: Seconds = 30
    frame_seconds: Seconds = 10
    close_seconds: Seconds = 5
    stall_seconds: Seconds = 10

    # Liveness
    heartbeat_seconds: Seconds = 25
    resume_window_seconds: Seconds = 120
    instance_lease_seconds: Seconds = 5
    valkey_timeout_seconds: Seconds = 1
    canary_seconds: Seconds = 0.75
    drain_notice_seconds: Annotated[float, Field(ge=0)] = 0
    ack_replicas: Annotated[int, Field(ge=0)] = 0
    drain_seconds: Seconds = 5
    stop_seconds: Seconds = 5
    hang_seconds: Seconds = 15

    # The channel log
    history_count: Count = 1000
    history_age_seconds: Seconds = 86_400
    history_bytes: Bytes = 16 * 1024 * 1024
    idempotency_seconds: Seconds = 600
    tail_check_seconds: Seconds = 10
    private_tail_check_seconds: Seconds = 60

    # While Valkey is away
    held_bytes: Bytes = 16 * 1024 * 1024
    held_seconds: Annotated[float, Field(gt=0, le=3000)] = 1800
    held_after_seconds: Seconds = 1

    # The agents' inbox
    inbox_count: Count = 10_000
    inbox_bytes: Bytes = 64 * 1024 * 1024
    inbox_lease_seconds: Seconds = 30
    inbox_tries: Count = 5
    inbox_age_seconds: Seconds = 3600
    inbox_user_share: Share = 0.1
    inbox_other_taker_seconds: Seconds = 1
    inbox_dead_count: Count = 1000
    inbox_dead_bytes: Bytes = 16 * 1024 * 1024
    inbox_circuit_failures: Count = 20
    inbox_circuit_share: Share = 0.5
    inbox_circuit_window_seconds: Seconds = 30
    inbox_circuit_cool_seconds: Seconds = 10
    inbox_circuit_probes: Count = 5
    inbox_circuit_room: Share = 0.8
    stream_gather_ms: Annotated[int, Field(ge=0)] = 40

    # Sessions and rates: so many a second in the long run, so many at once
    session_seconds: Seconds = 3600
    ticket_seconds: Seconds = 60
    identity_cache_seconds: Seconds = 60
    user_messages_per_second: Count = 200
    user_messages_burst: Count = 400
    service_messages_per_second: Count = 50_000
    service_messages_burst: Count = 100_000
    calls_per_second: Count = 2_000
    calls_burst: Count = 4_000
    address_handshakes_per_second: Count = 200
    address_handshakes_burst: Count = 5_000
    address_failures_per_second: Count = 10
    address_failures_burst: Count = 200
    session_share: Share = 0.5
    operation_rates: Annotated[dict[str, Rate], NoDecode] = Field(default_factory=dict)

    # Telling
    traffic_seconds: Seconds = 5
    traces_flush_seconds: Seconds = 2
    log_format: Literal["", "text", "json"] = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("allowed_origins", "trusted_proxies", "pillars", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [word for word in value if not _ORIGIN.fullmatch(word)]:
            raise ValueError(f"{wrong[0]!r} is not an origin as browsers write it, as in https://app.example")
        return value

    @field_validator("public_url")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not _ADDRESS.fullmatch(value):
            raise ValueError("it has to be an address as in https://city.example")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        TrustedProxies(value)
        return value

    @field_validator("operation_rates", mode="before")
    @classmethod
    def _rates(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        named = (word.partition("=") for word in value.split(",") if word.strip())
        return {name.strip(): Rate.parse(rate.strip()) for name, _, rate in named}

    @classmethod
    def read(cls, **overrides: object) -> Settings:
        """Reads the environment; ``overrides`` (a command line's options) win over it.

        Raises:
            WrongSetting: a value that cannot be used.
        """
        try:
            return cls(**overrides)  # type: ignore[arg-type]  # each value is validated by its field
        except ValidationError as error:
            raise WrongSetting(_sentence(error)) from None

    @property
    def public_ws_url(self) -> str:
        """What clients are told to connect to, as ``ws://…/ws`` or ``wss://…/ws``."""
        return "ws" + self.public_http_url.removeprefix("http") + "/ws"

    @property
    def public_http_url(self) -> str:
        """The platform's address as seen from outside, without a slash at the end."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self.host, self.host)  # noqa: S104  # compared, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def public_origin(self) -> str:
        """The origin of our own pages, as browsers write it."""
        own = urlsplit(self.public_http_url)
        return f"{own.scheme}://{own.netloc}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the platform."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")


def misspelt(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables with our prefix that nobody reads, each with the name that was probably meant, or nothing."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | CLIENT_VARIABLES
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    return {
        name: next(iter(get_close_matches(name, known, 1)), "") for name in unknown if not name.startswith(TEST_PREFIX)
    }


def connections_possible(wanted: int) -> int:
    """Raises the soft file limit for ``wanted`` connections and returns how many fit below it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted + RESERVED_FILES
    if hard != resource.RLIM_INFINITY:
        target = min(target, hard)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if target > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        soft = target
    return min(wanted, max(1, soft - RESERVED_FILES))


def _sentence(error: ValidationError) -> str:
    """Every wrong variable in a line of its own, secrets masked."""
    lines = []
    for problem in error.errors():
        field = str(problem["loc"][0])
        name = field if field.isupper() else PREFIX + field.upper()
        shown = "…" if "token" in field.lower() else repr(problem["input"])
        lines.append(f"{name} is {shown}: {_lowered(problem['msg'])}.")
    return "\n".join(lines)


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:].removesuffix(".")
