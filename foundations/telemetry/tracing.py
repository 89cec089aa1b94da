"""Whether spans are exported, as the OpenTelemetry SDK's own variables say: by default they are not.

It reads which exporter is wanted and refuses those that are not here; all else in ``OTEL_*`` the SDK reads itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from foundations.settings import WrongSetting
from foundations.telemetry.spans import Traces

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_EXPORTER = "OTEL_TRACES_EXPORTER"


def traces_of(instance_id: str, environment: Mapping[str, str]) -> Traces:
    """Where spans go; nothing of OpenTelemetry's SDK is imported unless they go somewhere.

    Raises:
        WrongSetting: they are to go somewhere, or in some way, that is not known here.
    """
    if not _is_wanted(environment):
        return Traces()
    for variable in _PROTOCOLS:
        if protocol := environment.get(variable):
            _check(variable, protocol, "http/protobuf")
            break
    from foundations.telemetry.exporting import ExportedTraces

    try:
        return ExportedTraces(instance_id)
    except ValueError as error:
        raise WrongSetting(f"one of the variables OTEL_… cannot be used: {error}.") from None


def _is_wanted(environment: Mapping[str, str]) -> bool:
    exporter = environment.get(_EXPORTER, "")
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return False
    if exporter:
        _check(_EXPORTER, exporter, "otlp")
    return bool(exporter) or any(environment.get(variable) for variable in _ENDPOINTS)


def _check(variable: str, value: str, allowed: str) -> None:
    if value != allowed:
        raise WrongSetting(f"{variable} is {value!r}: it has to be {allowed}, or unset.")
