#!lua flags=allow-oom
-- Has the windows of connections looked after: those that begin now, when they may end.
--
-- KEYS  {windows} (zset: connection -> when to look, in ms)
-- ARGV  ms from now, ms after which all of it may be forgotten, then the connections

local time = redis.call('TIME')
local at = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1])
for i = 3, #ARGV do redis.call('ZADD', KEYS[1], at, ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return #ARGV - 2
