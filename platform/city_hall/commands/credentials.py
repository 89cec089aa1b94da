"""``session`` and ``token``: letting users and programs in, seeing who was let in, and ending that."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from city_hall.commands.options import talking
from city_hall.commands.printing import say, show
from city_hall.commands.remote import Remote
from city_hall.commands.tables import Rows


def add_to(app: typer.Typer, panel: str) -> None:
    """Adds both groups."""
    sessions = typer.Typer(no_args_is_help=True, help="Sessions of users: create, list, revoke.")
    sessions.command("create", no_args_is_help=True)(create_session)
    sessions.command("list")(list_sessions)
    sessions.command("revoke", no_args_is_help=True)(revoke_session)
    tokens = typer.Typer(no_args_is_help=True, help="Tokens of services and agents: create, list, revoke.")
    tokens.command("create", no_args_is_help=True)(create_token)
    tokens.command("list")(list_tokens)
    tokens.command("revoke", no_args_is_help=True)(revoke_token)
    app.add_typer(sessions, name="session", rich_help_panel=panel)
    app.add_typer(tokens, name="token", rich_help_panel=panel)


@talking
def create_session(
    remote: Remote,
    user: Annotated[str, typer.Option(help="The user's id.")],
    ttl: Annotated[int | None, typer.Option(min=1, help="How long the token lives, in seconds.")] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:RIGHT,…",
            help="Rights on a channel: subscribe, send, history, publish. May be repeated. Without any, the "
            "session may subscribe, send and read history on the agent channels.",
        ),
    ] = None,
) -> None:
    """Makes a session for a user; prints its token and nothing else, or with --json all about it.

    \b
    [b]Examples[/b]
    smart-city session create --user alice
    smart-city session create --user alice --ttl 600 --channel 'pillar:*:subscribe,send'
    """
    wanted: dict[str, Any] = {"user_id": user}
    if ttl is not None:
        wanted["ttl_seconds"] = ttl
    if channel:
        grants: dict[str, list[str]] = {}
        for name, rights in map(_grant, channel):
            grants[name] = [*grants.get(name, []), *rights]
        wanted["channels"] = grants
    _show_secret(remote, remote.call("traffic_cop.create_session", wanted), "session_token")


@talking
def list_sessions(
    remote: Remote,
    user: Annotated[str | None, typer.Option(help="Only those of this user.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many at most.")] = 100,
) -> None:
    """Lists living sessions, without their tokens: everybody's or a user's.

    \b
    [b]Examples[/b]
    smart-city session list
    smart-city session list --user alice --json
    """
    found = remote.call("traffic_cop.list_sessions", {"limit": limit} | ({} if user is None else {"user_id": user}))
    rows = Rows("session", "user", "until (UTC)", "may", title=f"Living sessions: {found['total']}")
    for one in found["sessions"]:
        rights = "\n".join(f"{name}: {', '.join(may)}" for name, may in one["channels"].items())
        rows.add_row(one["session_id"], one["user_id"], _moment(one["expires_at"]), rights)
    show(found, is_json=remote.is_json, as_people_read_it=rows)


@talking
def revoke_session(
    remote: Remote,
    session_id: Annotated[str | None, typer.Argument(metavar="SESSION", help="Its id, of session list.")] = None,
    user: Annotated[str | None, typer.Option(help="All sessions of this user.")] = None,
) -> None:
    """Ends one session, or all of a user; their sockets close within a second, everywhere.

    \b
    [b]Examples[/b]
    smart-city session revoke --user alice
    smart-city session revoke 0123456789abcdef0123456789abcdef
    """
    if (session_id is None) == (user is None):
        raise typer.BadParameter("name either a SESSION or a --user")
    wanted = {"session_id": session_id} if session_id is not None else {"user_id": user}
    ended = remote.call("traffic_cop.revoke_session", wanted)
    show(ended, is_json=remote.is_json, as_people_read_it=_ended(ended["revoked"], "session"))


@talking
def create_token(
    remote: Remote,
    realm: Annotated[str, typer.Option(help="The name of the service or agent.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="What it may do, as in post_office.publish. May be repeated.")
    ] = None,
    ttl: Annotated[
        int | None, typer.Option(min=1, help="How long it lives, in seconds; until it is revoked if left out.")
    ] = None,
) -> None:
    """Makes a token for a service or an agent; prints it and nothing else, or with --json all about it.

    Without a scope it may do nothing.

    \b
    [b]Examples[/b]
    smart-city token create --realm content --scope post_office.publish
    smart-city token create --realm concierge --scope post_office.consume --ttl 86400
    """
    wanted: dict[str, Any] = {"realm": realm, "scopes": scope or []}
    if ttl is not None:
        wanted["ttl_seconds"] = ttl
    _show_secret(remote, remote.call("traffic_cop.create_service_token", wanted), "token")


@talking
def list_tokens(
    remote: Remote, realm: Annotated[str | None, typer.Option(help="Only those of this service or agent.")] = None
) -> None:
    """Lists living tokens of services and agents, without their texts.

    \b
    [b]Examples[/b]
    smart-city token list
    smart-city token list --realm content --json
    """
    found = remote.call("traffic_cop.list_service_tokens", {} if realm is None else {"realm": realm})
    rows = Rows("token", "realm", "until (UTC)", "may", title=f"Living tokens: {len(found['tokens'])}")
    for one in found["tokens"]:
        until = _moment(one["expires_at"]) if "expires_at" in one else "it is revoked"
        rows.add_row(one["token_id"], one["realm"], until, "\n".join(one["scopes"]))
    show(found, is_json=remote.is_json, as_people_read_it=rows)


@talking
def revoke_token(
    remote: Remote, token_id: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="Its id, of token list.")]
) -> None:
    """Ends a token of a service or an agent; its sockets close within a second, everywhere.

    \b
    [b]Examples[/b]
    smart-city token revoke 3f9a1c5e7b2d4860
    """
    ended = remote.call("traffic_cop.revoke_service_token", {"token_id": token_id})
    show(ended, is_json=remote.is_json, as_people_read_it=_ended(ended["revoked"], "token"))


def _show_secret(remote: Remote, made: dict[str, Any], field: str) -> None:
    """The secret alone, so that a script can take it as it is."""
    if remote.is_json:
        show(made, is_json=True)
    else:
        say(made[field])


def _ended(count: int, what: str) -> str:
    if count == 0:
        return f"No {what} ended: there was none, or it had ended before."
    return f"{count} {what}{'' if count == 1 else 's'} ended."


def _moment(rfc3339: str) -> str:
    """To the minute, which is what people look for."""
    return rfc3339[:16].replace("T", " ")


def _grant(text: str) -> tuple[str, list[str]]:
    """``pillar:*:subscribe,history``: the last colon separates the rights."""
    name, colon, rights = text.rpartition(":")
    if not (colon and name and rights):
        raise typer.BadParameter(f"{text!r} is not NAME:RIGHT,RIGHT as in guide:subscribe,send")
    return name, [right.strip() for right in rights.split(",")]
