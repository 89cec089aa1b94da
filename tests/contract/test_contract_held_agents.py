"""Promise 5 for agents: what one says while Valkey is away is kept, and carried out before anything is reaped."""

from __future__ import annotations

from tests.contract.agents import agent_on, asked, asker_of, reply
from tests.contract.outages import RETURN_SECONDS, Outage
from tests.support.platform import Instance
from tests.support.wire_client import Frame

PUBLISH = "post_office.publish_to_agent_channel"
GRANTS = {"guide": ["subscribe", "send", "publish", "history"], "pillar:*": ["subscribe"]}


async def test_what_an_agent_says_meanwhile_is_kept_and_reaches_the_asker(fragile: Instance, outage: Outage) -> None:
    async with asker_of(fragile) as alice, agent_on(fragile, "guide") as agent:
        whole, parts = await asked(alice, "guide", "a"), await asked(alice, "guide", "b")
        deliveries = {d["message"]["message_id"]: d for d in [await agent.of("delivery") for _ in range(2)]}
        await reply(agent, deliveries[parts], stream="start", payload={})
        await alice.until(lambda frame: frame.get("stream") == "start")
        outage.begin()
        one, two = deliveries[whole]["delivery_id"], deliveries[parts]["delivery_id"]
        await agent.send(type="reply", delivery_id=one, payload={"message": "whole"})
        await agent.send(type="reply", delivery_id=two, stream="delta", payload={"message": "in parts"})
        await agent.send(type="reply", delivery_id=two, stream="end", payload={})
        await agent.nothing_but_pong()
        outage.end()
        answers: dict[str, Frame] = {}
        while len(answers) < 2:
            frame = await alice.until(lambda f: f["type"] == "chat_response", RETURN_SECONDS)
            assert frame.get("stream") != "error", frame
            if frame.get("stream") in {None, "end"}:
                answers[frame["in_reply_to"]] = frame
        assert answers[whole]["payload"] == {"message": "whole"}
        assert answers[parts]["payload"] == {"message": "in parts"}
        await agent.nothing_but_pong()
