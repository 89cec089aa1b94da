"""Settings: read from the environment, refused in a sentence, and misspelt ones told."""

from __future__ import annotations

import resource

import pytest

from foundations.rates import Rate
from foundations.settings import RESERVED_FILES, Settings, WrongSetting, connections_possible, misspelt


def test_variables_become_settings_and_given_values_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMART_CITY_PORT", "9000")
    monkeypatch.setenv("SMART_CITY_ALLOWED_ORIGINS", "https://a.example, https://b.example")
    monkeypatch.setenv("INSTANCE_ID", "instance-1")
    settings = Settings.read(host="10.0.0.1")
    assert (settings.port, settings.host, settings.instance_id) == (9000, "10.0.0.1", "instance-1")
    assert settings.allowed_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SMART_CITY_PORT", "70000", "SMART_CITY_PORT is '70000'"),
        ("SMART_CITY_HEARTBEAT_SECONDS", "0", "greater than 0"),
        ("SMART_CITY_LOG_LEVEL", "loud", "SMART_CITY_LOG_LEVEL"),
        ("SMART_CITY_VALKEY_KEY_PREFIX", "{x}", "SMART_CITY_VALKEY_KEY_PREFIX"),
        ("INSTANCE_ID", "a b", "INSTANCE_ID"),
        ("SMART_CITY_OPERATION_RATES", "post_office.get_channel_history", "SMART_CITY_OPERATION_RATES"),
        ("SMART_CITY_OPERATION_RATES", "post_office.get_channel_history=fast", "as in 50/100"),
        ("SMART_CITY_TRUSTED_PROXIES", "10.0.0.1, traefik", "SMART_CITY_TRUSTED_PROXIES.*'traefik'"),
        ("SMART_CITY_ALLOWED_ORIGINS", "https://a.example, https://b.example/", "'https://b.example/'"),
        ("SMART_CITY_ALLOWED_ORIGINS", "*", "SMART_CITY_ALLOWED_ORIGINS"),
        ("SMART_CITY_PUBLIC_URL", "city.example", "as in https://city.example"),
        ("SMART_CITY_SESSION_SHARE", "1.5", "less than or equal to 1"),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongSetting, match=told):
        Settings.read()


def test_rates_of_operations_are_read_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMART_CITY_OPERATION_RATES", "post_office.get_channel_history=50/100, traffic_cop.x=0.5/3")
    read = Settings.read().operation_rates
    assert read == {"post_office.get_channel_history": Rate(50, 100), "traffic_cop.x": Rate(0.5, 3)}


def test_a_secret_is_not_told() -> None:
    with pytest.raises(WrongSetting) as wrong:
        Settings.read(operator_token=["op_secret"])
    assert "op_secret" not in str(wrong.value)
    assert "op_secret" not in repr(Settings.read(operator_token="op_secret"))


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.read().port = 1


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "ws://127.0.0.1:8000/ws"),
        ({"host": "::1"}, "ws://[::1]:8000/ws"),
        ({"public_url": "https://city.example/"}, "wss://city.example/ws"),
    ],
)
def test_the_public_address_follows_from_the_bind_address_or_is_said(given: dict[str, str], url: str) -> None:
    assert Settings.read(**given).public_ws_url == url


def test_the_origin_of_our_own_pages_is_the_public_address_without_its_path() -> None:
    assert Settings.read(public_url="https://city.example:8443/mounted/").public_origin == "https://city.example:8443"


def test_misspelt_variables_are_told_with_what_was_meant() -> None:
    environment = {
        "SMART_CITY_MAX_CONECTIONS": "5",
        "SMART_CITY_URL": "x",
        "SMART_CITY_TEST_REQUIRE": "all",
        "PATH": "/",
    }
    assert misspelt(environment) == {"SMART_CITY_MAX_CONECTIONS": "SMART_CITY_MAX_CONNECTIONS"}
    assert misspelt({"SMART_CITY_QQQQQQQQQQQQQQQQQQQQQQQQQ": ""}) == {"SMART_CITY_QQQQQQQQQQQQQQQQQQQQQQQQQ": ""}


def test_connections_stay_below_the_limit_of_open_files() -> None:
    assert connections_possible(1) == 1
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        assert connections_possible(hard * 2) == hard - RESERVED_FILES
