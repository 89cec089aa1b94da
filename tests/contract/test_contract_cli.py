"""Section 1: what each command prints, where, and with which status, for people and for programs."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.contract.commands import SECONDS, line, running, smart_city
from tests.contract.shapes import text_of
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique
from tests.support.ports import free_port
from tests.support.valkey import ValkeyServer

in_town = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]


def failure(err: str) -> Frame:
    """The one line that tells a program what went wrong."""
    (told,) = err.splitlines()
    error: Frame = json.loads(told)["error"]
    assert {"code", "message", "exit_code"} <= set(error)
    return error


@in_town
async def test_every_answer_is_json_and_nothing_else(town: Instance, channel: str) -> None:
    user = unique("alice")
    commands: dict[str, tuple[str, ...]] = {
        "publish": ("publish", channel, '{"n": 1}'), "status": ("status",),
        "session": ("session", "create", "--user", user),
    }  # fmt: skip

    async def ask(words: tuple[str, ...]) -> Any:
        return (await smart_city(*words, "--json", url=town.url, token=OPERATOR_TOKEN)).json

    names = list(commands)
    found = dict(zip(names, [await ask(commands[name]) for name in names], strict=True))
    assert (found["publish"]["status"], found["publish"]["channel"]) == ("published", channel)
    assert found["status"]["status"] == "healthy"
    assert found["session"]["user_id"] == user
    listed = await ask(("session", "list", "--user", user))
    assert [session["session_id"] for session in listed["sessions"]] == [found["session"]["session_id"]]
    assert found["session"]["session_token"] not in str(listed)


@in_town
@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("publish", "nowhere", "{}"), 1, "unknown_channel"),
        (("publish", "guide", "[]"), 2, "wrong_usage"),
        (("listen", "guide", "pillar:content", "--since", "0"), 2, "wrong_usage"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
async def test_a_failure_has_its_status_and_its_line(
    town: Instance, words: tuple[str, ...], status: int, code: str
) -> None:
    ended = await smart_city(*words, "--json", url=town.url, token=OPERATOR_TOKEN)
    assert (ended.status, ended.out) == (status, ""), ended
    error = failure(ended.err)
    assert (error["code"], error["exit_code"]) == (code, status)


async def test_where_nothing_answers_every_command_ends_with_3() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for words in (("publish", "guide", "{}"), ("status",)):
        ended = await smart_city(*words, "--json", url=url, token=OPERATOR_TOKEN)
        assert (ended.status, failure(ended.err)["exit_code"]) == (3, 3), words


@in_town
async def test_a_token_that_is_not_good_is_told_and_not_shown(town: Instance) -> None:
    secret = "svc_" + "s3cret" * 7
    ended = await smart_city("listen", "guide", url=town.url, token=secret)
    assert ended.status == 1, ended
    assert "s3cret" not in ended.out + ended.err
    assert "Traceback" not in ended.err


@in_town
async def test_what_is_piped_in_is_published_whole(town: Instance, channel: str) -> None:
    message = {"text": "naïve \u2028 😀 " * 20_000}
    given = json.dumps(message).encode()
    ended = await smart_city("publish", channel, "-", "--json", url=town.url, token=OPERATOR_TOKEN, given=given)
    assert ended.json["status"] == "published"
    page = await town.done("post_office.get_channel_history", {"channel": channel})
    assert page["publications"][0]["payload"] == message


@in_town
async def test_listening_prints_a_frame_a_line_with_its_position(town: Instance, channel: str) -> None:
    said = await town.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": 0}})
    words = ("listen", channel, "--since", f"0.{said['epoch']}")
    async with running(*words, url=town.url, token=OPERATOR_TOKEN) as listening:
        first = await line(listening)
        assert (first["channel"], text_of(first)) == (channel, text_of(said))
        text = "a\nb\u2028\x00\x1b[31m"
        await town.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"text": text}})
        assert (await line(listening))["payload"] == {"text": text}


@in_town
async def test_a_position_that_is_not_good_is_told_to_who_listens(town: Instance, channel: str) -> None:
    await town.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": 0}})
    words = ("listen", channel, "--since", "9.nobody", "--json")
    async with running(*words, url=town.url, token=OPERATOR_TOKEN) as listening:
        assert listening.stderr is not None
        async with asyncio.timeout(SECONDS):
            told = ""
            while "unknown_epoch" not in told:
                told = (await listening.stderr.readline()).decode()
                assert json.loads(told)
        await town.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": 1}})
        frame = await line(listening)
        while frame["type"] != "message":
            frame = await line(listening)
        assert frame["payload"] == {"n": 1}


async def test_who_listens_comes_back_and_misses_nothing(platform: Platform) -> None:
    city = await platform.start()

    async def say(*numbers: int) -> None:
        for n in numbers:
            await city.done("post_office.publish_to_agent_channel", {"channel": "guide", "message": {"n": n}})

    async with running("listen", "guide", "--since", "0", url=city.url, token=OPERATOR_TOKEN) as listening:
        await say(0, 1)
        heard = [(await line(listening))["payload"]["n"] for _ in range(2)]
        (connection,) = (await city.done("post_office.get_connections_by_channel", {"channel": "guide"}))["connections"]
        await city.done("post_office.disconnect", {"connection_id": connection, "code": 1012})
        await say(2, 3)
        heard += [(await line(listening))["payload"]["n"] for _ in range(2)]
    assert heard == [0, 1, 2, 3]


async def test_a_watched_status_is_a_line_for_each_change(platform: Platform) -> None:
    with ValkeyServer() as own:
        async with AsyncExitStack() as stack:
            city = await Platform(own, stack).start()
            words = ("status", "--watch", "--every", "0.2", "--json")
            async with running(*words, url=city.url, token=OPERATOR_TOKEN) as watching:
                first = await line(watching)
                assert (first["url"], first["status"]) == (city.url, "healthy")
                assert first["services"]["valkey"]["status"] == "healthy"
                own.hang()
                while (told := await line(watching))["status"] == "healthy":
                    assert told["time"]
                assert told["status"] == "degraded"
                assert told["services"]["valkey"]["status"] == "unhealthy"
                own.resume()
                while (await line(watching))["status"] != "healthy":
                    pass


async def test_valkey_is_asked_as_redis_cli_would(valkey_server: ValkeyServer) -> None:
    at = {"SMART_CITY_VALKEY_URL": valkey_server.url}
    key = unique("cli")
    assert (await smart_city("valkey", "--json", "SET", key, "a b", env=at)).json == "OK"
    assert (await smart_city("valkey", "--json", "GET", key, env=at)).json == "a b"
    refused = await smart_city("valkey", "--json", "NONSENSE", env=at)
    assert (refused.status, failure(refused.err)["code"]) == (1, "refused")
    away = await smart_city("valkey", "--json", "PING", env={"SMART_CITY_VALKEY_URL": "redis://127.0.0.1:1"})
    assert (away.status, away.out) == (3, "")
