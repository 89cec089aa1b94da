"""The arguments of the Traffic Cop's operations: what each may be, and what documentation says of it.

Declarations only; what needs more than a pattern or a range to be judged is judged where it is used.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from smart_city import vocabulary
from smart_city.traffic_cop.grants import GRANT_PATTERN, MAX_GRANTS, ChannelGrant
from smart_city.vocabulary import SCOPES, JsonObject

_LONGEST_SESSION = 30 * 86_400
_LONGEST_SERVICE_TOKEN = 10 * 365 * 86_400
_SOME_ID = StringConstraints(min_length=1, max_length=128)

UserId = Annotated[vocabulary.UserId, Field(description="the id of a user, as in alice; it does not begin with ~")]
SessionType = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$"),
    Field(description="what kind of client it is for, in your own words, as in web"),
]
Context = Annotated[
    JsonObject,
    Field(description="what agents shall know of the user; goes with every message, at most 16 KiB"),
]
SessionSeconds = Annotated[int, Field(ge=1, le=_LONGEST_SESSION, description="how long the token lives, in seconds")]
Channels = Annotated[
    dict[str, ChannelGrant],
    Field(
        description="rights by channel, or an object of rights and a rate for sending; a name with * at its end "
        "stands for all that begin like it",
        json_schema_extra={"propertyNames": {"pattern": GRANT_PATTERN}, "maxProperties": MAX_GRANTS},
    ),
]
SessionToken = Annotated[
    str, StringConstraints(min_length=1, max_length=4096), Field(description="a session token, ses_…")
]
SessionId = Annotated[str, _SOME_ID, Field(description="the id of a session; no secret")]
ListLimit = Annotated[int, Field(ge=1, le=500, description="how many to describe at most")]

Realm = Annotated[vocabulary.Realm, Field(description="the name of the service, as in content; operator is reserved")]
Scopes = Annotated[
    list[Annotated[str, Field(json_schema_extra={"enum": list(SCOPES)})]],
    Field(max_length=len(SCOPES), description="what the token may do"),
]
ServiceTokenSeconds = Annotated[
    int,
    Field(ge=1, le=_LONGEST_SERVICE_TOKEN, description="how long it lives, in seconds; else until revoked"),
]
TokenId = Annotated[str, _SOME_ID, Field(description="the id that list_service_tokens shows")]

Subject = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9._~@|:-]{1,128}$"),
    Field(
        description="a user's id, or ~ and a realm for a service; for session and token limits their id, for address "
        "limits an address"
    ),
]
LimitName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z_]{1,64}(\.[A-Za-z0-9._~@|:*-]{1,160})?$"),
    Field(
        description="messages, calls, session.messages, session.calls, token.messages, token.calls, "
        "channel.PATTERN, address.handshakes, address.failures, or the service.operation of one that has a rate"
    ),
]
