"""The supervisor with real processes below it: what it starts, what it survives, and that nothing is left."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path

import httpx2 as httpx
import pytest
import redis

from city_hall.instance_names import all_names, instance_names
from foundations.processes import Process
from tests.support.ports import free_port
from tests.support.serving import TINY_SERVE, Serving, wait_until

Tiny = partial(Serving, command=TINY_SERVE)


def is_alive(pid: int) -> bool:
    return Process.of(pid).is_alive


def is_listening(port: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


def answering_instances(city: Serving) -> dict[str, int]:
    """Name and pid of whoever answers just now."""
    told = city.get()
    return {told["instance_id"]: told["pid"]}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "city"


class TestOpening:
    def test_briefs_its_worker_with_what_only_it_knows(self, data_dir: Path) -> None:
        with Tiny(data_dir).opened() as city:
            told = city.get()

            port = int(city.url.rpartition(":")[2])
            assert told["instance_id"].endswith(f"-{port}-1")
            assert told["valkey_url"].startswith("unix://")
            assert told["port"] == port
            assert told["data_dir"] == str(data_dir)
            assert told["operator_token"] == city.token

    def test_several_workers_share_the_port_under_numbered_names(self, data_dir: Path) -> None:
        settings = {"INSTANCE_ID": "north"}
        with Tiny(data_dir, "--workers", "2", settings=settings).opened() as city:
            seen: dict[str, int] = {}

            def both() -> bool:
                seen.update(answering_instances(city))
                return len(seen) == 2

            wait_until(both, "both workers answer")
            assert set(seen) == {"north-1", "north-2"}
            assert len(set(seen.values())) == 2

    def test_uses_the_valkey_it_is_given_and_no_data_dir(self, data_dir: Path) -> None:
        settings = {"VALKEY_URL": "redis://valkey.example:6379", "OPERATOR_TOKEN": "op_given"}
        with Tiny(data_dir, settings=settings).opened() as city:
            told = city.get()

            assert told["valkey_url"] == "redis://valkey.example:6379"
            assert told["operator_token"] == "op_given"
        assert not data_dir.exists()

    def test_starts_the_demo_agents_with_the_address_and_the_token(self, data_dir: Path) -> None:
        with Tiny(data_dir, "--demo").opened() as city:
            note = data_dir / "guides"
            wait_until(note.exists, "the guides have been told")
            pid, url, token = note.read_text().split()
            assert (url, token) == (city.url, city.token)

            os.kill(int(pid), signal.SIGKILL)
            wait_until(lambda: note.read_text().split()[0] != pid, "the guides are there again")
        wait_until(lambda: not is_alive(int(note.read_text().split()[0])), "the guides have ended")

    def test_opens_its_valkey_on_a_loopback_port_if_asked_to(self, data_dir: Path) -> None:
        port = free_port()
        with Tiny(data_dir, "--valkey-port", str(port)).opened():
            assert redis.Redis(port=port).ping()


class TestRefusing:
    def test_a_taken_port(self, data_dir: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with Tiny(data_dir, settings={"PORT": str(port)}) as city:
                assert city.ended() == 1
                assert f"Port {port} on 127.0.0.1 is taken" in city.said
        assert not (data_dir / "valkey").exists()

    def test_a_host_that_is_not_here(self, data_dir: Path) -> None:
        with Tiny(data_dir, settings={"HOST": "192.0.2.1"}) as city:
            assert city.ended() == 1
            assert "192.0.2.1" in city.said

    def test_a_data_dir_that_cannot_be_used(self, data_dir: Path) -> None:
        data_dir.write_text("a file")
        with Tiny(data_dir) as city:
            assert city.ended() == 1
            assert str(data_dir) in city.said

    def test_what_a_worker_refuses_in_its_own_words_and_once(self, data_dir: Path) -> None:
        with Tiny(data_dir, "--workers", "2", settings={"TEST_MANNER": "refuse"}) as city:
            assert city.ended() == 1
            assert city.said.count("this city is closed on Mondays") == 1
            assert "Traceback" not in city.said
        assert city.valkey_pid == 0

    def test_a_wrong_setting_that_only_the_worker_sees(self, data_dir: Path) -> None:
        with Tiny(data_dir, "--workers", "2", settings={"INSTANCE_ID": "x" * 119}) as city:
            assert city.ended() == 1
            assert "SMART_CITY_INSTANCE_ID" in city.said

    def test_a_worker_that_never_gets_ready(self, data_dir: Path) -> None:
        with Tiny(data_dir, settings={"TEST_MANNER": "crash"}) as city:
            assert city.ended() == 1
            assert "ended 3 times before it was ready: the roof fell in" in city.said
        assert city.valkey_pid == 0


class TestEnding:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_everything_it_started(self, data_dir: Path, number: signal.Signals) -> None:
        with Tiny(data_dir).opened() as city:
            worker, valkey = city.get()["pid"], city.valkey_pid
            assert is_alive(worker)
            assert is_alive(valkey)

            city.signal(number)

            assert city.ended() == 0
            assert not is_alive(worker)
            assert not is_alive(valkey)

    def test_started_in_a_shells_background_it_hears_sigint_and_under_nohup_no_sighup(self, data_dir: Path) -> None:
        deaf = ("sh", "-c", "trap '' INT HUP; exec \"$@\"", "sh", *TINY_SERVE)
        with Serving(data_dir, command=deaf).opened() as city:
            city.signal(signal.SIGHUP)
            assert is_alive(city.get()["pid"])

            city.signal(signal.SIGINT)
            assert city.ended() == 0

    def test_a_signal_while_it_still_opens_ends_it_as_well(self, data_dir: Path) -> None:
        with Tiny(data_dir) as city:
            wait_until((data_dir / "operator-token").exists, "it has begun")
            city.signal(signal.SIGINT)

            assert city.ended() == 0
        assert city.valkey_pid == 0

    def test_a_second_signal_does_not_wait_for_a_worker_that_hangs(self, data_dir: Path) -> None:
        with Tiny(data_dir, settings={"TEST_MANNER": "hang", "DRAIN_SECONDS": "60"}).opened() as city:
            worker = city.get()["pid"]
            city.signal(signal.SIGINT)
            wait_until(lambda: "The city closes" in city.said, "it has heard the first")
            assert is_alive(worker)

            city.signal(signal.SIGINT)

            assert city.ended() == 0
            assert not is_alive(worker)

    def test_a_worker_that_hangs_is_killed_after_its_drain(self, data_dir: Path) -> None:
        hasty = {"DRAIN_SECONDS": "0.1", "CLOSE_SECONDS": "0.1", "STOP_SECONDS": "0.1"}
        with Tiny(data_dir, settings={"TEST_MANNER": "hang", **hasty}).opened() as city:
            worker = city.get()["pid"]
            city.signal(signal.SIGTERM)

            assert city.ended() == 1
            assert not is_alive(worker)
            assert "is killed" in city.said
            assert "Not ended in good order: worker 1" in city.said

    def test_the_end_of_its_terminal_ends_everything_it_started(self, data_dir: Path) -> None:
        on_terminal = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
        with Serving(data_dir, command=(sys.executable, "-c", on_terminal, *TINY_SERVE)).opened() as city:
            worker = city.get()["pid"]
            city.signal(signal.SIGKILL)  # who holds the other end of the terminal is gone
            city.ended()
            wait_until(lambda: not is_alive(worker), "the worker has ended")
            wait_until(lambda: city.valkey_pid == 0, "and so has Valkey")


class TestRenewing:
    def test_sighup_replaces_the_workers_one_after_the_other_while_somebody_always_answers(
        self, data_dir: Path
    ) -> None:
        with Tiny(data_dir, "--workers", "2", settings={"INSTANCE_ID": "north"}).opened() as city:
            before: dict[str, int] = {}
            wait_until(lambda: len(before.update(answering_instances(city)) or before) == 2, "both answer")

            city.signal(signal.SIGHUP)

            answers = 0
            while "All workers are replaced" not in city.said:
                assert city.get()["pid"]
                answers += 1
            assert answers > 5
            after: dict[str, int] = {}
            wait_until(lambda: len(after.update(answering_instances(city)) or after) == 2, "both answer")
            assert set(after) == {"north-3", "north-1"}
            assert not any(is_alive(pid) for pid in before.values())
            city.signal(signal.SIGTERM)
            assert city.ended() == 0

    def test_a_successor_that_does_not_get_ready_replaces_nobody(self, data_dir: Path) -> None:
        note = data_dir.with_name("manner")
        settings = {"TEST_MANNER_NOTE": str(note)}
        with Tiny(data_dir, settings=settings).opened() as city:
            worker = city.get()["pid"]
            note.write_text("refuse")
            city.signal(signal.SIGHUP)
            wait_until(lambda: "stays as it is" in city.said, "it was tried", 30)
            assert city.get()["pid"] == worker
            city.signal(signal.SIGTERM)
            assert city.ended() == 0


class TestSurviving:
    def test_a_killed_worker_is_replaced_on_the_same_port(self, data_dir: Path) -> None:
        with Tiny(data_dir).opened() as city:
            before = city.get()
            os.kill(before["pid"], signal.SIGKILL)

            after = city.get()

            assert after["pid"] != before["pid"]
            assert after["instance_id"] == before["instance_id"]

    @pytest.mark.parametrize("manner", ["stopped", "endless"])
    def test_a_worker_whose_event_loop_hangs_is_replaced(self, data_dir: Path, manner: str) -> None:
        with Tiny(data_dir, settings={"HANG_SECONDS": "2"}).opened() as city:
            before = city.get()
            if manner == "stopped":
                os.kill(before["pid"], signal.SIGSTOP)
            else:
                with pytest.raises(httpx.HTTPError):
                    httpx.get(city.url + "/hang", timeout=10, trust_env=False)

            wait_until(lambda: not is_alive(before["pid"]), "it is killed")
            after = city.get()

            assert after["instance_id"] == before["instance_id"]
            assert "hangs" in city.said

    def test_a_worker_is_not_blamed_for_the_sleep_of_its_supervisor(self, data_dir: Path) -> None:
        with Tiny(data_dir, settings={"HANG_SECONDS": "3"}).opened() as city:
            worker = city.get()["pid"]
            city.signal(signal.SIGSTOP)
            time.sleep(4)  # longer than a worker may be silent
            city.signal(signal.SIGCONT)
            time.sleep(1.2)  # a few looks

            assert is_alive(worker)

    def test_a_killed_supervisor_leaves_no_worker_and_a_valkey_to_take_over(self, data_dir: Path) -> None:
        with Tiny(data_dir, "--workers", "2").opened() as city:
            port, valkey = city.url.rpartition(":")[2], city.valkey_pid
            redis.Redis.from_url(city.get()["valkey_url"]).set("kept", "yes")
            city.signal(signal.SIGKILL)
            city.ended()
            wait_until(lambda: not is_listening(port), "its workers have ended")
        with Tiny(data_dir, settings={"PORT": port}).opened() as again:
            assert again.valkey_pid == valkey
            assert again.token == city.token
            assert redis.Redis.from_url(again.get()["valkey_url"]).get("kept") == b"yes"
        assert not is_alive(valkey)

    def test_a_killed_valkey_comes_back_with_what_it_stored(self, data_dir: Path) -> None:
        with Tiny(data_dir).opened() as city:
            redis.Redis.from_url(city.get()["valkey_url"]).set("kept", "yes")
            killed = city.valkey_pid
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: city.valkey_pid not in {0, killed}, "another Valkey runs")

            def is_kept() -> bool:
                try:
                    return redis.Redis.from_url(city.get()["valkey_url"]).get("kept") == b"yes"
                except (redis.ConnectionError, OSError):
                    return False

            wait_until(is_kept, "it has what was stored")


class TestSharing:
    def test_two_on_one_data_dir_have_one_valkey_which_the_last_one_stops(self, data_dir: Path) -> None:
        with Tiny(data_dir).opened() as first, Tiny(data_dir).opened() as second:
            valkey = first.valkey_pid
            assert first.get()["valkey_url"] == second.get()["valkey_url"]

            first.signal(signal.SIGINT)
            assert first.ended() == 0
            assert is_alive(valkey)
            assert second.get()["operator_token"] == second.token

            second.signal(signal.SIGINT)
            assert second.ended() == 0
            assert not is_alive(valkey)

    def test_two_have_one_valkey_again_after_it_was_killed(self, data_dir: Path) -> None:
        with Tiny(data_dir).opened() as first, Tiny(data_dir).opened() as second:
            killed = first.valkey_pid
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: first.valkey_pid not in {0, killed}, "another Valkey runs")

            def is_shared() -> bool:
                return bool(first.get()["valkey_url"] == second.get()["valkey_url"])

            wait_until(is_shared, "both know it")
            assert redis.Redis.from_url(first.get()["valkey_url"]).ping()

    def test_two_that_start_at_once_have_one_valkey(self, data_dir: Path) -> None:
        with Tiny(data_dir) as first, Tiny(data_dir) as second:
            assert first.opened().get()["valkey_url"] == second.opened().get()["valkey_url"]
            assert first.get()["operator_token"] == second.get()["operator_token"]


class TestInstanceNames:
    def test_a_single_worker_has_the_name_itself(self) -> None:
        assert instance_names("instance-1", 8000, 1) == ["instance-1"]

    def test_several_workers_are_numbered(self) -> None:
        assert instance_names("north", 8000, 3) == ["north-1", "north-2", "north-3"]

    def test_while_they_are_replaced_one_name_more_is_in_use(self) -> None:
        assert all_names("north", 8000, 2) == ["north-1", "north-2", "north-3"]
        assert all_names("north", 8000, 1) == ["north", "north-2"]

    def test_without_a_name_it_is_made_of_host_and_port(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: "bob's laptop")

        assert instance_names("", 8000, 1) == ["bob-s-laptop-8000-1"]
