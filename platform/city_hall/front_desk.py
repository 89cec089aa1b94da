"""The console's front desk: opens and closes sessions for people at this machine, through Traffic Cop's operations.

It decides nothing about who may ask; `surfaces.console` does.
"""

from __future__ import annotations

from datetime import datetime

from foundations.errors import NotFound, Unauthenticated
from smart_city.traffic_cop.identities import OPERATOR_IDENTITY
from smart_city.traffic_cop.operations import TrafficCop


class FrontDesk:
    """Sessions for the console, with the default grants."""

    def __init__(self, traffic_cop: TrafficCop) -> None:
        self._traffic_cop = traffic_cop

    async def open(self, user_id: str) -> tuple[str, float]:
        """Opens a session; its token, and when it expires in seconds since 1970."""
        created = await self._traffic_cop.create_session(OPERATOR_IDENTITY, user_id, "console")
        return created.session_token, datetime.fromisoformat(created.expires_at).timestamp()

    async def close(self, token: str) -> None:
        """Revokes the session behind the token; one that is unknown or over is no error."""
        try:
            session = await self._traffic_cop.validate_session(OPERATOR_IDENTITY, token)
            await self._traffic_cop.revoke_session(OPERATOR_IDENTITY, session_id=session.session_id)
        except (Unauthenticated, NotFound):
            return
