#!lua flags=allow-oom
-- Which of some connections were instances' that have died, as their records say.
--
-- KEYS  `owner:{connection:ID}` of each connection
-- ARGV  the instances
-- Returns {user id, fence} for each connection that was theirs last, {} for each other.

local outcome, dead = {}, {}
for _, instance in ipairs(ARGV) do dead[instance] = true end
for i, key in ipairs(KEYS) do
  local user, instance, fence = unpack(redis.call('HMGET', key, 'user_id', 'instance', 'fence'))
  outcome[i] = user and dead[instance] and {user, tonumber(fence)} or {}
end
return outcome
