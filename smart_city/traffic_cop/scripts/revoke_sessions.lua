-- Ends sessions of one user with all their tokens: the one named, or those that end first.
--
-- KEYS    the user's sessions (id by end), the sessions of the whole shard (id by end),
--         one that never exists
-- ARGV    what the names of sessions, of their token indexes and of tokens begin with (all in this slot),
--         how many to end at most, and the id of the one to end (empty: any)
-- Returns how many were taken out of the index, and how many of those still stood
local session_stem, tokens_stem, token_stem, most, named = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local ids = named ~= '' and { named } or redis.call('ZRANGE', KEYS[1], 0, most - 1)
local ended = 0
for _, id in ipairs(ids) do
  for _, digest in ipairs(redis.call('ZRANGE', tokens_stem .. id, 0, -1)) do
    redis.call('DEL', token_stem .. digest)
  end
  ended = ended + redis.call('DEL', session_stem .. id)
  redis.call('DEL', tokens_stem .. id)
  redis.call('ZREM', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
end
return { #ids, ended }
