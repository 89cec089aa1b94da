"""The lives of a store: a new one that has everything of the one before, or only what an earlier copy had.

It is what a promoted replica does, in one moment: nobody can write in between. Only keys of one client are touched.
"""

from __future__ import annotations

from foundations.valkey.client import Valkey
from tests.support.valkey import plainly

_COPY = """
local found = {}
for _, name in ipairs(redis.call('KEYS', ARGV[1] .. 'log:*')) do
  found[#found + 1], found[#found + 2] = name, redis.call('DUMP', name)
end
return found
"""

Copy = dict[bytes, bytes]


async def copy_of(valkey: Valkey) -> Copy:
    """All logs as they are at one moment."""
    found = await valkey.command("EVAL", _COPY, 0, valkey.prefix)
    return dict(zip(found[::2], found[1::2], strict=True))


async def begin_new_life(valkey: Valkey, copy: Copy | None = None) -> None:
    """Promotes the store; with a ``copy`` it has nothing else."""
    async with plainly(valkey) as client, client.pipeline(transaction=True) as together:
        together.execute_command("REPLICAOF", "127.0.0.1", "1")
        together.execute_command("REPLICAOF", "NO", "ONE")
        if copy is not None:
            for name in await copy_of(valkey):
                together.execute_command("DEL", name)
            for name, value in copy.items():
                together.execute_command("RESTORE", name, 0, value, "REPLACE")
        await together.execute()
