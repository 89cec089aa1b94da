"""Tools to find out whether a deployment keeps its promises while its parts and its network fail.

They stand outside the platform and import nothing of it; `faulting_proxy` is the network that fails.
"""
