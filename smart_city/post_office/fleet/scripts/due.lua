#!lua flags=allow-oom
-- Hands out connections to look after, each to one instance for a while: who got it may die.
--
-- KEYS  {windows} (zset: connection -> when to look, in ms)
-- ARGV  how many at most, ms until they are handed out again, ms after which all of it may be forgotten

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGE', KEYS[1], '-inf', string.format('%d', now), 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, connection in ipairs(due) do
  redis.call('ZADD', KEYS[1], string.format('%d', now + ARGV[2]), connection)
end
if #due > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return due
