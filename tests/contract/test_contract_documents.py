"""``/asyncapi.json`` and ``/openapi.json`` against what is really taken, refused and sent."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no stubs
from websockets.asyncio.client import ClientConnection

from tests.contract.agents import agent_on, asked, asker_of
from tests.contract.raw import text, upgraded
from tests.contract.shapes import position
from tests.contract.streams import following
from tests.contract.test_contract_fuzz import random_frame
from tests.support.platform import OPERATOR_TOKEN, Instance, unique
from tests.support.wire_client import WireClient

pytestmark = pytest.mark.asyncio(loop_scope="module")
SEED = 20261120
ODD: tuple[Any, ...] = (None, -1, "", [], {}, "\x00", 2**70)
Frame = dict[str, Any]


async def document(town: Instance, name: str) -> Frame:
    response = await town.http.get(f"/{name}.json", headers=town.operator)
    assert response.status_code == 200, response.text
    found: Frame = response.json()
    return found


class Frames:
    """The messages of an AsyncAPI document, by which side sends them."""

    def __init__(self, described: Frame) -> None:
        self._described = described
        self.sent = set(self._named("send"))
        self.taken = set(self._named("receive"))

    def _named(self, action: str) -> Iterator[str]:
        for operation in self._described["operations"].values():
            if operation["action"] == action:
                for message in operation["messages"]:
                    yield message["$ref"].rpartition("/")[2]

    def schema(self, name: str) -> Frame:
        message = self._described["components"]["messages"][name]
        return {**message["payload"], "components": self._described["components"]}

    def is_valid(self, name: str, value: Any) -> bool:
        return bool(Draft202012Validator(self.schema(name)).is_valid(value))

    def properties(self, name: str) -> set[str]:
        return set(self._described["components"]["schemas"][name]["properties"])

    def examples(self, name: str) -> list[Frame]:
        return [example["payload"] for example in self._described["components"]["messages"][name].get("examples", [])]

    def check_sent(self, value: Frame, is_stream: bool = False) -> str:
        """The one message that it is; it has no field that this message has not."""
        fitting = [
            name for name in sorted(self.sent) if self.is_valid(name, value) and set(value) <= self.properties(name)
        ]
        assert fitting, f"no message of the document is {value}"
        return fitting[0]


class Recorded(WireClient):
    """A client that keeps every frame that it was sent."""

    def __init__(self, socket: ClientConnection) -> None:
        super().__init__(socket)
        self.kept: list[Frame] = []

    async def next(self, seconds: float = 5.0) -> Frame:
        fresh = not self._early
        frame = await super().next(seconds)
        if fresh:
            self.kept.append(frame)
        return frame


@pytest.mark.parametrize("name", ["asyncapi", "openapi"])
async def test_a_document_wants_a_token(town: Instance, name: str) -> None:
    assert (await town.http.get(f"/{name}.json")).status_code == 401
    assert (await town.http.get(f"/{name}.json", headers={"Authorization": "Bearer nonsense"})).status_code == 401


async def test_every_schema_is_one_and_every_example_fits_it(town: Instance) -> None:
    described = await document(town, "asyncapi")
    assert described["asyncapi"].startswith("3.")
    frames = Frames(described)
    for name in described["components"]["messages"]:
        Draft202012Validator.check_schema(frames.schema(name))
        for example in frames.examples(name):
            assert frames.is_valid(name, example), (name, example)


async def test_the_documents_name_every_frame_of_the_protocol(town: Instance) -> None:
    described = await document(town, "asyncapi")
    types = json.dumps(described["components"]["schemas"])
    for word in ("subscribe", "unsubscribe", "publish", "refresh", "ping", "consume", "done", "failed", "working",
                 "reply", "forward", "ack", "message", "chat_response", "reset", "unsubscribed", "error", "pong",
                 "heartbeat", "delivery", "system"):  # fmt: skip
        assert f'"{word}"' in types, word
    addresses = {channel["address"] for channel in described["channels"].values()}
    assert addresses >= {"/ws", "/api/channels/{channel}/events"}
    paths = (await document(town, "openapi"))["paths"]
    assert {"/api/channels/{channel}/history", "/api/channels/{channel}/events"} <= set(paths)


async def test_every_frame_that_is_sent_is_described(town: Instance, channel: str) -> None:
    frames = Frames(await document(town, "asyncapi"))
    kept = await conversation(town, channel)
    seen = {frames.check_sent(frame) for frame in kept}
    types = {frame["type"] for frame in kept}
    assert types >= {"system", "ack", "message", "chat_response", "delivery", "error", "pong", "unsubscribed"}
    assert len(seen) >= 8


async def conversation(town: Instance, channel: str) -> list[Frame]:
    """Everything that a user and an agent are sent in a life with all that may happen."""
    user = unique("alice")
    rights = {channel: ["subscribe", "publish", "send", "history"], "guide": ["subscribe"]}
    token = await town.session(user, channels=rights)
    realm = await town.service(unique("agent"), "post_office.consume", "post_office.history")
    async with Recorded.connected(town.ws_url, token) as alice, Recorded.connected(town.ws_url, realm) as agent:
        assert isinstance(alice, Recorded)
        assert isinstance(agent, Recorded)
        await agent.ask(type="consume", channel=channel)
        await agent.subscribe(channel)
        ack = await alice.ask(type="publish", channel=channel, payload={"n": 1}, intent="query", key="k")
        await alice.ask(type="publish", channel=channel, payload={"n": 1}, intent="query", key="k")
        await alice.ask(type="subscribe", channels={
            channel: {"offset": ack["offset"] - 1, "epoch": ack["epoch"]}, "nowhere": None, "guide": {"offset": 900},
            "user:bob": None,
        })  # fmt: skip
        await alice.ask(type="subscribe", channels={channel: {"offset": 1, "epoch": "nobody"}})
        for wrong in (
            {"type": "nonsense"},
            {"type": "ping", "x": 1},
            {"type": "publish", "channel": "x", "payload": {}},
        ):
            await alice.ask(**wrong)
        await alice.send(type="ping")
        await alice.socket.send("nonsense")
        await alice.ask(channel=channel, payload={"message": "one", "conversation_id": "c"})
        first = await agent.of("delivery")
        await agent.ask(type="reply", delivery_id=first["delivery_id"], payload={"message": "whole"})
        await alice.ask(channel=channel, payload={"message": "two"})
        second = (await agent.of("delivery"))["delivery_id"]
        await agent.ask(type="working", delivery_id=second)
        await agent.ask(type="reply", delivery_id=second, stream="start", payload={})
        await agent.ask(type="reply", delivery_id=second, stream="delta", payload={"message": "part"})
        await agent.ask(type="failed", delivery_id=second, reason="tired", retry=False)
        await agent.ask(type="reply", delivery_id=second, payload={})
        await alice.until(lambda frame: frame.get("stream") == "error")
        await town.done("post_office.send_to_user", {"user_id": user, "message": {"n": 1}})
        lesser = await town.session(user, channels={"guide": ["subscribe"]})
        await alice.ask(type="subscribe", channels={channel: None})
        await alice.ask(type="refresh", session_token=lesser)
        await alice.of("unsubscribed")
        await alice.ask(type="unsubscribe", channels=["guide"])
        return alice.kept + agent.kept


async def test_every_event_that_is_streamed_is_described(town: Instance, channel: str) -> None:
    described = await document(town, "asyncapi")
    frames = Frames(described)
    of_streams = set(described["channels"]["events"]["messages"])
    made = await town.done("traffic_cop.create_session", {"user_id": unique("alice")})
    async with following(town, channel, made["session_token"], "3.nobody") as stream:
        await town.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": 1}})
        published = await stream.next()
        await town.done("traffic_cop.revoke_session", {"session_id": made["session_id"]})
        left = await stream.rest()
    for value in (stream.ack, published.value, left[-1].value):
        assert [n for n in of_streams if frames.is_valid(n, value) and set(value) <= frames.properties(n)], value


async def test_what_a_schema_takes_the_server_takes_and_what_it_refuses_it_refuses(town: Instance) -> None:
    """Whoever makes a client of the document must not be refused; and whoever tests with it must be."""
    described = await document(town, "asyncapi")
    frames = Frames(described)
    chance = random.Random(SEED)  # noqa: S311
    examples = [example for name in sorted(frames.taken) for example in frames.examples(name)]
    assert len(examples) >= len(frames.taken)
    tried = [dict(example) for example in examples]
    for _ in range(900):
        base = dict(chance.choice(examples)) if chance.random() < 0.7 else {}
        tried.append(base | random_frame(chance))
    tried = [{**frame, "id": str(number)} for number, frame in enumerate(tried)]
    async with upgraded(town.url, OPERATOR_TOKEN) as raw:
        sending = asyncio.create_task(raw.send(b"".join(text(frame) for frame in tried), 30))
        answers: dict[str, Frame] = {}
        while len(answers) < len(tried):
            answer = await raw.json(20)
            if "id" in answer:
                answers[answer["id"]] = answer
        await sending
    wrong = []
    for frame in tried:
        fits = [name for name in frames.taken if frames.is_valid(name, frame)]
        code = answers[frame["id"]].get("code", "")
        if frame.get("type") == "reply" and not {"payload", "stream"} & set(frame):
            continue  # one of the two is needed, which the schema leaves to its description
        if bool(fits) == (code in {"invalid_message", "unknown_type"}):
            wrong.append((frame, fits, code, answers[frame["id"]].get("message")))
    assert not wrong, f"{len(wrong)} of {len(tried)}, as {wrong[:5]}"


class Documented:
    """The operations of an OpenAPI document."""

    def __init__(self, described: Frame) -> None:
        self.described = described

    def response(self, path: str, method: str, status: int) -> Frame:
        responses = self.described["paths"][path][method]["responses"]
        assert str(status) in responses, f"{method} {path} answered {status}, which is not documented"
        found: Frame = responses[str(status)]
        while "$ref" in found:
            found = self.described["components"]["responses"][found["$ref"].rpartition("/")[2]]
        return found

    def check(self, response: httpx2.Response, path: str, method: str) -> None:
        """Its status, kind and body are as documented."""
        content = self.response(path, method, response.status_code).get("content", {})
        kind = response.headers["content-type"].partition(";")[0]
        assert kind in content, (path, response.status_code, kind, list(content))
        if kind.endswith("json"):
            schema = {**content[kind].get("schema", {}), "components": self.described["components"]}
            errors = [error.message for error in Draft202012Validator(schema).iter_errors(response.json())]
            assert not errors, (path, response.status_code, errors[:2], response.text[:300])


async def test_every_answer_of_an_operation_is_as_documented(town: Instance) -> None:
    documented = Documented(await document(town, "openapi"))
    chance = random.Random(SEED)  # noqa: S311
    nobody = await town.service(unique("nobody"))
    for path, item in documented.described["paths"].items():
        if not path.startswith("/soa/"):
            continue
        content = item["post"]["requestBody"]["content"]["application/json"]
        example = dict(content["example"]) | ({"wait_ms": 0} if "wait_ms" in content["schema"]["properties"] else {})
        calls: list[tuple[Any, str]] = [(example, token) for token in (OPERATOR_TOKEN, nobody, "nonsense")]
        names = sorted(set(content["schema"]["properties"]) - {"wait_ms"})
        for name in [*chance.sample(names, min(3, len(names))), "unheard_of"]:
            calls += [({**example, name: value}, OPERATOR_TOKEN) for value in ODD]
        for arguments, token in calls:
            body = json.dumps(arguments).encode()
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            documented.check(await town.http.post(path, content=body, headers=headers), path, "post")
        for odd in (b"", b"[]", b"{", b"\xff", b"null"):
            answer = await town.http.post(
                path, content=odd, headers={**town.operator, "Content-Type": "application/json"}
            )
            documented.check(answer, path, "post")


async def test_every_answer_of_a_channels_history_is_as_documented(town: Instance, channel: str) -> None:
    documented = Documented(await document(town, "openapi"))
    path = "/api/channels/{channel}/history"
    said = await town.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": 1}})
    forbidden = {"Authorization": f"Bearer {await town.session(unique('bob'), channels={})}"}
    good = f"{position(said)['offset']}.{position(said)['epoch']}"
    for name, query, headers in (
        (channel, "", town.operator), (channel, f"?since={good}", town.operator), (channel, "?since=0", town.operator),
        (channel, "?since=9.nobody", town.operator), (channel, "?since=nonsense", town.operator),
        (channel, "?limit=0", town.operator), ("nowhere", "", town.operator), (channel, "", {}),
        (channel, "", forbidden),
    ):  # fmt: skip
        answer = await town.http.get(path.replace("{channel}", name) + query, headers=headers)
        documented.check(answer, path, "get")


async def test_every_path_that_is_documented_exists(town: Instance) -> None:
    for path, item in (await document(town, "openapi"))["paths"].items():
        for method in item:
            if path.endswith("/events"):
                continue
            url = path.replace("{channel}", "guide")
            answer = await town.http.request(method, url, headers=town.operator)
            assert answer.status_code not in {404, 405}, (method, path)


async def test_an_answer_in_parts_is_described(town: Instance, channel: str) -> None:
    frames = Frames(await document(town, "asyncapi"))
    async with asker_of(town) as alice, agent_on(town, channel) as agent:
        await asked(alice, channel)
        delivery = (await agent.of("delivery"))["delivery_id"]
        for part in ("start", "delta", "end"):
            await agent.ask(type="reply", delivery_id=delivery, stream=part, payload={"message": "x"})
        while True:
            frame = await alice.of("chat_response")
            frames.check_sent(frame)
            if frame["stream"] == "end":
                break
