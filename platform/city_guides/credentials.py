"""A token of its own for each agent, with no more rights than it needs.

The operator's token can issue them, a service's cannot: then all agents share the one that was given.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from city_client import ClientError, Operations, Refused
from city_guides.specialist import Specialist

TOKEN_SECONDS = 24 * 3600
"""Tokens outlive a crash of their agent for no longer than this; a longer run gets new ones."""
REVOKE_SECONDS = 0.5
"""A platform that is going away is not waited for."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def token_for(specialist: Specialist, city: Operations, given: str) -> AsyncIterator[str]:
    """A token for the agent, revoked on leaving; ``given`` itself if it cannot issue others."""
    wanted = {"realm": specialist.realm, "scopes": list(specialist.scopes), "ttl_seconds": TOKEN_SECONDS}
    try:
        issued = await city.call("traffic_cop.create_service_token", wanted)
    except Refused as refused:
        if refused.code != "forbidden":
            raise
        yield given
        return
    try:
        yield str(issued["token"])
    finally:
        try:
            async with asyncio.timeout(REVOKE_SECONDS):
                await city.call("traffic_cop.revoke_service_token", {"token_id": issued["token_id"]})
        except (ClientError, TimeoutError) as error:
            logger.info("the token of %s was not revoked, and expires: %s", specialist.realm, error)
