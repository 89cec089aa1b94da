#!lua flags=allow-oom
-- Takes connections out of their users' hashes, but for those that have another owner by now.
--
-- KEYS  the hash `connections:USER` of each connection
-- ARGV  TWO for each key: connection id, fence
-- Returns 1 for each connection that is taken out.

local outcome = {}

local function unregister(key, id, fence)
  local known = redis.call('HGET', key, id)
  if not known or string.match(known, '"fence":(%d+)') ~= fence then return 0 end
  return redis.call('HDEL', key, id)
end

for i, key in ipairs(KEYS) do outcome[i] = unregister(key, ARGV[2 * i - 1], ARGV[2 * i]) end
return outcome
