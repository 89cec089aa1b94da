"""What a page of metrics says, as a scraper reads it."""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families


class Series(NamedTuple):
    """One time series without its instance: the sample's name, and its labels."""

    name: str
    labels: frozenset[tuple[str, str]]


def families(page: str) -> dict[str, Metric]:
    """The families by name."""
    return {family.name: family for family in text_string_to_metric_families(page)}


def samples(page: str) -> dict[Series, float]:
    """The values by series."""
    return {
        Series(sample.name, frozenset((k, v) for k, v in sample.labels.items() if k != "instance_id")): sample.value
        for family in families(page).values()
        for sample in family.samples
    }


def series(name: str, **labels: str) -> Series:
    """A series as `samples` names it."""
    return Series(name, frozenset(labels.items()))
