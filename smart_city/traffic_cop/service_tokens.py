"""The tokens of backend services and agents, in Valkey: made, found, listed and ended.

They are few and long-lived, so all share one slot: ``service-token:{services}:DIGEST`` holds a token as
JSON, the hash ``service-tokens:{services}`` all of them by id. Who may make which token is not asked
here.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from foundations.errors import Overloaded, Unauthenticated
from foundations.rates import Rate
from foundations.valkey import Script, Valkey
from foundations.valkey.slots import never
from smart_city.traffic_cop.tokens import Token, digest, new_token
from smart_city.vocabulary import Identity

MAX_SERVICE_TOKENS = 5_000


class ServiceToken(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a service token. ``expires_at`` is in seconds since 1970, 0 for never."""

    token_id: str
    realm: str
    scopes: tuple[str, ...]
    created_at: float
    expires_at: float
    digest: str
    rates: dict[str, Rate] = {}
    v: int = 1

    def identity(self) -> Identity:
        """The service as a caller of the city."""
        return Identity(
            kind="service", subject=f"~{self.realm}", scopes=frozenset(self.scopes), credential=self.token_id,
            expires_at=self.expires_at, rates=self.rates,
        )  # fmt: skip


class ServiceTokens:
    """The store of service tokens. Every method raises `Unavailable` while Valkey is away."""

    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey
        self._index = valkey.key("service-tokens:{services}")
        self._stem = valkey.key("service-token:{services}:")
        self._issue = Script.read("smart_city.traffic_cop", "issue_service_token")
        self._revoke = Script.read("smart_city.traffic_cop", "revoke_service_token")

    async def create(
        self,
        realm: str,
        scopes: Sequence[str],
        lifetime: float | None,
        rates: Mapping[str, Rate] = MappingProxyType({}),
    ) -> tuple[str, ServiceToken]:
        """Makes a token that lives ``lifetime`` seconds, or until it is revoked. Its text is shown this once.

        Raises:
            Overloaded: there are `MAX_SERVICE_TOKENS`.
        """
        text, now = new_token("svc"), time.time()
        milliseconds = 0 if lifetime is None else max(1, round(lifetime * 1000))
        token = ServiceToken(
            token_id=secrets.token_hex(8), realm=realm, scopes=tuple(scopes), created_at=now,
            expires_at=0.0 if lifetime is None else now + lifetime, digest=digest(text),
            rates=dict(rates),
        )  # fmt: skip
        written = await self._valkey.run(
            self._issue,
            [self._index, self._stem + token.digest],
            [token.token_id, msgspec.json.encode(token), milliseconds, MAX_SERVICE_TOKENS],
        )
        if not written:
            raise Overloaded(f"there are {MAX_SERVICE_TOKENS} service tokens; revoke those of no use")
        return text, token

    async def by_token(self, token: Token) -> ServiceToken:
        """The service token behind a text, in one command.

        Raises:
            Unauthenticated: there is none, or none any more.
        """
        found = await self._valkey.command("GET", self._stem + token.digest)
        if found is None:
            raise Unauthenticated("this service token is unknown, has expired, or was revoked")
        return _token.decode(found)

    async def by_id(self, token_id: str) -> ServiceToken | None:
        """The living token of this id; None when it has ended."""
        found = await self._valkey.command("HGET", self._index, token_id)
        return None if found is None else _token.decode(found)

    async def list(self) -> list[ServiceToken]:
        """All living service tokens, by realm, the oldest first."""
        found = await self._valkey.command("HVALS", self._index)
        return sorted(map(_token.decode, found), key=lambda token: (token.realm, token.created_at))

    async def revoke(self, token_id: str) -> bool:
        """Ends a token. Returns whether there was one."""
        keys = [self._index, never(self._index)]
        return bool(await self._valkey.run(self._revoke, keys, [token_id, self._stem]))

    async def standing(self, token_ids: Iterable[str]) -> set[str]:
        """Those of the tokens that have not ended."""
        if not (ids := list(set(token_ids))):
            return set()
        found = await self._valkey.command("HMGET", self._index, *ids)
        return {token_id for token_id, json in zip(ids, found, strict=True) if json is not None}


_token = msgspec.json.Decoder(ServiceToken)
