#!lua flags=allow-oom
-- Has connections stand for as long as their instance's lease, from now on; what they say is not looked at.
--
-- KEYS  the hash `connections:USER` of each connection
-- ARGV  lease in ms, then the id of each
-- Returns 1 for each connection that stands, 0 for each that must be written again.

local outcome = {}
for i, key in ipairs(KEYS) do
  outcome[i] = redis.call('HPEXPIRE', key, ARGV[1], 'FIELDS', 1, ARGV[i + 1])[1] == 1 and 1 or 0
end
return outcome
