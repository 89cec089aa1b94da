"""What programs get with ``--json``: one document on stdout, failures as JSON on stderr. And who was let in."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.serving import Serving, wait_until
from tests.support.shells import Shell, shell_environment
from tests.support.terminal import terminal

SHAPES: dict[str, set[str]] = {
    "publish guide '{}'": {"status", "channel", "message_id", "offset", "epoch", "subscribers"},
    "call": {"operations"},
    "call post_office.get_connection_count": {"global", "by_channel", "by_instance", "users"},
    "status": {"url", "status", "services", "connections", "queues"},
    "channels": {"channels"},
    "connections": {"total", "connections", "silent_instances"},
    "session create --user json": {"session_id", "session_token", "user_id", "status", "expires_at"},
    "session list --user json": {"user_id", "total", "sessions"},
    "session revoke --user json": {"revoked"},
    "token create --realm json": {"token", "token_id", "realm", "scopes", "created_at"},
    "token list": {"tokens"},
    "token revoke 0123456789abcdef": {"revoked"},
}


@pytest.mark.parametrize("command", SHAPES)
def test_a_command_prints_one_document_of_its_shape(command: str, typed: Shell) -> None:
    done = typed(f"smart-city {command} --json")

    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout).keys() == SHAPES[command]
    assert done.stderr == ""


def failure(typed: Shell, command: str, status: int, **environment: str) -> dict[str, Any]:
    done = typed(command, status=status, **environment)
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    error: dict[str, Any] = json.loads(done.stderr)["error"]
    assert error["exit_code"] == status
    assert error["message"]
    return error


def test_failures_are_one_line_of_json_whatever_fails(typed: Shell, tmp_path: Path) -> None:
    nobody = {"SMART_CITY_URL": f"http://127.0.0.1:{free_port()}"}
    assert failure(typed, "smart-city publish nowhere:x '{}' --json", 1)["code"] == "unknown_channel"
    assert failure(typed, "smart-city publish guide --json", 2)["code"] == "wrong_usage"
    assert failure(typed, "smart-city publish guide '[' --json", 2)["code"] == "wrong_usage"
    assert failure(typed, "smart-city sing --json", 2)["code"] == "wrong_usage"
    assert failure(typed, "smart-city status --url somewhere --json", 2)["code"] == "wrong_usage"
    assert failure(typed, "smart-city status --json", 3, **nobody)["code"] == "unreachable"
    assert failure(typed, "smart-city listen guide --json", 3, **nobody)["code"] == "unreachable"
    assert failure(typed, "smart-city token list --json --token svc_none", 1)["code"] == "unauthenticated"
    assert failure(typed, "smart-city serve --json", 2, SMART_CITY_PORT="high")["code"] == "wrong_setting"
    (tmp_path / "file").touch()
    refused = failure(typed, f"smart-city serve --json --port 0 --data-dir {tmp_path}/file/x", 1)
    assert refused["code"] == "start_refused"


def test_a_token_that_is_not_taken_is_said_beside_what_everybody_may_see(typed: Shell) -> None:
    done = typed("smart-city status --json --token svc_none", status=1)
    told = json.loads(done.stdout)
    assert json.loads(done.stderr)["error"]["code"] == "unauthenticated"
    assert told["status"] == "healthy"
    assert told["refused"]["code"] == "unauthenticated"


def test_what_can_be_no_token_and_what_is_secret_in_a_url_are_not_repeated(typed: Shell) -> None:
    done = typed("smart-city status --token 'not to be told'", status=2)
    assert "not to be told" not in done.stdout + done.stderr
    nobody = f"ws://me:nottold@127.0.0.1:{free_port()}/ws?session_token=ses_nottold"
    done = typed(f"smart-city status --url '{nobody}'", status=3)
    assert "nottold" not in done.stdout + done.stderr


def test_a_refused_argument_is_named(typed: Shell) -> None:
    error = failure(typed, """smart-city call post_office.get_channel_history '{"chanel": "guide"}' --json""", 1)
    assert {problem["field"] for problem in error["errors"]} == {"channel", "chanel"}


class TestLettingIn:
    def test_sessions_are_made_listed_and_ended(self, typed: Shell) -> None:
        token = typed("smart-city session create --user lena --channel guide:subscribe --ttl 600").stdout.strip()
        assert token.startswith("ses_")
        [session] = json.loads(typed("smart-city session list --user lena --json").stdout)["sessions"]
        shown = typed("smart-city session list --user lena").stdout
        assert session["session_id"] in shown
        assert token not in shown

        assert json.loads(typed(f"smart-city session revoke {session['session_id']} --json").stdout) == {"revoked": 1}
        assert typed("smart-city session revoke --user lena").stdout.startswith("No session")
        assert json.loads(typed("smart-city session list --user lena --json").stdout)["sessions"] == []

    def test_tokens_are_made_listed_and_ended(self, typed: Shell) -> None:
        scope = "--scope post_office.publish --ttl 600"
        made = json.loads(typed(f"smart-city token create --realm lists {scope} --json").stdout)
        shown = typed("smart-city token list --realm lists").stdout
        assert made["token_id"] in shown
        assert made["token"] not in shown
        assert "post_office.publish" in shown

        assert typed(f"smart-city token revoke {made['token_id']}").stdout == "1 token ended.\n"
        assert json.loads(typed("smart-city token list --realm lists --json").stdout) == {"tokens": []}

    @pytest.mark.parametrize("words", ["session revoke", "session revoke abc --user lena", "token revoke"])
    def test_it_has_to_be_said_whom_to_revoke(self, words: str, typed: Shell) -> None:
        typed(f"smart-city {words}", status=2)


def test_channels_are_listed_with_their_queues(typed: Shell) -> None:
    found = {one["channel"]: one for one in json.loads(typed("smart-city channels --json").stdout)["channels"]}
    assert found["guide"]["queue"].keys() >= {"depth", "capacity", "consumers"}
    assert "pillar:insights" in typed("smart-city channels").stdout


def test_connections_are_listed_by_who_and_where(typed: Shell) -> None:
    agents = json.loads(typed("smart-city connections --channel pillar:insights --json").stdout)["connections"]
    assert [one["user_id"] for one in agents] == ["~insights"]
    assert agents[0]["connection_id"] in typed("smart-city connections --user '~insights'").stdout


def test_operations_are_listed_with_what_they_do(typed: Shell) -> None:
    found = {one["operation"]: one for one in json.loads(typed("smart-city call --json").stdout)["operations"]}
    assert found["post_office.list_channels"]["summary"]
    assert "create_session" in typed("smart-city call").stdout


def test_a_long_call_says_so_on_a_terminals_stderr_only(typed: Shell, open_city: Serving) -> None:
    consumer = json.loads(
        typed("""smart-city call post_office.subscribe_to_channel '{"channel": "guide", "mode": "log"}'""").stdout
    )["consumer"]
    wait = json.dumps({"consumer": consumer, "wait_ms": 1500})
    line = f"smart-city call post_office.receive_messages '{wait}'"
    assert typed(line).stderr == ""
    with terminal() as screen:
        environment = shell_environment(open_city, TERM="xterm")
        process = subprocess.Popen(
            ["bash", "-c", line], stdout=subprocess.DEVNULL, stderr=screen.theirs, env=environment
        )
        assert process.wait(30) == 0
        wait_until(lambda: "waiting for" in screen.drawn, "it is said that it goes on")
