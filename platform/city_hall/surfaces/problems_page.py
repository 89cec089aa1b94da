"""``/docs/problems``: what the `type` of every problem leads to, made of the error tree."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from http import HTTPStatus
from typing import Any

from city_hall.surfaces.openapi import problem_example
from city_hall.surfaces.pages import example, page, words
from city_hall.surfaces.problems import BY_FRAMEWORK, PAGE, Problem, problem_of_http
from foundations.errors import ERRORS, CityError

_INTRODUCTION = (
    "<h1>Problems</h1><p>Whatever goes wrong over HTTP is answered as <code>application/problem+json</code> "
    "(RFC 9457); on a WebSocket as an <code>error</code> frame, and over MCP as the structured content of a failed "
    "call, with the same codes. Compare <code>code</code>; <code>detail</code> is for people and may change. What is "
    "<code>retryable</code> may succeed when it is tried again, after <code>retry_after</code> seconds where it says "
    "so.</p>"
)


def problems_page() -> str:
    """All problems, each under the anchor that its type names."""
    by_http = [problem_of_http(HTTPStatus(status), told) for status, told in BY_FRAMEWORK.items()]
    codes = [error.code for error in ERRORS] + [problem.code for problem in by_http]
    shown = "".join(map(_error, ERRORS)) + "".join(map(_refusal, by_http))
    return page(PAGE, _INTRODUCTION + shown, [(code, code) for code in codes])


def _error(error: type[CityError]) -> str:
    closes = f", a handshake closes with {error.close_code}" if error.close_code else ""
    again = "retryable" if error.retryable else "not retryable"
    facts = f"HTTP {error.status}{closes}, {again}"
    return _shown(error.code, facts, " ".join((error.__doc__ or "").split()), problem_example(error))


def _refusal(problem: Problem) -> str:
    return _shown(
        problem.code, f"HTTP {problem.status}", problem.detail, problem.model_dump(mode="json", exclude_none=True)
    )


def _shown(code: str, facts: str, told: str, shown: Mapping[str, Any]) -> str:
    return (
        f'<h2 id="{escape(code)}"><code>{escape(code)}</code></h2><p>{words(told)}</p>'
        f"<p class=soft>{escape(facts)}.</p>{example(shown)}"
    )
