"""``/openapi.json`` and ``/docs``: the generated document, and a page made from the same catalogue.

The page is plain HTML without scripts, so it works without the internet and can run nothing in the reader's
session; a token with any scope opens both, or a setting opens them to everybody.
"""

from __future__ import annotations

import json
from html import escape
from itertools import groupby
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from city_hall.surfaces.asyncapi import document
from city_hall.surfaces.callers import Door, Identify
from city_hall.surfaces.catalogue import Catalogue, Entry
from foundations.settings import Settings

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Operations</title><style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }}
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
details {{ border-top: 1px solid #8884; padding: .5rem 0; }}
summary {{ cursor: pointer; }} code, pre {{ font: 14px ui-monospace, monospace; }}
pre {{ overflow-x: auto; background: #8882; padding: .75rem; border-radius: .5rem; }}
table {{ border-collapse: collapse; }} td, th {{ text-align: left; padding: .15rem 1rem .15rem 0; }}
</style></head><body><h1>Operations</h1>
<p>Each is reachable over HTTP and as an MCP tool, with the same arguments, results and refusals.
The whole document: <a href="/openapi.json">/openapi.json</a>.</p>
{services}</body></html>
"""
_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


def bind_docs(app: FastAPI, catalogue: Catalogue, identify: Identify, settings: Settings) -> None:
    """Gives ``app`` both addresses; FastAPI's own must be switched off."""
    door = Door(identify, settings)
    protocol = document(settings.public_http_url, app.version)

    async def openapi(request: Request) -> Response:
        if not settings.open_docs:
            await door.caller_with(request, "")
        return JSONResponse(app.openapi())

    async def asyncapi(request: Request) -> Response:
        if not settings.open_docs:
            await door.caller_with(request, "")
        return JSONResponse(protocol)

    async def docs(request: Request) -> Response:
        if not settings.open_docs:
            await door.caller_with(request, "")
        return HTMLResponse(page(catalogue), headers=_HEADERS)

    app.add_api_route("/openapi.json", openapi, methods=["GET"], include_in_schema=False)
    app.add_api_route("/asyncapi.json", asyncapi, methods=["GET"], include_in_schema=False)
    app.add_api_route("/docs", docs, methods=["GET"], include_in_schema=False)


def page(catalogue: Catalogue) -> str:
    """All operations, for people."""
    services = groupby(catalogue, key=lambda entry: entry.operation.service)
    return _PAGE.format(
        services="".join(f"<h2>{escape(name)}</h2>{''.join(map(_operation, found))}" for name, found in services)
    )


def _operation(entry: Entry) -> str:
    operation = entry.operation
    example = escape(json.dumps(dict(operation.declared.example), indent=2, ensure_ascii=False))
    return (
        f'<details id="{escape(operation.tool_name)}"><summary><code>POST {escape(operation.path)}</code> '
        f"{escape(operation.summary)}</summary><p>{escape(operation.description)}</p>"
        f"<p>Needs {escape(operation.who)}.</p>"
        f"<h3>Arguments</h3>{_table(entry.input_schema)}<h3>Result</h3>{_table(entry.output_schema)}"
        f"<h3>Example</h3><pre>{example}</pre></details>"
    )


def _table(schema: Any) -> str:
    required = set(schema.get("required", []))
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_kind(field))}</td>"
        f"<td>{'' if name in required else 'optional'}</td>"
        f"<td>{escape(field.get('description', ''))}</td></tr>"
        for name, field in schema.get("properties", {}).items()
    )
    return f"<table>{rows}</table>" if rows else "<p>None.</p>"


def _kind(field: dict[str, Any]) -> str:
    """A field's type in a few words."""
    if "anyOf" in field:
        return " or ".join(_kind(option) for option in field["anyOf"])
    if "enum" in field:
        return " | ".join(json.dumps(value) for value in field["enum"])
    if "const" in field:
        return json.dumps(field["const"])
    kind = str(field.get("type", "any"))
    return f"{kind} of {_kind(field['items'])}" if kind == "array" and "items" in field else kind
