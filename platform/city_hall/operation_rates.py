"""How often one caller may call which operation: as it is declared, or as the settings say instead."""

from __future__ import annotations

from collections.abc import Mapping

from city_hall.surfaces.catalogue import Catalogue
from foundations.rates import Rate
from foundations.settings import WrongSetting


def operation_rates(catalogue: Catalogue, settings: Mapping[str, Rate]) -> dict[str, Rate]:
    """Rates by ``service.operation``, for those that have any.

    Raises:
        WrongSetting: one for an operation that does not exist.
    """
    declared = {entry.operation.full_name: entry.operation.declared.rate for entry in catalogue}
    if unknown := sorted(settings.keys() - declared.keys()):
        raise WrongSetting(
            f"SMART_CITY_OPERATION_RATES names {unknown[0]!r}, which is no operation (service.operation)."
        )
    return {name: rate for name, rate in (declared | dict(settings)).items() if rate is not None}
