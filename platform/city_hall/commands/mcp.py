"""``smart-city mcp``: the platform's MCP server on standard input and output."""

from __future__ import annotations

from city_hall.commands.options import talking
from city_hall.commands.remote import Remote


@talking
def mcp(remote: Remote) -> None:
    """Is an MCP server on stdin and stdout, for hosts that start their servers themselves.

    It passes every request on to a running platform: the same tools, resources,
    prompts and notifications. It ends when its host closes stdin, or on Ctrl-C.
    Hosts that speak HTTP need no bridge: theirs is URL/mcp with the token as bearer.

    \b
    [b]Examples[/b]
    smart-city mcp
    SMART_CITY_TOKEN=svc_… smart-city mcp --url https://city.example
    """
    from city_hall.bridge.standard_streams import serve

    remote.run(serve(remote.url, remote.found_token))
