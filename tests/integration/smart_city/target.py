"""Which deployment the acceptance suites go to: the one that the environment names, or one that they start.

It says in a sentence what lacks. It tests nothing, and it never stands in for a part that is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import redis

from tests.support.ports import free_port
from tests.support.serving import Serving

HEARTBEAT_SECONDS = 2
INBOX_COUNT = 100
SCOPES = frozenset(
    {"traffic_cop.sessions", "post_office.publish", "post_office.consume", "post_office.history", "post_office.observe"}
)
"""What the suites' token may do; the operator's may do everything."""
_OFF = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A running deployment, and how to come in."""

    url: str
    token: str
    redis_url: str = ""
    channel: str = "guide"
    """The agent channel on which the suites publish."""
    is_own: bool = False

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def named_target(environment: Mapping[str, str]) -> Target | None:
    """The deployment of ``TEST_BACKEND_URL``; None when the suites are to start their own."""
    url = environment.get("TEST_BACKEND_URL", "").rstrip("/")
    if not url or environment.get("TEST_USE_REAL_INFRASTRUCTURE", "true").lower() in _OFF:
        return None
    return Target(
        url=url,
        token=environment.get("SMART_CITY_TOKEN", ""),
        redis_url=environment.get("TEST_REDIS_URL", ""),
        channel=environment.get("TEST_AGENT_CHANNEL", "guide"),
    )


def what_lacks(target: Target) -> str:
    """The sentence that says why the suites cannot go there; empty when they can."""
    if not target.token:
        return (
            f"SMART_CITY_TOKEN is not set, and {target.url} lets nobody in without one: set it to the operator's "
            "token (the file operator-token in the data dir), or to a service token with the scopes "
            f"{', '.join(sorted(SCOPES))}."
        )
    return _what_the_platform_lacks(target) or _what_the_store_lacks(target)


def _what_the_platform_lacks(target: Target) -> str:
    try:
        asked = httpx2.post(
            f"{target.url}/soa/traffic-cop/get_caller_identity", json={}, headers=target.bearer, timeout=10
        )
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return f"Nothing answers at TEST_BACKEND_URL={target.url} ({error}): start `smart-city serve`, or mend the URL."
    if asked.status_code == 401:
        return f"{target.url} does not know the token in SMART_CITY_TOKEN: is it of another data dir, or expired?"
    try:
        lacking = SCOPES - set(asked.json()["scopes"])
    except (ValueError, KeyError, TypeError):
        return f"What answers at TEST_BACKEND_URL={target.url} is no Smart City: it said {asked.status_code}."
    if lacking:
        return f"The token in SMART_CITY_TOKEN lacks the scopes {', '.join(sorted(lacking))}."
    return ""


def _what_the_store_lacks(target: Target) -> str:
    if not target.redis_url:
        return ""
    try:
        url = target.redis_url.partition("?")[0]
        with redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as store:
            store.ping()
    except (redis.RedisError, ValueError, OSError) as error:
        return f"Nothing answers at TEST_REDIS_URL ({error}): start `smart-city serve --valkey-port N`, or unset it."
    return ""


@contextmanager
def own_target(folder: Path) -> Iterator[Target]:
    """A platform of two workers with its embedded Valkey on free ports, ended on leaving."""
    port = free_port()
    settings = {"HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS), "INBOX_COUNT": str(INBOX_COUNT), "CLOSE_SECONDS": "1"}
    options = ("--port", "0", "--workers", "2", "--no-demo", "--valkey-port", str(port))
    with Serving(folder / "data", *options, settings=settings) as serving:
        serving.opened()
        yield Target(url=serving.url, token=serving.token, redis_url=f"redis://127.0.0.1:{port}", is_own=True)
