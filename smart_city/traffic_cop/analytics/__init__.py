"""Traffic analytics: what every instance counted, minute by minute, kept in Valkey for a day."""

from smart_city.traffic_cop.analytics.operations import Analytics
from smart_city.traffic_cop.analytics.recorder import Recorder

__all__ = ["Analytics", "Recorder"]
