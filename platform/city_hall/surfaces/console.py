"""The console's files and its front desk, where a browser on this machine gets a session with one click.

It gives a session to nobody it cannot see sitting at this machine; what the page then does with it is the
gateway's and the operations' business, not its.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse
from starlette.staticfiles import StaticFiles

from city_hall.surfaces.callers import COOKIE
from foundations.errors import FieldError, Forbidden, InvalidArgument, NotFound, TooLarge
from foundations.settings import Settings
from smart_city.vocabulary import UserId

FILES = Path(__file__).parent.parent / "console"
MAX_BODY_BYTES = 1024

CONTENT_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served at all. Named here, since a machine's own table of types may say anything about `.js`."""

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "worker-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class ConsoleSessions(Protocol):
    """What the front desk needs of Traffic Cop."""

    async def open(self, user_id: str) -> tuple[str, float]:
        """Opens a session; its token, and when it expires in seconds since 1970."""
        ...

    async def close(self, token: str) -> None:
        """Revokes the session behind the token; one that is unknown or over is no error."""
        ...


class SignIn(BaseModel):
    """The body of a sign-in."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    user_id: UserId = "you"


def console_router(settings: Settings, sessions: ConsoleSessions) -> APIRouter:
    """``/console/`` with its files, and ``/console/session``, which is for them alone: no part of the API."""
    router = APIRouter(include_in_schema=False)
    files = _Files(directory=FILES)

    @router.get("/")
    @router.get("/console")
    async def arrive() -> Response:
        return RedirectResponse("/console/", headers=dict(SECURITY_HEADERS))

    @router.get("/console/session")
    async def look(request: Request) -> Response:
        return _private(
            {
                "offered": settings.is_loopback and _refusal(request) == "",
                "has_session": COOKIE in request.cookies,
                "channels": ["guide", *(f"pillar:{name}" for name in settings.pillars)],
            }
        )

    @router.post("/console/session")
    async def sign_in(request: Request) -> Response:
        if not settings.is_loopback:
            raise Forbidden("one-click sign-in exists only on a platform bound to loopback")
        if refusal := _refusal(request) or _foreign(request):
            raise Forbidden(f"one-click sign-in is for browsers on this machine: {refusal}")
        user_id = _parse(await _body(request)).user_id
        token, expires_at = await sessions.open(user_id)
        moment = datetime.fromtimestamp(expires_at, UTC)
        told = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        response = _private({"user_id": user_id, "expires_at": told})
        response.set_cookie(
            COOKIE, token, expires=moment, path="/", httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return response

    @router.delete("/console/session")
    async def sign_out(request: Request) -> Response:
        if refusal := _foreign(request):
            raise Forbidden(f"only this platform's own page signs out: {refusal}")
        if token := request.cookies.get(COOKIE):
            await sessions.close(token)
        response = _private({})
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response

    @router.api_route("/console/{path:path}", methods=["GET", "HEAD"])
    async def serve(path: str, request: Request) -> Response:
        return await files.answer(path or "index.html", request)

    return router


class _Files(StaticFiles):
    """The console's files, revalidated at every load so that a page never runs modules of two releases."""

    async def answer(self, path: str, request: Request) -> Response:
        content_type = CONTENT_TYPES.get(Path(path).suffix)
        if content_type is None:
            raise NotFound(f"there is no page {request.url.path}")
        try:
            response = await self.get_response(path, request.scope)
        except HTTPException:
            raise NotFound(f"there is no page {request.url.path}") from None
        response.headers.update(SECURITY_HEADERS)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Content-Type"] = content_type
        return response


def _private(content: Mapping[str, object]) -> JSONResponse:
    return JSONResponse(content, headers={**SECURITY_HEADERS, "Cache-Control": "no-store"})


def _refusal(request: Request) -> str:
    """Why this is not seen to come from this machine by its own name; "" when it is.

    The Host header is what tells a page that had its name rebound to 127.0.0.1 from one of our own.
    """
    if any(name in request.headers for name in FORWARDED):
        return "this request came through a proxy"
    if request.client is None or not _is_loopback(request.client.host):
        return "this request came from elsewhere"
    if not _is_our_own_name(request):
        return "the Host header is no loopback name with this port"
    return ""


def _is_our_own_name(request: Request) -> bool:
    server = request.scope.get("server")
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}")
        port = host.port or (443 if request.url.scheme == "https" else 80)
    except ValueError:
        return False
    return server is not None and port == server[1] and _is_loopback(host.hostname or "")


def _foreign(request: Request) -> str:
    """Why this was not sent by a page of ours; "" when it was."""
    origin = f"{request.url.scheme}://{request.headers.get('host', '')}"
    return "" if request.headers.get("origin") == origin else "the Origin is missing or another one"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(f"a sign-in has at most {MAX_BODY_BYTES} bytes")
    return body


def _parse(body: bytes) -> SignIn:
    try:
        return SignIn.model_validate_json(body or b"{}")
    except ValidationError as error:
        fields = [FieldError(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
        raise InvalidArgument('the body of a sign-in is {} or {"user_id": NAME}', errors=fields) from None
