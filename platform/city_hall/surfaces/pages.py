"""What the pages for readers share: their frame, their looks, and the headers that let them run nothing.

Plain HTML without scripts, readable without the internet, in light and dark, and on a phone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
PACKAGED = Path(__file__).parent.parent / "docs"
"""Where a wheel has the written documents."""
WRITTEN = Path(__file__).parents[3] / "docs"
"""Where they are written."""
_TITLES: Mapping[str, str] = {
    "/docs": "API", "/docs/problems": "Problems", "/docs/operations": "Running it",
    "/docs/javascript": "JavaScript",
    "/openapi.json": "openapi.json", "/asyncapi.json": "asyncapi.json",
}  # fmt: skip
_STYLE = """
:root { color-scheme: light dark; font: 1rem/1.55 system-ui, sans-serif; scroll-padding-top: 1rem;
  --ink: light-dark(#1c2330, #e4e7ee); --soft: light-dark(#57606f, #9aa4b5); --rule: light-dark(#d8dde6, #333b49);
  --sheet: light-dark(#ffffff, #12161e); --tint: light-dark(#f3f5f9, #1b212c);
  --accent: light-dark(#1a5fb4, #8ab8f5) }
* { box-sizing: border-box }
body { margin: 0; background: var(--sheet); color: var(--ink); overflow-wrap: break-word }
a { color: var(--accent); text-underline-offset: .15em }
a:focus-visible, summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }
header { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; align-items: baseline; padding: .875rem 1.25rem;
  border-bottom: 1px solid var(--rule); background: var(--tint) }
header strong { margin-right: .5rem }
header a { color: var(--soft); text-decoration: none }
header a:hover { color: var(--accent) }
header a[aria-current] { color: var(--ink); font-weight: 600 }
.sheet { max-width: 78rem; margin: 0 auto; padding: 0 1.25rem 4rem }
.sheet > nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: 1.25rem 0 0; padding: 0; list-style: none;
  font-size: .9rem }
.sheet > nav a { color: var(--soft); text-decoration: none }
.sheet > nav a:hover { color: var(--accent) }
main { min-width: 0 }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 1.75rem 0 1rem }
h2 { font-size: 1.3rem; margin: 2.75rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--rule) }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem }
code, pre { font: .86em/1.5 ui-monospace, SFMono-Regular, Menlo, monospace }
code { overflow-wrap: anywhere }
pre { overflow-x: auto; background: var(--tint); border: 1px solid var(--rule); padding: .75rem 1rem;
  border-radius: .5rem; font-size: .82rem }
pre code { font-size: inherit; overflow-wrap: normal }
table { width: 100%; border-collapse: collapse; margin: 1rem 0; font-size: .93rem }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .82rem }
td, th { vertical-align: top; padding: .5rem 1rem .5rem 0; border-bottom: 1px solid var(--rule) }
td:last-child, th:last-child { padding-right: 0 }
details { border-bottom: 1px solid var(--rule); padding: .5rem 0 }
summary { cursor: pointer; overflow-wrap: anywhere }
summary + * { margin-top: .75rem }
.soft { color: var(--soft) }
@media (min-width: 64rem) {
  .sheet:has(> nav) { display: grid; grid-template-columns: 13rem minmax(0, 1fr); gap: 3rem }
  .sheet > nav { position: sticky; top: 0; align-self: start; max-height: 100vh; overflow-y: auto; padding: 1rem 0 }
  .sheet > nav ul { flex-direction: column; gap: .375rem }
}
@media (max-width: 40rem) {
  thead { display: none }
  table, tbody, tr { display: block }
  tr { padding: .625rem 0; border-bottom: 1px solid var(--rule) }
  td { display: block; border: 0; padding: .125rem 0 }
  td:empty { display: none }
}
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Smart City</title><style>{style}</style></head>
<body><header><strong>Smart City</strong>{places}</header>
<div class="sheet">{contents}<main>{body}</main></div></body></html>
"""


def documents() -> dict[str, Path]:
    """The written documents by the addresses of their pages."""
    folder = PACKAGED if PACKAGED.exists() else WRITTEN
    return {f"/docs/{file.stem}": file for file in sorted(folder.glob("*.md"))}


def _title(path: str) -> str:
    return _TITLES.get(path, path.rpartition("/")[2].capitalize())


def page(path: str, body: str, contents: Iterable[tuple[str, str]] = ()) -> str:
    """A whole page; ``contents`` are the ids and titles of its parts."""
    first, last = ("/docs/protocol", "/docs", "/docs/problems"), ("/openapi.json", "/asyncapi.json")
    pages = dict.fromkeys((*first, *documents(), *last))
    places = "".join(
        f'<a href="{place}"{" aria-current=page" if place == path else ""}>{escape(_title(place))}</a>'
        for place in pages
    )
    listed = "".join(f'<li><a href="#{escape(anchor)}">{escape(title)}</a></li>' for anchor, title in contents)
    nav = f'<nav aria-label="On this page"><ul>{listed}</ul></nav>' if listed else ""
    return _PAGE.format(title=escape(_title(path)), style=_STYLE, places=places, contents=nav, body=body)


def fields(schema: Mapping[str, Any]) -> str:
    """The properties of a JSON schema as a table."""
    required = set(schema.get("required", []))
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_kind(field))}</td>"
        f"<td>{'' if name in required else 'optional'}</td><td>{words(field.get('description', ''))}</td></tr>"
        for name, field in schema.get("properties", {}).items()
    )
    return f"<table><tbody>{rows}</tbody></table>" if rows else "<p>None.</p>"


def words(text: str) -> str:
    """A docstring's words; what stands between backticks is code."""
    return re.sub(r"``?([^`]+)``?", r"<code>\1</code>", escape(text))


def example(value: Any) -> str:
    """A value as JSON in a block."""
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


def _kind(field: Mapping[str, Any]) -> str:
    """A field's type in a few words."""
    if "anyOf" in field:
        return " or ".join(_kind(option) for option in field["anyOf"])
    if "enum" in field:
        return " | ".join(json.dumps(value) for value in field["enum"])
    if "const" in field:
        return json.dumps(field["const"])
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    kind = str(field.get("type", "any"))
    return f"{kind} of {_kind(field['items'])}" if kind == "array" and "items" in field else kind
