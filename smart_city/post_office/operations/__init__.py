"""What the city may ask of the Post Office: publishing, living on a channel as an agent, and looking around."""

from smart_city.post_office.operations.agents import Agents
from smart_city.post_office.operations.connections import Connections
from smart_city.post_office.operations.dead_letters import DeadLetters
from smart_city.post_office.operations.observing import Observing
from smart_city.post_office.operations.publishing import Publishing

__all__ = ["Agents", "Connections", "DeadLetters", "Observing", "Publishing"]
