"""The client of the store: deadlines, errors in the city's words, and stores that it refuses to work with."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio
from redis.exceptions import ResponseError

from foundations.errors import Overloaded, Unavailable
from foundations.valkey import Script, Valkey, WrongStore, line, pipe, shown_url
from foundations.valkey.client import Argument
from tests.support.ports import free_port
from tests.support.speaking import speaking
from tests.support.valkey import ValkeyServer, plainly
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.on_both_loops

SET_AND_GET = Script.of("set_and_get", "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])")


@asynccontextmanager
async def connected(url: str, *, timeout: float = 1.0) -> AsyncIterator[Valkey]:  # noqa: ASYNC109  # the client's
    valkey = await Valkey.connect(url, timeout=timeout)
    try:
        yield valkey
    finally:
        await valkey.close()


async def test_commands_answer_with_bytes(valkey: Valkey) -> None:
    await valkey.command("SET", valkey.key("k"), "täxt")
    assert await valkey.command("GET", valkey.key("k")) == "täxt".encode()


async def test_keys_carry_the_prefix(valkey_server: ValkeyServer) -> None:
    valkey = await Valkey.connect(valkey_server.url, prefix="city:")
    assert valkey.key("log:{guide}:meta") == "city:log:{guide}:meta"
    await valkey.close()


async def test_every_client_has_an_incarnation_of_its_own(valkey_server: ValkeyServer, valkey: Valkey) -> None:
    async with connected(valkey_server.url) as other:
        assert valkey.incarnation != other.incarnation


async def test_a_ping_takes_a_measurable_time(valkey: Valkey) -> None:
    assert 0 < await valkey.ping() < 1


async def test_a_script_runs_with_keys_and_arguments(valkey: Valkey) -> None:
    assert await valkey.run(SET_AND_GET, [valkey.key("k")], [7]) == b"7"


async def test_a_script_that_the_server_has_forgotten_is_taught_again(valkey: Valkey) -> None:
    forgotten = Script.of("own", f"return '{secrets.token_hex(4)}'")
    first = await valkey.run(forgotten, [], [])
    await valkey.command("SCRIPT", "FLUSH")
    assert await valkey.run(forgotten, [], []) == first


async def begun(valkey: Valkey, script: Script, keys: Sequence[str], *args: Argument, seconds: float = 1) -> Any:
    """What a script that can leave at once tells."""
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    assert valkey.begin(script, keys, args, told.set_result, seconds=seconds)
    return await told


async def test_a_script_that_leaves_at_once_tells_its_reply(valkey: Valkey) -> None:
    await valkey.run(SET_AND_GET, [valkey.key("k")], [7])
    asked = valkey.round_trips.count
    assert await begun(valkey, SET_AND_GET, [valkey.key("k")], 8) == b"8"
    assert valkey.round_trips.count == asked + 1


async def test_a_script_that_leaves_at_once_is_not_taught(valkey: Valkey) -> None:
    unknown = Script.of("own", f"return '{secrets.token_hex(4)}'")
    assert isinstance(await begun(valkey, unknown, []), ResponseError)


async def test_no_script_leaves_before_there_is_a_connection(valkey_server: ValkeyServer) -> None:
    async with connected(valkey_server.url) as valkey:
        await valkey.close()
        assert not valkey.begin(SET_AND_GET, [valkey.key("k")], [7], pytest.fail, seconds=1)


async def test_who_sent_a_script_at_once_is_told_in_time_that_no_answer_came() -> None:
    with ValkeyServer() as server:
        async with connected(server.url) as valkey:
            await valkey.run(SET_AND_GET, [valkey.key("k")], [7])
            failures = valkey.failures
            server.hang()
            assert isinstance(await begun(valkey, SET_AND_GET, [valkey.key("k")], 8, seconds=0.1), Unavailable)
            assert valkey.failures == failures + 1
            server.resume()


async def test_scripts_are_read_from_their_package() -> None:
    script = Script.read("foundations", "renew_lease")
    assert script.name == "foundations/renew_lease"
    assert "PEXPIRE" in script.source
    with pytest.raises(FileNotFoundError):
        Script.read("foundations", "no_such")


async def test_a_defect_of_ours_passes_as_it_is(valkey: Valkey) -> None:
    with pytest.raises(ResponseError):
        await valkey.command("NO-SUCH-COMMAND")


async def test_all_callers_share_one_connection_and_get_their_own_answers(valkey: Valkey) -> None:
    before = await connections_made(valkey)
    answers = await asyncio.gather(*(valkey.command("ECHO", number) for number in range(3000)))
    assert answers == [b"%d" % number for number in range(3000)]
    assert await connections_made(valkey) == before


async def connections_made(valkey: Valkey) -> int:
    return int((await valkey.command("INFO", "stats"))["total_connections_received"])


async def test_commands_are_carried_out_in_the_order_in_which_they_were_asked_for(valkey: Valkey) -> None:
    key = valkey.key("list")
    await asyncio.gather(*(valkey.command("RPUSH", key, number) for number in range(500)))
    assert await valkey.command("LRANGE", key, 0, -1) == [b"%d" % number for number in range(500)]


async def test_whoever_comes_above_the_bound_is_refused(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "MOST_UNANSWERED", 10)
    asked = (valkey.command("ECHO", number) for number in range(11))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [bytes] * 10 + [Overloaded]
    assert await valkey.command("ECHO", "x") == b"x"


async def test_the_database_of_the_url_is_used(valkey_server: ValkeyServer, valkey: Valkey) -> None:
    await valkey.command("SET", valkey.key("k"), "v")
    async with connected(f"{valkey_server.url}?db=3") as other:
        assert await other.command("EXISTS", valkey.key("k")) == 0


async def test_answers_are_as_redis_py_gives_them(valkey: Valkey) -> None:
    key = valkey.key("k")
    async with plainly(valkey) as client:
        send: Callable[..., Awaitable[object]] = client.execute_command
        for command in (("SADD", key, "a"), ("SMEMBERS", key), ("TYPE", key), ("DEL", key), ("PING",), ("TIME",)):
            assert type(await valkey.command(*command)) is type(await send(*command))


async def test_what_the_bus_may_push_onto_the_connection_is_nobodys_answer(valkey: Valkey) -> None:
    await valkey.command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", valkey.key("watched"))
    async with plainly(valkey) as other:
        await other.set(valkey.key("watched"), "v")
    assert await valkey.command("ECHO", "x") == b"x"


async def test_closing_fails_whoever_still_waits() -> None:
    with ValkeyServer() as server:
        async with connected(server.url) as valkey:
            server.hang()
            waiting = asyncio.create_task(valkey.command("PING"))
            await asyncio.sleep(0)
            await valkey.close()
            with pytest.raises(Unavailable, match="closed"):
                await waiting
            with pytest.raises(Unavailable, match="closed"):
                await valkey.command("PING")


async def test_a_store_that_speaks_unasked_is_left_and_asked_anew() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%0\r\n+PONG\r\n")
        await reader.readuntil(b"unasked\r\n")
        writer.write(b"+answer\r\n-ERR unasked\r\n")
        await reader.read()

    async with speaking(serve) as port:
        client = redis.asyncio.Redis(port=port)
        pipe_to_it = pipe.Pipe(client.connection_pool, seconds=1)
        for _ in range(2):
            assert await pipe_to_it.ask(("ECHO", "unasked")) == b"answer"
        await pipe_to_it.close()


async def test_over_tcp_it_is_the_same() -> None:
    with ValkeyServer(tcp=True) as server:
        async with connected(server.url) as valkey:
            assert await valkey.command("ECHO", "x") == b"x"


# Away, hung, full


async def test_a_store_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await Valkey.connect(f"redis://127.0.0.1:{free_port()}", timeout=0.5)


async def test_a_store_that_went_away_is_unavailable_and_comes_back_by_itself() -> None:
    with ValkeyServer() as server:
        async with connected(server.url) as valkey:
            await valkey.command("SET", "k", "v")
            server.kill()
            with pytest.raises(Unavailable):
                await valkey.command("GET", "k")
            with pytest.raises(Unavailable):
                await valkey.run(SET_AND_GET, ["k"], ["w"])
            server.start()
            assert await valkey.command("GET", "k") == b"v"


async def test_a_hung_store_is_unavailable_within_the_deadline() -> None:
    with ValkeyServer() as server:
        async with connected(server.url, timeout=0.3) as valkey:
            server.hang()
            for _ in ("on the connection that there is", "while it waits for a new one"):
                began = time.monotonic()
                asked = [valkey.command("INCR", "k") for _ in range(1000)]
                answers = await asyncio.gather(*asked, return_exceptions=True)
                assert time.monotonic() - began < 2.5  # far below a deadline for each, on a slow machine, too
                assert {type(answer) for answer in answers} == {Unavailable}
            server.resume()
            assert await valkey.command("ECHO", "x") == b"x"


async def test_who_asked_later_keeps_the_own_deadline() -> None:
    """When one command runs out of time, the others on the connection are not failed with it."""
    with ValkeyServer() as server:
        async with connected(server.url, timeout=1.0) as valkey:
            server.hang()
            first = asyncio.create_task(valkey.command("INCR", "k"))
            await asyncio.sleep(0.5)
            second = asyncio.create_task(valkey.command("INCR", "k"))
            await asyncio.wait({first}, timeout=PATIENCE)
            server.resume()
            assert await second == 2
            with pytest.raises(Unavailable):
                await first
            assert await valkey.command("GET", "k") == b"2"


async def test_a_hung_store_is_unavailable_at_the_start() -> None:
    with ValkeyServer() as server:
        server.hang()
        with pytest.raises(Unavailable):
            await Valkey.connect(server.url, timeout=0.5)


async def test_a_cancelled_command_spoils_no_connection(valkey: Valkey) -> None:
    """The late answer of a command that nobody waits for must not reach the next one."""
    for number in range(50):
        task = asyncio.create_task(valkey.command("ECHO", f"old-{number}"))
        await asyncio.sleep(0)
        task.cancel()
        assert await valkey.command("ECHO", f"new-{number}") == b"new-%d" % number
        await asyncio.gather(task, return_exceptions=True)


async def test_a_full_store_is_overloaded_for_commands_and_for_scripts() -> None:
    with ValkeyServer() as server:
        async with connected(server.url) as valkey:
            await valkey.command("SET", "k", "v")
            await valkey.command("CONFIG", "SET", "maxmemory", 1)
            with pytest.raises(Overloaded) as refused:
                await valkey.command("SET", "k", "w")
            assert refused.value.retry_after
            with pytest.raises(Overloaded):
                await valkey.run(SET_AND_GET, ["k"], ["w"])
            assert await valkey.command("GET", "k") == b"v"


async def test_a_read_only_store_is_unavailable() -> None:
    with ValkeyServer() as server:
        async with connected(server.url) as valkey:
            await valkey.command("REPLICAOF", "127.0.0.1", free_port())
            with pytest.raises(Unavailable):
                await valkey.command("SET", "k", "v")
            with pytest.raises(Unavailable):
                await valkey.run(SET_AND_GET, ["k"], ["w"])


async def test_a_store_that_lacks_replicas_is_unavailable() -> None:
    with ValkeyServer(min_replicas_to_write="1") as server:
        async with connected(server.url) as valkey:
            with pytest.raises(Unavailable):
                await valkey.command("SET", "k", "v")


async def test_what_was_acknowledged_survives_a_killed_store() -> None:
    with ValkeyServer() as server:
        async with connected(server.url, timeout=10.0) as valkey:
            for number in range(200):
                await valkey.command("RPUSH", "list", number)
        server.restart()
        async with connected(server.url, timeout=10.0) as valkey:
            assert await valkey.command("LLEN", "list") == 200


# Stores it refuses


async def test_a_store_that_evicts_is_refused() -> None:
    with (
        ValkeyServer(maxmemory="100mb", maxmemory_policy="allkeys-lru") as server,
        pytest.raises(WrongStore, match=r"allkeys-lru.*noeviction"),
    ):
        await Valkey.connect(server.url)


async def test_a_store_that_is_full_already_is_refused() -> None:
    with ValkeyServer(maxmemory="1") as server, pytest.raises(WrongStore, match="maxmemory"):
        await Valkey.connect(server.url)


async def test_a_wrong_password_is_refused_and_not_shown() -> None:
    with ValkeyServer(tcp=True, requirepass="right") as server:
        for secret in ("", ":wrong@"):
            with pytest.raises(WrongStore, match="SMART_CITY_VALKEY_URL") as refused:
                await Valkey.connect(f"redis://{secret}127.0.0.1:{server.port}")
            assert ":wrong" not in str(refused.value)
        async with connected(f"redis://:right@127.0.0.1:{server.port}") as valkey:
            assert await valkey.ping() > 0


@pytest.mark.parametrize(
    ("info", "accepted"),
    [
        ("redis_version:7.2.4\nserver_name:valkey\nvalkey_version:8.1.3", False),
        ("redis_version:7.2.4\nserver_name:valkey\nvalkey_version:9.0.0", True),
        ("redis_version:7.2.4\nserver_name:valkey\nvalkey_version:10.0.0", True),
        ("redis_version:6.2.14", False),
        ("redis_version:7.4.0", True),
        ("redis_version:8.0.1", True),
        ("redis_version:unknown", False),
    ],
)
async def test_only_stores_that_are_new_enough_are_accepted(info: str, accepted: bool) -> None:
    async with fake_store(info) as url:
        if accepted:
            async with connected(url):
                return
        with pytest.raises(WrongStore, match=r"too old.*Valkey 9"):
            await Valkey.connect(url)


async def test_a_store_that_refuses_info_is_refused() -> None:
    async with fake_store("") as url:
        with pytest.raises(WrongStore, match="NOPERM"):
            await Valkey.connect(url)


@pytest.mark.parametrize("url", ["http://somewhere", "redis://host:port", "redis://one,two", "unix:///x?cluster=true"])
async def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(WrongStore, match="SMART_CITY_VALKEY_URL"):
        await Valkey.connect(url)


@asynccontextmanager
async def fake_store(info: str) -> AsyncIterator[str]:
    """A server that speaks just enough RESP3 to be asked for its version; no real one here is that old."""
    text = info.replace("\n", "\r\n").encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2].upper())
            if words[0] == b"HELLO":
                writer.write(b"%1\r\n$5\r\nproto\r\n:3\r\n")
            elif words[0] == b"INFO" and not text:
                writer.write(b"-NOPERM this user has no permissions to run the 'info' command\r\n")
            elif words[0] == b"INFO":
                writer.write(b"$%d\r\n%b\r\n" % (len(text), text))
            else:
                writer.write(b"+OK\r\n")
            await writer.drain()

    async with speaking(serve) as port:
        yield f"redis://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://valkey:6379/0", "redis://valkey:6379/0"),
        ("rediss://user:secret@valkey:6379", "rediss://valkey:6379"),
        ("redis://valkey:6379?password=secret", "redis://valkey:6379"),
        ("redis://user:sec/ret@valkey:6379", "redis://…"),
        ("redis://user:sec?ret@valkey:6379", "redis://…"),
        ("redis://:1#secret@valkey:6379", "redis://…"),
        ("redis://user:1234/secret@valkey", "redis://…"),
    ],
)
def test_a_shown_url_has_no_secret_wherever_it_stands(url: str, shown: str) -> None:
    assert shown_url(url) == shown
