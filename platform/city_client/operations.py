"""The platform's operations over HTTP: one call each, and what the platform refuses as one typed error.

It deliberately does not repeat calls by itself: ``key`` makes a publishing call safe to repeat, and only the
caller knows whether it still wants it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import httpx2 as httpx

from city_client.addresses import Address
from city_client.encodings import to_json
from city_client.errors import FieldProblem, Refused, Unreachable
from city_client.frames import Payload


def http_client(address: Address, **options: Any) -> httpx.AsyncClient:
    """A client of the platform at ``address``, with its token; ``options`` are httpx's."""
    return httpx.AsyncClient(
        base_url=address.http,
        headers={"Authorization": f"Bearer {address.token}"} if address.token else {},
        trust_env=not address.is_on_this_machine,  # the variables of a proxy are for others
        verify=address.is_secure,  # loading the certificates takes 80 ms, and plain HTTP needs none
        **options,
    )


class Operations:
    """The platform's operations, as an async context manager.

    Args:
        url: the platform's address.
        token: a service's, a session's or the operator's.
        seconds: how long one call may take.
    """

    def __init__(self, url: str, token: str = "", *, seconds: float = 15.0) -> None:
        address = Address.parse(url, token)
        self._url = address.http
        self._http = http_client(address, timeout=seconds)

    async def __aenter__(self) -> Operations:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def call(self, operation: str, arguments: Mapping[str, Any] | None = None, *, key: str = "") -> Payload:
        """Calls ``service.operation`` and returns its result.

        Raises:
            Refused: the platform said no; ``code`` says why.
            Unreachable: nothing answers.
            ValueError: ``operation`` is not of the form ``post_office.list_channels``.
        """
        service, _, name = operation.partition(".")
        if not (service and name):
            raise ValueError(f"{operation!r} is not an operation: SERVICE.NAME, as in post_office.list_channels")
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        path = f"/soa/{service.replace('_', '-')}/{name}"
        response = await self._request("POST", path, content=to_json(arguments or {}), headers=headers)
        if response.is_error:
            raise refusal(response)
        result = _json(response)
        result.pop("success", None)
        return result

    async def health(self) -> Payload:
        """What ``/api/health`` says; also when it says that the platform is not well."""
        response = await self._request("GET", "/api/health")
        result = _json(response)
        if response.is_error and "services" not in result:
            raise refusal(response)
        return result

    async def description(self) -> Payload:
        """The OpenAPI document under ``/openapi.json``: every operation with its arguments and results."""
        response = await self._request("GET", "/openapi.json")
        if response.is_error:
            raise refusal(response)
        return _json(response)

    async def metrics(self) -> str:
        """The figures under ``/metrics``, in Prometheus' text form."""
        response = await self._request("GET", "/metrics")
        if response.is_error:
            raise refusal(response)
        return response.text

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            return await self._http.request(method, path, content=content, headers=headers)
        except httpx.TransportError as error:
            raise Unreachable(f"{self._url}: {str(error) or type(error).__name__}") from None


def _json(response: httpx.Response) -> Payload:
    try:
        result = response.json()
    except ValueError:
        result = None
    if not isinstance(result, dict):
        raise (refusal(response) if response.is_error else Unreachable("what answers there is not the platform"))
    return result


def refusal(response: httpx.Response) -> Refused:
    """A problem document as the error it describes; without one, the status says what there is to say."""
    try:
        found = response.json()
    except ValueError:
        found = None
    problem = found if isinstance(found, dict) else {}
    return Refused(
        str(problem.get("code", f"http_{response.status_code}")),
        str(problem.get("detail") or response.reason_phrase),
        retryable=bool(problem.get("retryable", response.status_code in {429, 502, 503, 504})),
        retry_after=_seconds(problem.get("retry_after", response.headers.get("Retry-After"))),
        errors=tuple(_problems(problem.get("errors"))),
    )


def _problems(errors: object) -> list[FieldProblem]:
    entries = errors if isinstance(errors, list) else []
    return [
        FieldProblem(str(entry.get("field", "")), str(entry.get("message", "")))
        for entry in entries
        if isinstance(entry, dict)
    ]


def _seconds(value: object) -> float | None:
    try:
        return float(str(value)) if value is not None else None
    except ValueError:
        return None
