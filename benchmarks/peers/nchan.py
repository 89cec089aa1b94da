"""nginx with nchan: subscribers over WebSocket, publications over HTTP, messages in its shared memory.

One worker. It is Debian's, installed or as `scripts/bench-machine` has unpacked it.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import socket
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.keepalive import KeepAlive
from benchmarks.peers.peer import Peer, found
from benchmarks.subjects import Audience, Missing

FETCHED = Path(__file__).resolve().parents[1] / ".fetched/nginx"
MODULE = "usr/lib/nginx/modules/ngx_nchan_module.so"
CONNECTIONS = 20_000
CONFIGURATION = """
load_module {module};
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  nchan_shared_memory_size 512M;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /status {{ nchan_stub_status; }}
    location ~ ^/subscribe/(.+)$ {{
      nchan_subscriber websocket;
      nchan_channel_id $1;
      nchan_subscriber_first_message newest;
    }}
    location ~ ^/publish/(.+)$ {{
      nchan_publisher http;
      nchan_channel_id $1;
      nchan_message_buffer_length 1000;
      nchan_message_timeout 1m;
    }}
  }}
}}
"""


class Nchan(Peer):
    """nginx with the module nchan."""

    name = "nchan"

    async def start(self, started: AsyncExitStack) -> None:
        program, module = _find()
        folder = Path(started.enter_context(tempfile.TemporaryDirectory()))
        self.port = _free_port()
        (folder / "nginx.conf").write_text(_configuration(folder, module, self.port))
        nginx = self.run(started, program, "-p", folder, "-c", folder / "nginx.conf")
        worker = await nginx.said(r"start worker process (\d+)")
        self.processes = (nginx.pid, int(worker[1]))
        self._http = await KeepAlive.open(self.host, self.port)
        started.push_async_callback(self._http.close)
        status = (await self._http.post("/status", b"")).decode()
        nchan = re.search(r"nchan version: (\S+)", status)
        self.version = f"{nchan[1] if nchan else '?'} (nginx {found(r'nginx/([0-9.]+)', nginx)})"

    async def audience(self, channel: str, clients: int) -> Audience:
        return Audience(path=f"/subscribe/{channel}")

    async def publish(self, channel: str, payload: bytes) -> None:
        await self._http.post(f"/publish/{channel}", payload)

    async def publish_batch(self, publications: Sequence[tuple[str, bytes]]) -> None:
        """One request each, pipelined: nchan has no batches."""
        await self._http.post_all([(f"/publish/{channel}", payload) for channel, payload in publications])


def _find() -> tuple[Path, Path]:
    """The program and the module."""
    installed = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if installed and (Path("/") / MODULE).exists():
        return Path(installed), Path("/") / MODULE
    if (FETCHED / MODULE).exists():
        return FETCHED / "usr/sbin/nginx", FETCHED / MODULE
    raise Missing("no nginx with nchan: scripts/bench-machine fetches it, where there is Debian's apt")


def _configuration(folder: Path, module: Path, port: int) -> str:
    """Its worker stays who we are, since the folder that it writes to is ours."""
    name, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    return CONFIGURATION.format(
        folder=folder, module=module, port=port, connections=CONNECTIONS, files=CONNECTIONS,
        user=f"user {name} {group};" if os.getuid() == 0 else "",
    )  # fmt: skip


def _free_port() -> int:
    """nginx cannot be told to take any port. Another may take this one before it does: then it says so and ends."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
