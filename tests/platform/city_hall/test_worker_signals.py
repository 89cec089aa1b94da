"""What a worker does when it is to end: at once while it opens, without its name, with what it cannot store."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import httpx2 as httpx
import redis

from foundations.processes import Process
from tests.support.serving import Serving, wait_until
from tests.support.valkey import ValkeyServer

LEASE = "lease:{instance north}"


def test_a_worker_that_waits_for_a_valkey_that_is_not_there_ends_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"redis://127.0.0.1:{deaf.getsockname()[1]}"
        with Serving(tmp_path / "city", "--no-demo", settings={"VALKEY_URL": url}) as city:
            wait_until(lambda: "waiting up to" in city.said, "it waits", 30)
            city.signal(signal.SIGTERM)
            assert city.ended(8) == 0
            assert "is killed" not in city.said


def serving(server: ValkeyServer, home: Path, **settings: str) -> Serving:
    """One instance named north over this store."""
    given = {"VALKEY_URL": server.url, "OPERATOR_TOKEN": "op_" + "t" * 43, "INSTANCE_ID": "north", **settings}
    return Serving(home, "--no-demo", settings=given).opened()


def test_answers_carry_the_present_date(tmp_path: Path) -> None:
    with ValkeyServer() as server, serving(server, tmp_path / "city") as city:
        first = httpx.get(f"{city.url}/health").headers["date"]
        wait_until(lambda: httpx.get(f"{city.url}/health").headers["date"] != first, "a second has passed")


def holder(store: redis.Redis) -> dict[str, Any]:
    owner: dict[str, Any] = json.loads(store.hget(LEASE, "owner") or "{}")
    return owner


def test_one_that_has_lost_its_name_to_another_drains_and_touches_nothing_of_its_successor(tmp_path: Path) -> None:
    """The first holder sleeps for longer than its lease; on another machine somebody takes its name."""
    with ValkeyServer() as server, serving(server, tmp_path / "city", INSTANCE_LEASE_SECONDS="1") as city:
        store = redis.Redis.from_url(server.url)
        wait_until(lambda: "pid" in holder(store), "its lease is held")
        worker = Process.of(holder(store)["pid"])
        os.kill(worker.pid, signal.SIGSTOP)
        wait_until(lambda: not store.exists(LEASE), "its lease has lapsed")
        elsewhere = {**holder(store), "host": "elsewhere", "pid": 7, "started": "1", "machine": "another"}
        store.hset(LEASE, mapping={"token": "theirs", "owner": json.dumps(elsewhere)})
        store.sadd("subscriptions:north", "theirs")
        os.kill(worker.pid, signal.SIGCONT)

        assert city.ended() == 1

        assert not worker.is_alive
        assert "was taken by process 7 on host elsewhere" in city.said
        assert "held by process 7 on host elsewhere" in city.said, "no second one is started"
        assert store.hget(LEASE, "token") == b"theirs"
        assert store.smembers("subscriptions:north") == {b"theirs"}


def test_one_that_cannot_store_what_it_has_accepted_says_how_much_is_lost_and_ends_with_1(tmp_path: Path) -> None:
    with ValkeyServer() as server, serving(server, tmp_path / "city", STOP_SECONDS="1") as city:
        server.hang()
        try:
            headers = {"Authorization": "Bearer op_" + "t" * 43}
            said = {"channel": "guide", "message": {"text": "hello"}}
            url = f"{city.url}/soa/post-office/publish_to_agent_channel"
            told = httpx.post(url, json=said, headers=headers, timeout=20, trust_env=False)
            assert told.status_code == 202
            city.signal(signal.SIGTERM)
            assert city.ended() == 1
            assert "1 publications, 0 questions and 0 words of agents could not be stored" in city.said
        finally:
            server.resume()
