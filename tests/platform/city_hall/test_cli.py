"""The command line against a real HTTP server: what it sends, what it prints, and what it exits with."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from city_hall import cli
from tests.support.ports import free_port

SESSIONS = "/soa/traffic-cop/create_session"
TOKENS = "/soa/traffic-cop/create_service_token"
PUBLISHING = "/soa/post-office/publish_to_agent_channel"
COMMANDS = ("serve", "session create", "token create", "publish", "listen", "call", "status")


@dataclass(slots=True)
class Desk:
    """A platform that answers what a test tells it to, and remembers what it was asked."""

    url: str = ""
    status: int = 200
    answer: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    body: Any = None
    authorization: str | None = None

    def says(self, answer: Mapping[str, Any], status: int = 200) -> None:
        self.answer, self.status = answer, status


@pytest.fixture
def desk() -> Iterator[Desk]:
    asked = Desk()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.do_GET()

        def do_GET(self) -> None:
            asked.path, asked.authorization = self.path, self.headers["Authorization"]
            content = json.dumps(asked.answer).encode()
            self.send_response(asked.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
            """Not on the tests' terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        asked.url = f"http://127.0.0.1:{server.server_port}"
        yield asked
        server.shutdown()
        thread.join(5)


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SMART_CITY_URL", "SMART_CITY_TOKEN", "SMART_CITY_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def run(*words: str, url: str = "", given: str = "") -> Result:
    return CliRunner().invoke(cli.app, [*words, *(["--url", url] if url else [])], input=given)


class TestAsking:
    def test_a_session_prints_its_token_and_nothing_else(self, desk: Desk) -> None:
        desk.says({"success": True, "session_id": "s1", "session_token": "ses_abc", "user_id": "alice"})

        result = run("session", "create", "--user", "alice", "--ttl", "60", url=desk.url)

        assert (result.exit_code, result.stdout, result.stderr) == (0, "ses_abc\n", "")
        assert (desk.path, desk.body) == (SESSIONS, {"user_id": "alice", "ttl_seconds": 60})

    def test_the_last_colon_of_a_channel_separates_its_rights(self, desk: Desk) -> None:
        desk.says({"session_token": "ses_abc"})

        run("session", "create", "--user", "a", "--channel", "guide:subscribe,publish",
            "--channel", "pillar:*:history", url=desk.url)  # fmt: skip

        assert desk.body["channels"] == {"guide": ["subscribe", "publish"], "pillar:*": ["history"]}

    def test_a_service_token_is_printed_alone(self, desk: Desk) -> None:
        desk.says({"token": "svc_abc", "token_id": "t1"})

        result = run("token", "create", "--realm", "content", "--scope", "post_office.publish", url=desk.url)

        assert (result.exit_code, result.stdout) == (0, "svc_abc\n")
        assert (desk.path, desk.body) == (TOKENS, {"realm": "content", "scopes": ["post_office.publish"]})

    def test_publishing_prints_the_position(self, desk: Desk) -> None:
        desk.says({"success": True, "offset": 1, "epoch": "e"})

        result = run("publish", "guide", '{"message": "hi"}', "--realm", "content", url=desk.url)

        assert json.loads(result.stdout) == {"offset": 1, "epoch": "e"}
        assert desk.path == PUBLISHING
        assert desk.body == {"channel": "guide", "message": {"message": "hi"}, "realm": "content"}

    def test_publishing_what_is_held_is_said_in_a_sentence(self, desk: Desk) -> None:
        desk.says({"success": True, "status": "held", "message_id": "m1"})

        result = run("publish", "guide", "{}", url=desk.url)

        assert result.exit_code == 0
        assert "published when the store is back" in result.stderr
        assert json.loads(result.stdout) == {"status": "held", "message_id": "m1"}

    def test_json_may_come_from_standard_input(self, desk: Desk) -> None:
        run("publish", "guide", "-", url=desk.url, given='{"message": "grüß dich"}')

        assert desk.body == {"channel": "guide", "message": {"message": "grüß dich"}}

    def test_any_operation_may_be_called(self, desk: Desk) -> None:
        desk.says({"success": True, "channels": []})

        result = run("call", "post_office.list_channels", url=desk.url)

        assert (result.exit_code, json.loads(result.stdout)) == (0, {"channels": []})
        assert (desk.path, desk.body) == ("/soa/post-office/list_channels", {})

    def test_the_status_is_a_table_of_parts(self, desk: Desk) -> None:
        valkey = {"status": "unhealthy", "error": "disconnected: gone", "response_time_ms": 0.4}
        desk.says({"status": "degraded", "services": {"valkey": valkey}})

        result = run("status", url=desk.url)

        assert result.exit_code == 0
        assert desk.path == "/api/health"
        for word in ("degraded", "valkey", "unhealthy", "0.4 ms", "disconnected: gone"):
            assert word in result.stdout

    def test_the_status_of_a_platform_that_can_serve_nothing_is_a_failure(self, desk: Desk) -> None:
        desk.says({"status": "unhealthy", "services": {}}, 503)

        assert run("status", url=desk.url).exit_code == 1


class TestFailing:
    def test_a_refusal_says_code_sentence_and_fields_on_stderr_and_exits_with_1(self, desk: Desk) -> None:
        problem = {"field": "channel", "message": "is no channel"}
        answer = {
            "success": False,
            "code": "invalid_argument",
            "detail": "Nothing done.",
            "errors": [problem],
        }
        desk.says(answer, 422)

        result = run("publish", "guide", "{}", url=desk.url)

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "invalid_argument: Nothing done.\n  channel: is no channel\n"

    def test_names_with_colons_are_told_as_they_are(self, desk: Desk) -> None:
        desk.says({"code": "unknown_channel", "detail": "there is no channel 'nowhere:x:'"}, 404)

        assert "nowhere:x:" in run("call", "a.b", url=desk.url).stderr

    def test_a_refusal_that_passes_says_when(self, desk: Desk) -> None:
        desk.says({"code": "rate_limited", "detail": "Too fast.", "retry_after": 2.5}, 429)

        assert "2.5 s" in run("call", "a.b", url=desk.url).stderr

    def test_without_a_token_it_is_said_where_one_was_looked_for(self, desk: Desk) -> None:
        desk.says({"code": "unauthenticated", "detail": "Who?"}, 401)

        result = run("call", "a.b", url=desk.url)

        assert result.exit_code == 1
        assert ".smart-city/operator-token" in result.stderr

    @pytest.mark.parametrize("command", [("status",), ("call", "a.b"), ("listen", "guide")])
    def test_nobody_at_the_address_exits_with_3(self, command: tuple[str, ...]) -> None:
        url = f"http://127.0.0.1:{free_port()}"

        result = run(*command, url=url)

        assert (result.exit_code, result.stdout) == (3, "")
        assert url in result.stderr

    def test_something_else_at_the_address_exits_with_3(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            mute.settimeout(5)
            hangs_up = threading.Thread(target=lambda: mute.accept()[0].close())
            hangs_up.start()
            result = run("status", url=f"http://127.0.0.1:{mute.getsockname()[1]}")
            hangs_up.join(5)

        assert result.exit_code == 3

    @pytest.mark.parametrize(
        "words",
        [
            (),
            ("publish", "guide"),
            ("publish", "guide", "hello"),
            ("publish", "guide", "[1]"),
            ("call", "list_channels"),
            ("call", "post_office.list_channels", "{"),
            ("session", "create"),
            ("session", "create", "--user", "a", "--channel", "guide"),
            ("session", "create", "--user", "a", "--ttl", "0"),
            ("listen",),
            ("listen", "guide", "pillar:content", "--since", "4"),
            ("listen", "guide", "--since", "yesterday"),
            ("status", "--url", "somewhere"),
            ("serve", "--port", "70000"),
            ("serve", "--workers", "0"),
            ("sing",),
        ],
    )
    def test_wrong_usage_exits_with_2_before_anything_is_done(self, desk: Desk, words: tuple[str, ...]) -> None:
        result = run(*words)

        assert result.exit_code == 2
        assert desk.path == ""

    def test_a_wrong_setting_is_named_with_its_value(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SMART_CITY_HEARTBEAT_SECONDS", "soon")

        result = run("serve")

        assert result.exit_code == 2
        assert "SMART_CITY_HEARTBEAT_SECONDS is 'soon'" in result.stderr

    def test_a_port_for_a_valkey_that_is_not_its_own_is_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SMART_CITY_VALKEY_URL", "redis://elsewhere:6379")

        assert run("serve", "--valkey-port", "6379").exit_code == 2


class TestFinding:
    def test_the_token_of_the_data_dir_is_used(self, desk: Desk, tmp_path: Path) -> None:
        (tmp_path / ".smart-city").mkdir()
        (tmp_path / ".smart-city" / "operator-token").write_text("op_here\n")
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "operator-token").write_text("op_other\n")

        run("status", url=desk.url)
        assert desk.authorization == "Bearer op_here"

        run("status", "--data-dir", "other", url=desk.url)
        assert desk.authorization == "Bearer op_other"

    def test_a_variable_wins_over_the_data_dir_and_an_option_over_both(
        self, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "operator-token").write_text("op_here\n")
        monkeypatch.setenv("SMART_CITY_DATA_DIR", str(tmp_path))
        monkeypatch.setenv("SMART_CITY_TOKEN", "svc_set")

        run("status", url=desk.url)
        assert desk.authorization == "Bearer svc_set"

        run("status", "--token", "svc_given", url=desk.url)
        assert desk.authorization == "Bearer svc_given"

    def test_nobody_is_told_a_token_that_does_not_exist(self, desk: Desk) -> None:
        run("status", url=desk.url)

        assert desk.authorization is None

    def test_the_address_may_be_a_variable(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SMART_CITY_URL", desk.url)

        run("status")

        assert desk.path == "/api/health"


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_shows_how_it_is_typed(self, command: str) -> None:
        result = run(*command.split(), "--help")

        assert result.exit_code == 0
        assert f" smart-city {command}" in result.stdout

    def test_the_exit_codes_are_told(self) -> None:
        assert "Exit codes" in run("--help").stdout

    def test_the_command_line_loads_nothing_heavy_before_it_knows_what_is_wanted(self) -> None:
        """Each of these takes longer than everything else together, at every Tab and every start."""
        heavy = {"redis", "httpx2", "pydantic", "websockets", "fastapi", "mcp", "msgspec", "city_client"}
        told = "import city_hall.cli, sys; print(*{name.partition('.')[0] for name in sys.modules})"
        done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, timeout=60)
        assert heavy & set(done.stdout.split()) == set()
