"""The channel log: what is published, in order, for as long as it is kept, and the bus that tells of it."""

from smart_city.post_office.log.channel_log import ChannelLog
from smart_city.post_office.log.patience import Patience
from smart_city.post_office.log.values import Appended, Entry, Gone, LogLimits, Page, Reason, Retention, Stretch

__all__ = ["Appended", "ChannelLog", "Entry", "Gone", "LogLimits", "Page", "Patience", "Reason", "Retention", "Stretch"]
