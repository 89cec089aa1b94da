#!lua flags=allow-oom
-- Writes connections into their users' hashes, each whole or not at all; never over one that has a newer owner.
--
-- KEYS  the hash `connections:USER` of each connection
-- ARGV  lease in ms, most connections of one user, 'new' or 'again',
--       then THREE for each key: connection id, fence, its JSON
-- Returns 1 for each connection that stands, 2 for each that has a newer owner, 0 for each that its user has no room
-- for or, 'again', that was not there.

local lease, most, is_new = ARGV[1], tonumber(ARGV[2]), ARGV[3] == 'new'
local outcome = {}

local function register(key, id, fence, json)
  local known = redis.call('HGET', key, id)
  if known and tonumber(string.match(known, '"fence":(%d+)') or 0) > tonumber(fence) then return 2 end
  if not known and (not is_new or redis.call('HLEN', key) >= most) then return 0 end
  redis.call('HSET', key, id, json)
  redis.call('HPEXPIRE', key, lease, 'FIELDS', 1, id)
  return 1
end

for i, key in ipairs(KEYS) do outcome[i] = register(key, unpack(ARGV, 1 + 3 * i, 3 + 3 * i)) end
return outcome
