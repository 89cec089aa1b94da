"""Rate limits: what everybody may do how often, on all instances together."""

from smart_city.traffic_cop.limits.bucket import Bucket
from smart_city.traffic_cop.limits.limits import Limits, channel_limit

__all__ = ["Bucket", "Limits", "channel_limit"]
