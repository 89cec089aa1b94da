"""Coming, going and coming back."""

from __future__ import annotations

import asyncio
import logging

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from city_client import CityClient, ClientError, Ended, Refused, Unconfirmed, Unreachable
from city_client.events import Connected, Disconnected, Event, NotReached, Reconnecting
from tests.platform.city_client.conftest import Arrive
from tests.platform.city_client.peer import Peer
from tests.support.waiting import PATIENCE, until


async def test_a_client_shows_its_token_in_the_header_and_nowhere_else(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    entering = asyncio.create_task(CityClient(peer.url, token="secret-token").__aenter__())
    visit = await peer.visit()
    client = await entering
    assert visit.headers["Authorization"] == "Bearer secret-token"
    assert (client.connection_id, client.user_id) == ("c1", "alice")
    visit.cut()
    await peer.visit(connection_id="c1", resumed=True)
    await client.close()
    ours = [record.getMessage() for record in caplog.records if record.name != "websockets.server"]
    assert [line for line in ours if "connected as alice" in line]
    assert not [line for line in ours if "secret-token" in line]


async def test_a_token_in_the_url_travels_in_the_header_instead(peer: Peer) -> None:
    url = f"ws://127.0.0.1:{peer.port}/ws?session_token=from-the-url"
    entering = asyncio.create_task(CityClient(url).__aenter__())
    visit = await peer.visit()
    assert visit.headers["Authorization"] == "Bearer from-the-url"
    assert visit.socket.request is not None
    assert "from-the-url" not in visit.socket.request.path
    await (await entering).close()


async def test_a_closed_client_tells_the_platform_that_it_is_done(arrive: Arrive) -> None:
    client, visit = await arrive()
    await client.close()
    assert await visit.gone() == 1000
    with pytest.raises(Ended) as ended:
        await client.send("guide", {})
    assert ended.value.code == 1000


async def test_a_lost_socket_is_resumed_by_its_connection_id(arrive: Arrive, peer: Peer, events: list[Event]) -> None:
    _, visit = await arrive(connection_id="first")
    visit.cut()
    again = await peer.visit(connection_id="first", resumed=True)
    assert again.resume == "first"
    await until(lambda: len([e for e in events if isinstance(e, Connected)]) == 2, "connected again")
    assert isinstance(events[1], Disconnected)
    assert isinstance(events[2], Reconnecting)
    assert events[2].attempt == 1
    assert 0 <= events[2].delay <= 0.5


async def test_a_connection_that_another_took_over_comes_back_without_resume(arrive: Arrive, peer: Peer) -> None:
    _, visit = await arrive()
    await visit.close(4010)
    assert (await peer.visit(connection_id="c2")).resume == ""


@pytest.mark.parametrize("code", [1000, 4500, 4501, 4503, 4999])
async def test_some_closes_are_for_good(arrive: Arrive, code: int) -> None:
    client, visit = await arrive()
    waiting = asyncio.create_task(client.send("guide", {}))
    await visit.heard("message")
    await visit.close(code, "go")
    for ended in (waiting, client.wait_closed(), client.send("guide", {})):
        with pytest.raises(Ended) as error:
            async with asyncio.timeout(PATIENCE):
                await ended
        assert (error.value.code, error.value.reason) == (code, "go")


async def test_a_refusal_before_the_welcome_ends_the_entering(peer: Peer) -> None:
    entering = asyncio.create_task(CityClient(peer.url, token="t").__aenter__())
    await (await peer.newcomer()).close(4501, "expired")
    with pytest.raises(Ended) as ended:
        await entering
    assert ended.value.code == 4501


async def test_a_full_instance_says_how_long_to_stay_away(peer: Peer) -> None:
    entering = asyncio.create_task(CityClient(peer.url, token="t").__aenter__())
    await (await peer.newcomer()).close(1013, "at capacity, retry_after=0.7")
    left = asyncio.get_running_loop().time()
    await peer.visit()
    assert asyncio.get_running_loop().time() - left >= 0.7
    await (await entering).close()


async def test_a_missing_platform_is_unreachable_after_the_given_time(events: list[Event]) -> None:
    async with Peer().running() as other:
        free = other.url
    with pytest.raises(Unreachable):
        await CityClient(free, token="t", connect_seconds=0.3, on_event=events.append).__aenter__()
    assert isinstance(events[0], NotReached)
    assert isinstance(events[1], Reconnecting)


async def test_what_is_no_platform_is_unreachable_too(peer: Peer) -> None:
    entering = asyncio.create_task(CityClient(peer.url, token="t", connect_seconds=0.3).__aenter__())
    await (await peer.newcomer()).say("hello")
    with pytest.raises(Unreachable, match="instead of a welcome"):
        await entering


@pytest.mark.parametrize(("status", "error"), [(401, Ended), (403, Ended), (404, Unreachable), (503, Unreachable)])
async def test_a_handshake_answered_with_http_says_whether_to_come_back(status: int, error: type[ClientError]) -> None:
    def refuse(socket: ServerConnection, request: Request) -> Response:
        return socket.respond(status, "no")

    async with serve(lambda socket: socket.wait_closed(), "127.0.0.1", 0, process_request=refuse) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with pytest.raises(error, match=str(status)):
            await CityClient(f"http://127.0.0.1:{port}", token="t", connect_seconds=0.3).__aenter__()


async def test_a_silent_platform_is_left_after_two_heartbeats(arrive: Arrive, peer: Peer, events: list[Event]) -> None:
    _, visit = await arrive(heartbeat_seconds=0.1)
    again = await peer.visit()
    assert again.resume == "c1"
    assert await visit.gone() not in (0, 1000)
    [lost] = [event for event in events if isinstance(event, Disconnected)]
    assert "heard" in lost.reason


async def test_heartbeats_keep_a_connection(arrive: Arrive, events: list[Event]) -> None:
    client, visit = await arrive(heartbeat_seconds=0.2)
    for _ in range(5):
        sending = asyncio.create_task(client.send("guide", {}))  # takes a tenth of a second to be answered
        frame = await visit.heard("message")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.15):
                await asyncio.shield(sending)
        await visit.say("heartbeat")
        await visit.say("ack", id=frame["id"], channel="guide", status="queued", message_id="m")
        await sending
    assert not [event for event in events if isinstance(event, Disconnected)]


async def test_an_instance_that_drains_at_once_is_not_hammered(arrive: Arrive, peer: Peer, events: list[Event]) -> None:
    _, visit = await arrive()
    for attempt in range(1, 4):
        await visit.close(1012)
        visit = await peer.visit()
        delays = [event for event in events if isinstance(event, Reconnecting)]
        assert [event.attempt for event in delays] == list(range(1, attempt + 1))


async def test_frames_that_nobody_knows_are_passed_over(arrive: Arrive) -> None:
    client, visit = await arrive()
    await visit.say("from_the_future", whatever=[1])
    await visit.say("system", event="confetti")
    await visit.socket.send("[1, 2]")
    await visit.say("ack", id=5)
    sending = asyncio.create_task(client.send("guide", {}))
    await visit.acknowledge("message", channel="guide", status="queued", message_id="m1", novelty=True)
    assert (await sending).message_id == "m1"


async def test_an_unexpected_error_is_told_to_the_listener(arrive: Arrive, events: list[Event]) -> None:
    _, visit = await arrive()
    await visit.say("error", code="invalid_message", message="Invalid message format: no", retryable=False)
    await until(lambda: "invalid_message" in str(events[-1]), "the complaint is told")


async def test_a_new_token_is_used_from_then_on(arrive: Arrive, peer: Peer) -> None:
    client, visit = await arrive()
    refreshing = asyncio.create_task(client.refresh("second-token"))
    assert (await visit.acknowledge("refresh"))["session_token"] == "second-token"
    await refreshing
    visit.cut()
    assert (await peer.visit()).headers["Authorization"] == "Bearer second-token"


async def test_a_listener_that_fails_does_not_harm_the_connection(peer: Peer) -> None:
    def fail(event: Event) -> None:
        raise RuntimeError(str(event))

    entering = asyncio.create_task(CityClient(peer.url, token="t", on_event=fail).__aenter__())
    await peer.visit()
    await (await entering).close()


async def test_a_frame_above_the_limit_is_refused_without_being_sent(arrive: Arrive) -> None:
    client, _ = await arrive(max_message_bytes=1000)
    with pytest.raises(Refused) as refused:
        await client.send("guide", {"message": "x" * 1000})
    assert refused.value.code == "too_large"


async def test_a_frame_that_broke_the_connection_is_not_sent_again(arrive: Arrive, peer: Peer) -> None:
    client, visit = await arrive()
    sending = asyncio.create_task(client.send("guide", {}))
    await visit.heard("message")
    await visit.close(1009)
    with pytest.raises(Refused) as refused:
        await sending
    assert refused.value.code == "too_large"
    await peer.visit()


async def test_what_is_never_acknowledged_is_unconfirmed_and_names_its_key(arrive: Arrive) -> None:
    client, _ = await arrive()
    with pytest.raises(Unconfirmed) as unconfirmed:
        await client.send("guide", {}, key="k1", seconds=0.1)
    assert unconfirmed.value.key == "k1"
