"""The platform's addresses, from whichever of its URLs a user has at hand.

It rewrites URLs only. A token found in one is taken out of it, so that no URL that is shown has one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, urlencode, urlsplit

SOCKET_PATH = "/ws"
_TOKEN = re.compile(r"[!-~]*")
_LOOPBACK = re.compile(r"127(\.[0-9]{1,3}){3}")
SCHEMES = {"http": False, "ws": False, "https": True, "wss": True}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the platform is: ``host`` with port, and the path below which it is mounted."""

    host: str
    path: str
    is_secure: bool
    token: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str, token: str = "") -> Address:
        """Reads ``http(s)://HOST[/PATH]`` or ``ws(s)://HOST[/PATH]/ws``, with or without a session token.

        Raises:
            ValueError: it is no such URL, or the token is none.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise ValueError("the platform's address must look like http://HOST:PORT or ws://HOST:PORT/ws")
        host = parts.netloc.rpartition("@")[2]
        path = parts.path.rstrip("/").removesuffix(SOCKET_PATH)
        [found] = parse_qs(parts.query).get("session_token", [""])[:1]
        if not _TOKEN.fullmatch(token := token or found):
            raise ValueError("this token cannot be one: a token has neither spaces nor letters beyond ASCII")
        return cls(host, path, SCHEMES[parts.scheme], token)

    def with_token(self, token: str) -> Address:
        """The same place, for another token."""
        return replace(self, token=token)

    @property
    def is_on_this_machine(self) -> bool:
        """Whether it is a loopback address, to which no proxy leads."""
        name = (urlsplit(f"//{self.host}").hostname or "").removesuffix(".")
        return name in {"localhost", "::1"} or _LOOPBACK.fullmatch(name) is not None

    @property
    def http(self) -> str:
        """The address for operations, without a slash at the end."""
        return f"http{'s' if self.is_secure else ''}://{self.host}{self.path}"

    def socket(self, resume: str = "") -> str:
        """The address for the socket; ``resume`` asks for an earlier connection's id."""
        query = "?" + urlencode({"resume": resume}) if resume else ""
        return f"ws{'s' if self.is_secure else ''}://{self.host}{self.path}{SOCKET_PATH}{query}"
