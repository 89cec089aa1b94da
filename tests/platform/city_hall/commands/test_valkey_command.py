"""``smart-city valkey`` against the platform's own Valkey and others: what it sends, prints, refuses and hides."""

from __future__ import annotations

import json
import signal
import socketserver
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import redis

from tests.support.ports import free_port
from tests.support.serving import Serving, wait_until
from tests.support.shells import Shell, shell_environment
from tests.support.valkey import ValkeyServer
from tests.support.valkey_cluster import ValkeyCluster


def test_it_finds_the_valkey_of_the_data_dir(typed: Shell) -> None:
    assert typed("smart-city valkey PING").stdout == "PONG\n"
    assert "aof_enabled:1" in typed("smart-city valkey INFO persistence").stdout


def test_a_variable_names_another(typed: Shell) -> None:
    with ValkeyServer(tcp=True) as other:
        typed("smart-city valkey SET where elsewhere", SMART_CITY_VALKEY_URL=other.url)
        assert typed("smart-city valkey GET where", SMART_CITY_VALKEY_URL=other.url).stdout == "elsewhere\n"
        assert typed("smart-city valkey EXISTS where").stdout == "0\n"
        assert typed("smart-city valkey PING", SMART_CITY_VALKEY_URL="embedded").stdout == "PONG\n"


def test_in_a_cluster_a_command_finds_the_node_that_has_its_key(typed: Shell, valkey_cluster: ValkeyCluster) -> None:
    nobody, *ports = free_port(), *(node.port for node in valkey_cluster.nodes)
    url = f"redis://{','.join(f'127.0.0.1:{port}' for port in (nobody, *ports))}/?cluster=true"
    for key in ("a", "b", "c"):  # on three nodes
        typed(f"smart-city valkey SET {key} {key}", SMART_CITY_VALKEY_URL=url)
        assert typed(f"smart-city valkey GET {key}", SMART_CITY_VALKEY_URL=url).stdout == f"{key}\n"
    assert "cluster_state:ok" in typed("smart-city valkey CLUSTER INFO", SMART_CITY_VALKEY_URL=url).stdout


def test_arguments_go_there_as_they_are(typed: Shell) -> None:
    typed("""smart-city valkey SET 'a key' $'two\\nlines "and" more' EX 60""")
    assert typed("smart-city valkey GET 'a key'").stdout == 'two\nlines "and" more\n'
    assert typed("""smart-city valkey "GET 'a key'" """).stdout == 'two\nlines "and" more\n'
    assert typed("smart-city valkey ECHO --json").stdout == "--json\n"
    assert typed("smart-city valkey ECHO -- -x", status=1).stdout == ""


def test_json_keeps_what_a_reply_is(typed: Shell) -> None:
    typed("smart-city valkey HSET shapes one 1")

    def told(command: str) -> object:
        answer: object = json.loads(typed(f"smart-city valkey --json {command}").stdout)
        return answer

    assert told("HGETALL shapes") == {"one": "1"}
    assert told("HLEN shapes") == 1
    assert told("GET nothing") is None
    assert told("""EVAL 'return {1, "two", {3}}' 0""") == [1, "two", [3]]
    assert told("""EVAL 'return "\\255"' 0""") == {"$bytes": "/w=="}


def test_a_refusal_of_valkey_exits_with_1(typed: Shell) -> None:
    done = typed("smart-city valkey NOSUCHCOMMAND", status=1)
    assert (done.stdout, "NOSUCHCOMMAND" in done.stderr) == ("", True)
    told = json.loads(typed("smart-city valkey --json INCR operator x", status=1).stderr)["error"]
    assert (told["code"], told["exit_code"]) == ("refused", 1)


@pytest.mark.parametrize(
    "command", ["MULTI", "select 1", "AUTH secret", "CLIENT REPLY OFF", "PSYNC ? -1", "UNSUBSCRIBE", "''", '"GET \'a"']
)
def test_what_one_call_cannot_do_is_refused_before_it_is_sent(command: str, typed: Shell) -> None:
    done = typed(f"smart-city valkey {command}", status=2)
    assert (done.stdout, bool(done.stderr.strip())) == ("", True)


def test_without_a_valkey_it_exits_with_3(typed: Shell, tmp_path: Path) -> None:
    assert str(tmp_path) in typed("smart-city valkey PING", status=3, SMART_CITY_DATA_DIR=str(tmp_path)).stderr
    nobody = f"redis://127.0.0.1:{free_port()}"
    told = json.loads(typed("smart-city valkey --json PING", status=3, SMART_CITY_VALKEY_URL=nobody).stderr)["error"]
    assert (told["code"], told["exit_code"]) == ("unreachable", 3)


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("redis://user:hunter2hunter2@127.0.0.1:1", 3),
        ("redis://user:hunter2hunter2@127.0.0.1:{port}", 1),
        ("redis://user:hunter2/hunter2@127.0.0.1:{port}", 2),
        ("redis://:hunter2#hunter2@127.0.0.1:{port}", 2),
        ("unix://user:hunter2hunter2@/nowhere.sock", 3),
        ("redis://127.0.0.1:1?password=hunter2", 3),
    ],
)
def test_a_password_in_the_url_is_never_shown(url: str, status: int, typed: Shell) -> None:
    with ValkeyServer(tcp=True, requirepass="another") as server:
        for form in ("", "--json "):
            done = typed(
                f"smart-city valkey {form}PING", status=status, SMART_CITY_VALKEY_URL=url.format(port=server.port)
            )
            assert "hunter2" not in done.stdout + done.stderr


def test_a_password_that_an_old_server_repeats_is_not_shown(typed: Shell) -> None:
    class Old(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while self.request.recv(4096):
                self.request.sendall(
                    b"-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'hunter2'\r\n"
                )

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Old) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"redis://:hunter2@127.0.0.1:{server.server_address[1]}"
        done = typed("smart-city valkey PING", status=3, SMART_CITY_VALKEY_URL=url)
        server.shutdown()
    assert "HELLO" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("command", ["SUBSCRIBE news", "PSUBSCRIBE news*", "SSUBSCRIBE news", "MONITOR"])
def test_what_goes_on_telling_is_printed_as_it_comes_until_ctrl_c(command: str, tmp_path: Path) -> None:
    with ValkeyServer() as server, redis.Redis.from_url(server.url) as client:
        out = tmp_path / "out"
        with out.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "city_hall", "valkey", "--json", *command.split()],
                stdout=file, stderr=file, env=shell_environment(SMART_CITY_VALKEY_URL=server.url),
            )  # fmt: skip
        try:
            wait_until(lambda: out.read_text().endswith("\n"), "it has begun", 30)
            for text in ("one", "two"):
                client.execute_command("SPUBLISH" if command.startswith("SS") else "PUBLISH", "news", text)
                wait_until(lambda text=text: text in out.read_text(), text, 30)  # type: ignore[misc]
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
            assert all(json.loads(line) for line in out.read_text().splitlines())
        finally:
            process.kill()
            process.wait()


def test_who_has_read_enough_hears_no_complaint(typed: Shell) -> None:
    done = typed("smart-city valkey MONITOR | head -n 1", status=1)
    assert done.stderr == ""


def test_what_waits_is_waited_for(tmp_path: Path) -> None:
    with ValkeyServer() as server, redis.Redis.from_url(server.url) as client:
        process = subprocess.Popen(
            [sys.executable, "-m", "city_hall", "valkey", "BLPOP", "later", "60"],
            stdout=subprocess.PIPE, text=True, env=shell_environment(SMART_CITY_VALKEY_URL=server.url),
        )  # fmt: skip
        wait_until(lambda: client.info("clients")["blocked_clients"] == 1, "it waits", 30)
        client.rpush("later", "now")
        assert process.communicate(timeout=20)[0] == "later\nnow\n"


def test_a_valkey_that_goes_away_while_it_is_asked_is_said(tmp_path: Path) -> None:
    with ValkeyServer() as server, redis.Redis.from_url(server.url) as client:
        process = subprocess.Popen(
            [sys.executable, "-m", "city_hall", "valkey", "BLPOP", "never", "0"],
            stderr=subprocess.PIPE, text=True, env=shell_environment(SMART_CITY_VALKEY_URL=server.url),
        )  # fmt: skip
        wait_until(lambda: client.info("clients")["blocked_clients"] == 1, "it waits", 30)
        server.kill()
        assert "BLPOP" in process.communicate(timeout=20)[1]
        assert process.returncode == 3


def test_it_helps_when_the_platform_does_not_answer(tmp_path: Path) -> None:
    with Serving(tmp_path / "data", "--no-demo").opened() as city:
        city.signal(signal.SIGSTOP)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "city_hall", "valkey", "PING"],
                env=shell_environment(city), capture_output=True, text=True, timeout=30, check=True,
            )  # fmt: skip
        finally:
            city.signal(signal.SIGCONT)
        assert done.stdout == "PONG\n"
