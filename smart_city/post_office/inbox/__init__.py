"""The agents' inboxes: questions wait here in lanes until somebody has dealt with them."""

from smart_city.post_office.inbox.questions import Delivery, Holder, InboxLimits, InboxStatus, Question, Queued, Route
from smart_city.post_office.inbox.store import Inbox

__all__ = ["Delivery", "Holder", "Inbox", "InboxLimits", "InboxStatus", "Question", "Queued", "Route"]
