"""Reading figures off the page that shows them."""

from __future__ import annotations

import pytest

from city_guides.figures import read_figures

PAGE = """# HELP websocket_messages_sent_total Frames sent.
# TYPE websocket_messages_sent_total counter
websocket_messages_sent_total{instance_id="here-8000"} 3.0
process_start_time_seconds 1.7e+09
calls_total{instance_id="here-8000",operation="reply"} 9.0
calls_total{operation="reply"} 9.0
websocket_message_latency_seconds_sum{instance_id="here-8000"} 0.25 1700000000
"""


def test_figures_are_found_by_name_whether_or_not_they_say_whose_they_are() -> None:
    figures = read_figures(PAGE)
    assert figures["websocket_messages_sent_total"] == 3
    assert figures["process_start_time_seconds"] == pytest.approx(1.7e9)
    assert figures["websocket_message_latency_seconds_sum"] == pytest.approx(0.25)


def test_figures_of_something_in_particular_are_left_out() -> None:
    assert "calls_total" not in read_figures(PAGE)
