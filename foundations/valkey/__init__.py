"""Valkey as the platform uses it: one server or a cluster, scripts, what is heard, a server of its own on a laptop.

It speaks Valkey's words (keys, scripts, shard channels) and deliberately knows nothing of what is kept there.
"""

from foundations.valkey.address import shown_url
from foundations.valkey.client import Valkey, WrongStore
from foundations.valkey.embedded import EmbeddedServer, ServerFailed, ServerHung, UnusableDataDir
from foundations.valkey.launch import NoServer
from foundations.valkey.refusals import NotCopied
from foundations.valkey.scripts import Script
from foundations.valkey.subscriptions import Subscriptions

__all__ = [
    "EmbeddedServer",
    "NoServer",
    "NotCopied",
    "Script",
    "ServerFailed",
    "ServerHung",
    "Subscriptions",
    "UnusableDataDir",
    "Valkey",
    "WrongStore",
    "shown_url",
]
