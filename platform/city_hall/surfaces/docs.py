"""``/docs`` and what stands beside it: the generated documents, and pages made from the same declarations.

A token with any scope opens all of them, or a setting opens them to everybody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial
from html import escape
from itertools import groupby
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from city_hall.surfaces import problems
from city_hall.surfaces.asyncapi import document
from city_hall.surfaces.callers import Door, Identify
from city_hall.surfaces.catalogue import Catalogue, Entry
from city_hall.surfaces.openapi import DocumentedRoute, document_described
from city_hall.surfaces.pages import HEADERS, documents, example, fields, page, words
from city_hall.surfaces.problems_page import problems_page
from foundations.settings import Settings

PATH = "/docs"
_INTRODUCTION = (
    "<h1>Operations</h1><p>Each is reachable over HTTP and as an MCP tool, with the same arguments, results and "
    'refusals. The whole document: <a href="/openapi.json">/openapi.json</a>.</p>'
)
_TITLES: Mapping[str, str] = {
    "/openapi.json": "This document.",
    "/asyncapi.json": "The frames and events of the other protocols, as an AsyncAPI document.",
    PATH: "The operations, as a page.",
    problems.PAGE: "What can go wrong, as a page.",
}
_Answer = Callable[[], Response]


def bind_docs(app: FastAPI, catalogue: Catalogue, identify: Identify, settings: Settings) -> None:
    """Gives ``app`` all their addresses; FastAPI's own must be switched off."""
    door = Door(identify, settings)
    asyncapi = document(settings.public_http_url, app.version)

    def shown(render: Callable[[], str]) -> _Answer:
        once = cache(render)
        return lambda: HTMLResponse(once(), headers=dict(HEADERS))

    answers: dict[str, _Answer] = {
        "/openapi.json": lambda: JSONResponse(app.openapi()),
        "/asyncapi.json": lambda: JSONResponse(asyncapi),
        PATH: shown(lambda: operations_page(catalogue)),
        problems.PAGE: shown(problems_page),
        **{path: shown(partial(_written, path, asyncapi)) for path in documents()},
    }

    def endpoint(answer: _Answer) -> Callable[[Request], Awaitable[Response]]:
        async def read(request: Request) -> Response:
            if not settings.open_docs:
                await door.caller_with(request, "")
            return answer()

        return read

    for path, answer in answers.items():
        title = _TITLES.get(path, "A document of the platform, as a page.")
        described = document_described(path, title, "application/json" if path.endswith("json") else "text/html")
        app.router.routes.append(DocumentedRoute(path, endpoint(answer), method="GET", described=described))


def _written(path: str, asyncapi: Mapping[str, Any]) -> str:
    """Loads what reads Markdown when the first reader comes: nobody has to wait for it at the start."""
    from city_hall.surfaces.written_pages import written_page

    return written_page(path, asyncapi)


def operations_page(catalogue: Catalogue) -> str:
    """All operations, for people."""
    services = [(name, list(found)) for name, found in groupby(catalogue, key=lambda entry: entry.operation.service)]
    parts = "".join(
        f'<h2 id="{escape(name)}">{escape(name)}</h2>{"".join(map(_operation, found))}' for name, found in services
    )
    return page(PATH, _INTRODUCTION + parts, [(name, name) for name, _ in services])


def _operation(entry: Entry) -> str:
    operation = entry.operation
    who = f"the scope <code>{escape(operation.declared.scope)}</code>"
    if operation.declared.sessions:
        who += ", or a session"
    return (
        f'<details id="{escape(operation.tool_name)}"><summary><code>POST {escape(operation.path)}</code> '
        f"{words(operation.summary)}</summary><p>{words(operation.description)}</p><p>Needs {who}.</p>"
        f"<h3>Arguments</h3>{fields(entry.input_schema)}<h3>Result</h3>{fields(entry.output_schema)}"
        f"<h3>Example</h3>{example(dict(operation.declared.example))}</details>"
    )
