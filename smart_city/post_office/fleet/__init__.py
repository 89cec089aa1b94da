"""The instances and their connections, as all of them see each other in the store."""

from smart_city.post_office.fleet.membership import Figures, Fleet

__all__ = ["Figures", "Fleet"]
