"""Instances of the platform in processes of their own over one store, each with a line to it that may fail.

They are opened, killed, stopped and looked at; who talks to them is `load`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
from pathlib import Path
from typing import Any

import httpx2

from city_inspector.faulting_proxy import FaultingProxy
from tests.support.ports import free_port
from tests.support.serving import Serving, wait_until

OPERATOR_TOKEN = "op_" + "f" * 43
SETTINGS = {
    "OPERATOR_TOKEN": OPERATOR_TOKEN, "LOG_FORMAT": "json", "LOG_LEVEL": "info",
    "HEARTBEAT_SECONDS": "2", "INSTANCE_LEASE_SECONDS": "2", "RESUME_WINDOW_SECONDS": "6",
    "INBOX_LEASE_SECONDS": "6", "TAIL_CHECK_SECONDS": "3", "DRAIN_SECONDS": "2", "HISTORY_COUNT": "100000",
    "ADDRESS_HANDSHAKES_PER_SECOND": "10000", "ADDRESS_HANDSHAKES_BURST": "50000",
}  # fmt: skip
"""Windows are shorter than by default, so that what happens when one ends is seen."""
CALL_SECONDS = 10.0


class Instances:
    """All instances of one trial, by name; one that was killed may be opened again under its name and port."""

    def __init__(self, directory: Path, store_url: str, **settings: str) -> None:
        self.ports: dict[str, int] = {}
        self.names: dict[str, str] = {}
        """What each calls itself, by the name given here."""
        self.statuses: dict[str, int] = {}
        """How those ended that were asked to."""
        self._directory = directory
        self._trial = secrets.token_hex(4)
        self._settings = SETTINGS | {"VALKEY_URL": store_url} | settings
        self._lives: dict[str, list[Serving]] = {}
        self._lines: dict[str, FaultingProxy] = {}
        self._http = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {OPERATOR_TOKEN}"}, timeout=CALL_SECONDS, trust_env=False
        )

    @property
    def living(self) -> list[str]:
        """Those that have not ended."""
        return [name for name, lives in self._lives.items() if lives[-1].process.poll() is None]

    async def open(self, name: str, *, line: FaultingProxy | None = None, **settings: str) -> None:
        """Starts one and waits until it serves; with ``line`` that is its way to the store."""
        port = self.ports.setdefault(name, free_port())
        if line is not None:
            self._lines[name] = line
        given = self._settings | {"INSTANCE_ID": f"{name}-{self._trial}", "PORT": str(port)} | settings
        if name in self._lines:
            given["VALKEY_URL"] = f"redis://127.0.0.1:{self._lines[name].port}"
        lives = self._lives.setdefault(name, [])
        lives.append(Serving(self._directory / f"{name}-{len(lives)}", "--no-demo", settings=given))
        await asyncio.to_thread(lives[-1].opened)
        self.names[name] = (await self.look(name, "/health/websocket-gateway"))["instance_id"]

    def line(self, name: str) -> FaultingProxy:
        """The way of one to its store."""
        return self._lines[name]

    def kill(self, name: str) -> None:
        """SIGKILL to all its processes: as if its machine had died."""
        process = self._lives[name][-1].process
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    async def stop(self, name: str, seconds: float = 30.0) -> int:
        """SIGTERM, and waits for its end; the exit status."""
        serving = self._lives[name][-1]
        serving.signal(signal.SIGTERM)
        self.statuses[name] = await asyncio.to_thread(serving.ended, seconds)
        return self.statuses[name]

    async def renew(self, name: str, seconds: float = 60.0) -> None:
        """SIGHUP, and waits until its worker is replaced; the successor has another name."""
        serving = self._lives[name][-1]
        serving.signal(signal.SIGHUP)
        await asyncio.to_thread(wait_until, lambda: "All workers are replaced" in serving.said, "replaced", seconds)
        self.names[name] = (await self.look(name, "/health/websocket-gateway"))["instance_id"]

    async def look(self, name: str, path: str) -> dict[str, Any]:
        """What one answers on an address for balancers."""
        response = await self._http.get(f"http://127.0.0.1:{self.ports[name]}{path}")
        answer: dict[str, Any] = response.json()
        return answer

    async def health(self, name: str) -> str:
        """What one says of itself, or that it does not answer."""
        try:
            return str((await self.look(name, "/api/health"))["status"])
        except (httpx2.HTTPError, ValueError) as error:
            return f"silent ({type(error).__name__})"

    async def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """The result of an operation, called as the operator on the first that lives."""
        service, _, name = operation.partition(".")
        url = f"http://127.0.0.1:{self.ports[self.living[0]]}/soa/{service.replace('_', '-')}/{name}"
        response = await self._http.post(url, json=arguments)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def defects(self) -> list[str]:
        """What any of them, in any of its lives, logged with a traceback."""
        found = []
        for name, lives in self._lives.items():
            for line in "\n".join(serving.said for serving in lives).splitlines():
                with contextlib.suppress(ValueError):
                    told = json.loads(line)
                    if isinstance(told, dict) and "traceback" in told:
                        found.append(f"{name}: {told['event']}: {told['traceback'].strip().splitlines()[-1]}")
        return found

    async def close(self) -> None:
        """Ends what still lives, and looks how it ends."""
        try:
            for name in self.living:
                await self.stop(name)
        finally:
            for name in self.living:
                self.kill(name)
            await self._http.aclose()
