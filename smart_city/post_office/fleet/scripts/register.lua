#!lua flags=allow-oom
-- Writes connections into their users' hashes, each whole or not at all.
--
-- KEYS  the hash `connections:USER` of each connection
-- ARGV  lease in ms, most connections of one user, then for each key: connection id, its JSON
-- Returns 1 for each connection that stands, 0 for each that its user has no room for.

local lease, most = ARGV[1], tonumber(ARGV[2])
local outcome = {}
for i, key in ipairs(KEYS) do
  local id, json = ARGV[1 + 2 * i], ARGV[2 + 2 * i]
  if redis.call('HEXISTS', key, id) == 0 and redis.call('HLEN', key) >= most then
    outcome[i] = 0
  else
    redis.call('HSET', key, id, json)
    redis.call('HPEXPIRE', key, lease, 'FIELDS', 1, id)
    outcome[i] = 1
  end
end
return outcome
