"""The city for MCP clients: operations as tools, channels as resources, and prompts, in both protocol eras."""
