"""A Traffic Cop on the shared Valkey server, and its parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import MappingProxyType

import pytest

from foundations.rates import Rate
from foundations.valkey import Valkey
from smart_city.traffic_cop.attempts import Attempts
from smart_city.traffic_cop.identities import Identities
from smart_city.traffic_cop.limits import Limits
from smart_city.traffic_cop.operations import TrafficCop
from smart_city.traffic_cop.service_tokens import ServiceTokens
from smart_city.traffic_cop.sessions import Issued, Sessions

OPERATOR_TOKEN = "op_a-secret-of-the-operator"
RATES = MappingProxyType({"messages": Rate(100, 200), "calls": Rate(2, 20)})
ADDRESSES = MappingProxyType({"handshakes": Rate(1, 10), "failures": Rate(2, 5)})


CreateSession = Callable[..., Awaitable[Issued]]


@pytest.fixture
def sessions(valkey: Valkey) -> Sessions:
    return Sessions(valkey)


@pytest.fixture
def service_tokens(valkey: Valkey) -> ServiceTokens:
    return ServiceTokens(valkey)


@pytest.fixture
def identities(sessions: Sessions, service_tokens: ServiceTokens, limits: Limits) -> Identities:
    return Identities(sessions, service_tokens, Attempts(limits), operator_token=OPERATOR_TOKEN)


@pytest.fixture
def limits(valkey: Valkey) -> Limits:
    return Limits(valkey, users=RATES, services=RATES, addresses=ADDRESSES)


@pytest.fixture
def cop(valkey: Valkey, sessions: Sessions, service_tokens: ServiceTokens, limits: Limits) -> TrafficCop:
    return TrafficCop(valkey, sessions, service_tokens, limits)


@pytest.fixture
def create(sessions: Sessions) -> CreateSession:
    """Creates a session of ``user_id`` that lives ``lifetime`` seconds."""

    async def create(user_id: str = "alice", lifetime: float = 60.0) -> Issued:
        return await sessions.create(user_id, session_type="user", context={}, grants=(), lifetime=lifetime)

    return create
