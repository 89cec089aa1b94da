"""What tokens look like: a word for their kind, 256 random bits, and for sessions the shard of their user.

A token is never kept, only its SHA-256 `digest`. Nothing here knows what a token is good for: stores do.

    ses_7fK3…  svc_K3…  tkt_7fK3…

The two hex digits after ``ses_`` and ``tkt_`` are a hash of the user's id. They stand in braces in every
key of that user (``session:{7f}:ID``, ``token:{7f}:DIGEST``), so that all of them live in one slot of a
cluster: a token is found with one plain command, and sessions are made and ended by one script each,
whole or not at all. 256 shards spread well over as many nodes as a cluster sensibly has; the digits say
nothing that knowing the user does not.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Literal, cast

Kind = Literal["ses", "tkt", "svc"]

SHARDS = tuple(f"{number:02x}" for number in range(256))
_TOKEN = re.compile(r"(?:(ses|tkt)_([0-9a-f]{2})|(svc)_)[A-Za-z0-9_-]{43}")
_SESSION_ID = re.compile(r"([0-9a-f]{2})[A-Za-z0-9_-]{22}")


@dataclass(frozen=True, slots=True)
class Token:
    """A token as far as it may be kept. ``shard`` is empty for a service's."""

    kind: Kind
    shard: str
    digest: str


def new_token(kind: Kind, shard: str = "") -> str:
    """A token that nobody can guess."""
    return f"{kind}_{shard}{secrets.token_urlsafe(32)}"


def new_session_id(shard: str) -> str:
    """An id that names a session in the open: it opens nothing, and says where the session is kept."""
    return shard + secrets.token_urlsafe(16)


def read_token(text: str) -> Token | None:
    """The token behind this text, or None where no token could look like that."""
    found = _TOKEN.fullmatch(text)
    if found is None:
        return None
    return Token(cast(Kind, found[1] or found[3]), found[2] or "", digest(text))


def digest(text: str) -> str:
    """What is kept of a secret. Texts from outside need not be proper Unicode."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def shard_of_user(user_id: str) -> str:
    """Where everything of this user is kept."""
    return hashlib.sha256(user_id.encode()).hexdigest()[:2]


def shard_of_session(session_id: str) -> str | None:
    """Where the session of this id is kept, or None where no id could look like that."""
    found = _SESSION_ID.fullmatch(session_id)
    return found and found[1]
