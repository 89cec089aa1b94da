#!lua flags=allow-oom
-- Renews connections with their instance's lease; one that has another owner is that one's to renew.
--
-- KEYS  the hash `connections:USER` of each connection
-- ARGV  lease in ms, then TWO for each key: connection id, fence
-- Returns 1 for each connection that was there, 0 for each that must be written again, 2 for each of another owner.

local outcome = {}

local function renew(key, id, fence)
  local known = redis.call('HGET', key, id)
  if not known then return 0 end
  if string.match(known, '"fence":(%d+)') ~= fence then return 2 end
  redis.call('HPEXPIRE', key, ARGV[1], 'FIELDS', 1, id)
  return 1
end

for i, key in ipairs(KEYS) do outcome[i] = renew(key, ARGV[2 * i], ARGV[2 * i + 1]) end
return outcome
