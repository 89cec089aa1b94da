#!lua flags=allow-oom
-- Renews connections with their instance's lease.
--
-- KEYS  the hash `connections:USER` of each connection
-- ARGV  lease in ms, then for each key: connection id
-- Returns 1 for each connection that was there, 0 for each that must be written again.

local outcome = {}
for i, key in ipairs(KEYS) do
  local answer = redis.call('HPEXPIRE', key, ARGV[1], 'FIELDS', 1, ARGV[1 + i])
  outcome[i] = answer[1] == 1 and 1 or 0
end
return outcome
