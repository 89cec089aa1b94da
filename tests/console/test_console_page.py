"""The console's page names every module that it needs, so that a browser fetches them all at once."""

from __future__ import annotations

import re
from pathlib import Path

CONSOLE = Path(__file__).resolve().parents[2] / "platform/city_hall/console"
IMPORTED = re.compile(r'^(?:import|export)\b[^"]*?from "(\.[^"]+)";', re.MULTILINE)
PRELOADED = re.compile(r'rel="modulepreload" href="([^"]+)"')


def reached(module: Path, known: set[Path]) -> set[Path]:
    """The module and all that it imports, at whatever remove."""
    if module not in known:
        known.add(module)
        for found in IMPORTED.findall(module.read_text()):
            reached((module.parent / found).resolve(), known)
    return known


def test_the_page_preloads_what_it_needs_and_nothing_else() -> None:
    main = CONSOLE / "ui/main.js"
    needed = {str(module.relative_to(CONSOLE)) for module in reached(main, set())} - {"ui/main.js"}
    assert sorted(PRELOADED.findall((CONSOLE / "index.html").read_text())) == sorted(needed)


def test_the_console_is_built_on_the_clients_entry_alone() -> None:
    for folder in ("ui", "pages", "model"):
        for module in (CONSOLE / folder).glob("*.js"):
            inside = set(re.findall(r'"\.\./client/([^"]+)"', module.read_text()))
            assert inside <= {"index.js"}, module.name
