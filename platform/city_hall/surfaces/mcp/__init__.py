"""The city for MCP clients: operations as tools, channels as resources, and prompts, in both protocol eras."""

from city_hall.surfaces.mcp.surface import McpSurface, Reach

__all__ = ["McpSurface", "Reach"]
