"""Rates of one credential's own: how they are asked for, what may be asked for, and how they are shown.

Being held to them is `limits`' work. Own rates only narrow: a session stays within its user's rates, a service's
token within its realm's, and whoever has own rates hands on no more than these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from foundations.errors import Forbidden
from foundations.operations import Arguments, Caller, Result
from foundations.rates import Rate
from smart_city.traffic_cop.limits import channel_limit
from smart_city.vocabulary import Grant


class OwnRate(Arguments):
    """So many a second in the long run, so many at once."""

    per_second: Annotated[float, Field(ge=0.01, le=1_000_000)]
    burst: Annotated[int, Field(ge=1, le=10_000_000)]

    @property
    def value(self) -> Rate:
        return Rate(self.per_second, self.burst)


class ShownRate(Result):
    """So many a second in the long run, so many at once."""

    per_second: float
    burst: int

    @classmethod
    def of(cls, rate: Rate) -> ShownRate:
        return cls(per_second=rate.per_second, burst=rate.burst)


Limited = Literal["messages", "calls"]
OwnRates = Annotated[
    dict[Limited, OwnRate],
    Field(description="rates of its own, within those of its user or realm and those of whoever makes it"),
]


def granted_rates(
    caller: Caller, wanted: Mapping[Limited, OwnRate] | None, most: Mapping[str, Rate]
) -> dict[str, Rate]:
    """The own rates of what ``caller`` makes: those wanted, and where none are, those that the caller has itself.

    ``most`` is what anybody of that kind has.

    Raises:
        Forbidden: a rate above that, or above the caller's own.
    """
    granted = {name: most[name].narrowed(rate) for name, rate in caller.rates.items()}
    for name, asked in (wanted or {}).items():
        _check_given(f"rates.{name}", asked.value, most[name].narrowed(caller.rates.get(name)))
        granted[name] = asked.value
    return granted


def check_grant_rates(caller: Caller, grants: Sequence[Grant], most: Mapping[str, Rate]) -> None:
    """Lets ``caller`` give grants with these rates.

    Raises:
        Forbidden: one that is above that of all messages, or above the caller's own.
    """
    highest = most["messages"].narrowed(caller.rates.get("messages"))
    for grant in grants:
        if grant.rate is not None:
            _check_given(f"channels.{grant.pattern}.rate", grant.rate, highest)


def shown_rates(rates: Mapping[str, Rate], grants: Sequence[Grant] = ()) -> dict[str, ShownRate] | None:
    """Own rates and those of grants, by the names of limits; None for none, so that they are left out."""
    granted = {channel_limit(grant.pattern): grant.rate for grant in grants if grant.rate is not None}
    return {name: ShownRate.of(rate) for name, rate in {**rates, **granted}.items()} or None


def _check_given(field: str, rate: Rate, highest: Rate) -> None:
    if not rate.within(highest):
        raise Forbidden(f"{field}: {rate} is above {highest} (a second/at once), the most that you can give")
