"""Addresses, from whichever URL is at hand."""

from __future__ import annotations

import pytest

from city_client.addresses import Address


@pytest.mark.parametrize(
    ("url", "http", "socket"),
    [
        ("http://h:8000", "http://h:8000", "ws://h:8000/ws"),
        ("https://h/", "https://h", "wss://h/ws"),
        ("ws://h:1/ws", "http://h:1", "ws://h:1/ws"),
        ("wss://h/city/ws", "https://h/city", "wss://h/city/ws"),
        ("http://[::1]:8000", "http://[::1]:8000", "ws://[::1]:8000/ws"),
    ],
)
def test_any_url_of_the_platform_names_both_ends(url: str, http: str, socket: str) -> None:
    address = Address.parse(url)
    assert (address.http, address.socket()) == (http, socket)
    assert address.socket("c 1") == socket + "?resume=c+1"


def test_a_token_is_taken_out_of_the_url_and_never_shown() -> None:
    address = Address.parse("ws://user:password@h/ws?session_token=ses_1")
    assert address.token == "ses_1"
    assert address.with_token("ses_2").token == "ses_2"
    for shown in (repr(address), address.http, address.socket("c1")):
        assert "ses_" not in shown
        assert "password" not in shown
    assert Address.parse("ws://h/ws?session_token=ses_1", "given").token == "given"


@pytest.mark.parametrize("token", ["two words", "a\nb", "t\u00f6ken"])
def test_what_can_be_no_token_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(ValueError, match="ASCII") as refusal:
        Address.parse("http://h", token)
    assert token not in str(refusal.value)


@pytest.mark.parametrize("url", ["", "h:8000", "ftp://h", "http://"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Address.parse(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost", "ws://[::1]:9/ws", "http://127.8.8.8"])
def test_an_address_on_this_machine_is_known_as_one(url: str) -> None:
    assert Address.parse(url).is_on_this_machine


@pytest.mark.parametrize("url", ["http://example", "https://127.example", "http://localhost.example"])
def test_an_address_elsewhere_is_none(url: str) -> None:
    assert not Address.parse(url).is_on_this_machine
