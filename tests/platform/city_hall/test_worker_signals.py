"""What a worker does at its signal: at once while it opens, in good order while it serves, truthfully at its end."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from tests.support.serving import Serving, wait_until


def test_a_worker_that_waits_for_a_valkey_that_is_not_there_ends_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"redis://127.0.0.1:{deaf.getsockname()[1]}"
        with Serving(tmp_path / "city", "--no-demo", settings={"VALKEY_URL": url}) as city:
            wait_until(lambda: "waiting up to" in city.said, "it waits", 30)
            city.signal(signal.SIGTERM)
            assert city.ended(8) == 0
            assert "is killed" not in city.said
