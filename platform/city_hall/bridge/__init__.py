"""The bridge: the platform's MCP server on standard input and output, for hosts that start their servers themselves.

It adds nothing and remembers nothing: every request is the platform's to answer, in its words. `upstream` is the way
there, `server` what hosts see, `standard_streams` how it begins and ends.
"""
