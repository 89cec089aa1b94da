"""Which traces are recorded: as the sampler decides at their beginning, and as it reads in whose they continue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from foundations.settings import WrongSetting
from foundations.telemetry import Traces, is_sampled, trace_id_of, traces_of
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED, UNSAMPLED = (f"00-{TRACE}-00f067aa0ba902b7-{flags}" for flags in ("01", "00"))
Sampling = Callable[[str, str], Traces]


@pytest.fixture
async def sampled_by(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sampling]:
    """Traces with this sampler, which nobody will take."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    async with AsyncExitStack() as stack:

        def traces(sampler: str, argument: str) -> Traces:
            monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
            monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
            made = traces_of("instance-1", {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
            stack.push_async_callback(made.close, 0.1)
            return made

        yield traces


def test_what_nobody_records_is_continued_all_the_same() -> None:
    traces = Traces()
    assert not traces.is_on
    assert trace_id_of(traces.begin(SAMPLED)) == TRACE
    assert traces.start("deliver guide", "consumer", {}, parent=SAMPLED) is None


async def test_new_traces_are_sampled_at_the_ratio(sampled_by: Sampling) -> None:
    traces = sampled_by("parentbased_traceidratio", "0.01")
    sampled = sum(is_sampled(traces.begin()) for _ in range(20_000))
    assert 120 < sampled < 280, "of 20 000 at 1 %; six standard deviations around 200"


async def test_a_caller_decides_where_the_sampler_leaves_it_to_parents(sampled_by: Sampling) -> None:
    traces = sampled_by("parentbased_traceidratio", "0")
    assert is_sampled(traces.begin(SAMPLED))
    assert not is_sampled(traces.begin(UNSAMPLED))
    assert not is_sampled(traces.begin("nonsense"))


async def test_a_caller_decides_nothing_where_the_sampler_is_for_all(sampled_by: Sampling) -> None:
    assert not is_sampled(sampled_by("always_off", "").begin(SAMPLED))
    assert is_sampled(sampled_by("always_on", "").begin(UNSAMPLED))


async def test_only_what_is_sampled_has_spans_and_they_have_the_ids_of_their_contexts(sampled_by: Sampling) -> None:
    traces = sampled_by("parentbased_always_on", "")
    context = traces.begin(SAMPLED)
    span = traces.start("call", "server", {}, context=context, parent=SAMPLED)
    assert span is not None
    assert span.context == context
    assert traces.start("call", "server", {}, context=traces.begin(UNSAMPLED)) is None
    assert traces.start("deliver guide", "consumer", {}, parent=UNSAMPLED) is None
    span.end()


async def test_an_end_waits_no_longer_than_it_may_for_a_collector_that_hangs(
    sampled_by: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    held: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        monkeypatch.setenv(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        )
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        traces = sampled_by("always_on", "")
        span = traces.start("call", "server", {}, context=traces.begin())
        assert span is not None
        span.end()
        async with asyncio.timeout(PATIENCE):
            await traces.close(0.1)
        for writer in held:
            writer.close()


@pytest.mark.parametrize(
    "environment",
    [
        {}, {"OTEL_SERVICE_NAME": "city"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector", "OTEL_TRACES_EXPORTER": "none"},
    ],
)  # fmt: skip
def test_without_a_place_to_go_nothing_is_recorded(environment: dict[str, str]) -> None:
    assert not traces_of("instance-1", environment).is_on


def test_a_value_that_the_sdk_refuses_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    with pytest.raises(WrongSetting, match="OTEL_"):
        traces_of("instance-1", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector"})


@pytest.mark.parametrize(
    ("variable", "value"),
    [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_TRACES_EXPORTER", "zipkin")],
)
def test_an_exporter_that_is_not_here_stops_the_start(variable: str, value: str) -> None:
    with pytest.raises(WrongSetting, match=variable):
        traces_of("instance-1", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector", variable: value})
