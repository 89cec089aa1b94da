"""The platform's listening socket: bound once by the supervisor, shared by its workers.

It only binds and words what can be wrong with an address; who accepts connections is not decided here.
"""

from __future__ import annotations

import asyncio
import errno
import socket

from city_hall.refusals import StartRefused

BACKLOG = 4096
ORPHAN_SECONDS = 1.0
"""How long a taken port is tried again: the workers of a killed supervisor are just ending."""


async def listen(host: str, port: int) -> socket.socket:
    """Binds and listens; port 0 takes a free one.

    Raises:
        StartRefused: the port is taken or may not be used, or the host is not one of this machine.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + ORPHAN_SECONDS
    while True:
        try:
            return _bound(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or clock() > deadline:
                raise StartRefused(_sentence(host, port, error)) from error
        await asyncio.sleep(0.02)


def local_url(listener: socket.socket) -> str:
    """Where programs on this machine reach the listener."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104  # compared, not bound
        host = "127.0.0.1" if listener.family == socket.AF_INET or _takes_both(listener) else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _bound(host: str, port: int) -> socket.socket:
    """IPv4 where a name has both; ``::`` takes both where the machine can."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return socket.create_server(
        address[:2], family=family, backlog=BACKLOG,
        dualstack_ipv6=address[0] == "::" and socket.has_dualstack_ipv6(),
    )  # fmt: skip


def _takes_both(listener: socket.socket) -> bool:
    return listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0


def _sentence(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is taken by another program: end that one (fuser {port}/tcp names it), "
            "or choose another port with --port or SMART_CITY_PORT; 0 takes a free one."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} may not be opened by this user: choose one above 1023 with --port."
    return f"{host} port {port} cannot be listened on ({error.strerror or error}): check --host and --port."
