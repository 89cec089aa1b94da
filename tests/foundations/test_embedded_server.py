"""The server of our own: started, adopted, stopped, and clear about whatever keeps it from serving."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from foundations.processes import Process
from foundations.valkey import (
    EmbeddedServer,
    NoServer,
    ServerFailed,
    ServerHung,
    UnusableDataDir,
    Valkey,
    embedded,
    record,
)
from tests.support.ports import free_port
from tests.support.valkey import ValkeyServer
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.on_both_loops

Serve = Callable[..., Awaitable[EmbeddedServer]]


@pytest.fixture(autouse=True)
def run_dirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where servers get their private directories: short, and nobody else's."""
    assert tmp_path.exists()  # pytest has made its own directory where it always does
    with tempfile.TemporaryDirectory(prefix="run-") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield Path(directory)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts or adopts servers, and stops whatever is left of them at the end."""
    started: list[EmbeddedServer] = []

    async def start(data_dir: Path, *, port: int = 0) -> EmbeddedServer:
        server = await EmbeddedServer.start_or_adopt(data_dir, port=port)
        started.append(server)
        return server

    yield start
    for server in started:
        if server.is_alive:
            os.kill(server.pid, signal.SIGCONT)
            await server.stop()


async def ask(url: str, *command: str | int) -> object:
    valkey = await Valkey.connect(url)
    try:
        return await valkey.command(*command)
    finally:
        await valkey.close()


async def killed(server: EmbeddedServer) -> None:
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: not server.is_alive, "killed")


# Starting


async def test_a_server_starts_on_a_fresh_data_dir(serve: Serve, tmp_path: Path) -> None:
    server = await serve(tmp_path / "new" / "dir")
    assert not server.adopted
    assert server.is_alive
    assert await ask(server.url, "ECHO", "x") == b"x"


@pytest.mark.parametrize("own", ["", "glibc.malloc.perturb=0"])
async def test_memory_is_kept_at_hand_unless_the_operator_says_how(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if own:
        monkeypatch.setenv("GLIBC_TUNABLES", own)
    server = await serve(tmp_path)
    told = [word for word in Path(f"/proc/{server.pid}/environ").read_text().split("\0") if "GLIBC" in word]
    assert told == [f"GLIBC_TUNABLES={own or 'glibc.malloc.tcache_count=512'}"]


async def test_nobody_else_may_enter(serve: Serve, tmp_path: Path) -> None:
    server = await serve(tmp_path)
    socket_file = Path(server.url.removeprefix("unix://"))
    assert (tmp_path / "valkey").stat().st_mode & 0o077 == 0
    assert socket_file.parent.stat().st_mode & 0o077 == 0
    assert socket_file.stat().st_mode & 0o077 == 0
    assert await ask(server.url, "CONFIG", "GET", "port") == {b"port": b"0"}


async def test_it_lives_in_a_session_of_its_own(serve: Serve, tmp_path: Path) -> None:
    server = await serve(tmp_path)
    assert os.getsid(server.pid) == server.pid


async def test_it_keeps_every_acknowledged_write_and_never_evicts(serve: Serve, tmp_path: Path) -> None:
    server = await serve(tmp_path)
    kept = {"appendonly": b"yes", "appendfsync": b"always", "maxmemory-policy": b"noeviction"}
    for name, value in kept.items():
        assert await ask(server.url, "CONFIG", "GET", name) == {name.encode(): value}


async def test_data_dirs_with_long_names_work(serve: Serve, tmp_path: Path) -> None:
    server = await serve(tmp_path / ("long" * 30) / "and longer, with a space")
    assert await ask(server.url, "ECHO", "x") == b"x"


async def test_temporary_directories_with_long_names_work(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    server = await serve(tmp_path)
    assert await ask(server.url, "ECHO", "x") == b"x"
    assert list(long.iterdir()) == []


async def test_its_port_is_open_on_loopback_when_asked(serve: Serve, tmp_path: Path) -> None:
    port = free_port()
    await serve(tmp_path, port=port)
    assert await ask(f"redis://127.0.0.1:{port}", "ECHO", "x") == b"x"


async def test_a_taken_port_is_named(serve: Serve, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerFailed, match=str(port)):
            await serve(tmp_path, port=port)
    assert record.read(tmp_path / "valkey") is None
    server = await serve(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ServerFailed, match="port"):
        await serve(tmp_path, port=taken.getsockname()[1])
    assert server.is_alive


# Ending


async def test_stopping_leaves_nothing_but_the_data(serve: Serve, tmp_path: Path) -> None:
    server = await serve(tmp_path)
    await ask(server.url, "SET", "k", "v")
    await server.stop()
    assert not server.is_alive
    assert not Path(server.url.removeprefix("unix://")).parent.exists()
    assert record.read(tmp_path / "valkey") is None
    again = await serve(tmp_path)
    assert not again.adopted
    assert await ask(again.url, "GET", "k") == b"v"


async def test_what_was_acknowledged_survives_a_sigkill(serve: Serve, tmp_path: Path) -> None:
    server = await serve(tmp_path)
    valkey = await Valkey.connect(server.url)
    for number in range(200):
        await valkey.command("RPUSH", "list", number)
    await valkey.close()
    await killed(server)
    again = await serve(tmp_path)
    assert not again.adopted
    assert await ask(again.url, "LLEN", "list") == 200
    assert again.url == server.url


async def test_a_start_waits_until_a_long_log_is_read(serve: Serve, tmp_path: Path) -> None:
    server = await serve(tmp_path)
    valkey = await Valkey.connect(server.url, timeout=20)
    write = "for i = 1, 300000 do server.call('SET', KEYS[1] .. i, i) end"
    await valkey.command("EVAL", write, 1, "k")
    await valkey.close()
    await killed(server)
    again = await serve(tmp_path)
    assert await ask(again.url, "DBSIZE") == 300_000


async def test_a_server_that_does_not_obey_is_killed(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "STOP_SECONDS", 0.2)
    server = await serve(tmp_path)
    os.kill(server.pid, signal.SIGSTOP)
    await asyncio.wait_for(server.stop(), PATIENCE)
    assert not server.is_alive


# Adopting


async def test_a_living_server_is_adopted(serve: Serve, tmp_path: Path) -> None:
    first = await serve(tmp_path)
    await ask(first.url, "SET", "k", "v")
    second = await serve(tmp_path)
    assert (second.adopted, second.pid, second.url) == (True, first.pid, first.url)
    assert await ask(second.url, "GET", "k") == b"v"
    await second.stop()
    assert not first.is_alive


async def test_an_adopted_server_opens_its_port_too(serve: Serve, tmp_path: Path) -> None:
    await serve(tmp_path)
    port = free_port()
    await serve(tmp_path, port=port)
    await serve(tmp_path, port=port)
    assert await ask(f"redis://127.0.0.1:{port}", "ECHO", "x") == b"x"


async def test_whoever_starts_at_the_same_time_shares_one_server(serve: Serve, tmp_path: Path) -> None:
    servers = await asyncio.gather(*(serve(tmp_path) for _ in range(5)))
    assert len({server.pid for server in servers}) == 1
    assert sorted(server.adopted for server in servers) == [False, True, True, True, True]


async def test_a_server_outlives_its_killed_starter_and_is_adopted(serve: Serve, tmp_path: Path) -> None:
    pid = started_by_a_process_that_is_killed(tmp_path)
    server = await serve(tmp_path)
    assert (server.adopted, server.pid) == (True, pid)
    assert await ask(server.url, "GET", "k") == b"v"


def started_by_a_process_that_is_killed(data_dir: Path) -> int:
    command = [sys.executable, "-c", START_AND_WAIT, str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.kill()
    return pid


START_AND_WAIT = """
import asyncio, sys
from pathlib import Path
from foundations.valkey import EmbeddedServer, Valkey

async def main():
    server = await EmbeddedServer.start_or_adopt(Path(sys.argv[1]))
    valkey = await Valkey.connect(server.url)
    await valkey.command("SET", "k", "v")
    print(server.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_hung_server_is_named_with_its_pid(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "ANSWER_SECONDS", 0.3)
    server = await serve(tmp_path)
    os.kill(server.pid, signal.SIGSTOP)
    with pytest.raises(ServerHung, match=f"kill -9 {server.pid}"):
        await asyncio.wait_for(serve(tmp_path), PATIENCE)
    assert server.is_alive
    os.kill(server.pid, signal.SIGCONT)
    assert (await serve(tmp_path)).adopted


async def test_a_held_lock_without_a_living_server_is_explained(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "ANSWER_SECONDS", 0.1)
    (tmp_path / "valkey").mkdir()
    lock = record.lock(tmp_path / "valkey")
    assert lock is not None
    with pytest.raises(ServerHung, match=record.LOCK):
        await serve(tmp_path)
    os.close(lock)
    assert not (await serve(tmp_path)).adopted


async def test_a_server_of_another_directory_is_not_adopted(serve: Serve, tmp_path: Path) -> None:
    home = tmp_path / "valkey"
    home.mkdir()
    lock = record.lock(home)
    assert lock is not None
    with ValkeyServer() as other:
        process = Process.of(other.pid)
        record.write(home, record.Record(process, str(other.socket)))
        with pytest.raises(ServerHung, match=str(other.directory)):
            await serve(tmp_path)
    os.close(lock)


async def test_a_server_that_ends_while_it_is_adopted_is_replaced(tmp_path: Path) -> None:
    home = tmp_path / "valkey"
    home.mkdir()
    lock = record.lock(home)
    assert lock is not None
    with a_process_that_waits() as ending:
        record.write(home, record.Record(Process.of(ending.pid), str(tmp_path / "no.sock")))
        starting = asyncio.create_task(EmbeddedServer.start_or_adopt(tmp_path))
        await asyncio.sleep(0)
        ending.kill()
        ending.wait(10)
        os.close(lock)
    server = await asyncio.wait_for(starting, PATIENCE)
    assert not server.adopted
    assert await ask(server.url, "ECHO", "x") == b"x"
    await server.stop()


def a_process_that_waits() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


# Data dirs that cannot be used


async def test_a_data_dir_that_cannot_be_written_is_named(serve: Serve, tmp_path: Path) -> None:
    """Below a regular file nobody can write, root neither; root ignores the modes of directories."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UnusableDataDir, match=r"file.*--data-dir"):
        await serve(tmp_path / "file" / "data")


def test_a_data_dir_without_write_permission_is_named(tmp_path: Path) -> None:
    """As another user, since root ignores the mode: in a process of its own that gives root up."""
    (tmp_path / "data").mkdir(mode=0o555)
    command = [sys.executable, "-c", START_AS_NOBODY, str(tmp_path / "data")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert (finished.stdout.strip(), finished.stderr) == ("UnusableDataDir", "")


START_AS_NOBODY = """
import asyncio, os, sys
from pathlib import Path
from foundations.valkey import EmbeddedServer, UnusableDataDir

if os.geteuid() == 0:  # a directory that root made and others may not write
    path = Path(sys.argv[1])
    os.chdir(path)
    os.setgid(65534)
    os.setuid(65534)
    target = Path(".")
else:
    target = Path(sys.argv[1])
try:
    asyncio.run(EmbeddedServer.start_or_adopt(target))
except UnusableDataDir as error:
    print(type(error).__name__)
"""


async def test_a_data_dir_of_a_newer_version_is_left_alone(serve: Serve, tmp_path: Path) -> None:
    home = tmp_path / "valkey"
    home.mkdir()
    newer = json.dumps({"format": record.FORMAT + 1, "whatever": True})
    (home / record.NAME).write_text(newer)
    with pytest.raises(UnusableDataDir, match="newer version"):
        await serve(tmp_path)
    assert (home / record.NAME).read_text() == newer


@pytest.mark.parametrize("broken", ["", "[]", "{}", '{"format": 1}', '{"format": "x"}'])
async def test_a_broken_record_of_no_living_server_is_replaced(serve: Serve, tmp_path: Path, broken: str) -> None:
    home = tmp_path / "valkey"
    home.mkdir()
    (home / record.NAME).write_text(broken)
    assert not (await serve(tmp_path)).adopted


async def test_a_server_that_cannot_read_its_log_says_why(serve: Serve, tmp_path: Path) -> None:
    server = await serve(tmp_path)
    await server.stop()
    (manifest,) = (tmp_path / "valkey" / "appendonlydir").glob("*.manifest")
    manifest.write_text("nonsense\n")
    with pytest.raises(ServerFailed, match="manifest"):
        await serve(tmp_path)


@pytest.mark.parametrize(
    ("text", "refusal"), [("", NoServer), ("#!/bin/sh\necho '1:M # too tired'\nexit 1\n", ServerFailed)]
)
async def test_a_program_that_does_not_run_is_named(
    serve: Serve,
    tmp_path: Path,
    run_dirs: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    refusal: type[Exception],
) -> None:
    program = tmp_path / "valkey-server"
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(refusal, match=r"valkey-server|too tired"):
        await serve(tmp_path)
    assert record.read(tmp_path / "valkey") is None
    assert list(run_dirs.iterdir()) == []
