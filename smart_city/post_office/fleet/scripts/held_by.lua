#!lua flags=allow-oom
-- Which of some connections an instance had when it died, as their records say.
--
-- KEYS  `owner:{connection:ID}` of each connection
-- ARGV  the instance
-- Returns {user id, fence} for each connection whose socket was there, {} for each other.

local outcome = {}
for i, key in ipairs(KEYS) do
  local user, instance, fence, is_lost = unpack(redis.call('HMGET', key, 'user_id', 'instance', 'fence', 'is_lost'))
  outcome[i] = user and instance == ARGV[1] and not is_lost and {user, tonumber(fence)} or {}
end
return outcome
