-- Begins a session; of more than a caller may have, those end that were not used for longest.
--
-- KEYS    the caller's sessions (name by last use), one that never exists
-- ARGV    name, how many there may be, milliseconds that one is kept unused
-- Returns the names of those that ended for it
local sessions, name, most, kept = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

redis.call('ZREMRANGEBYSCORE', sessions, '-inf', now - kept)
local ended = {}
local over = redis.call('ZCARD', sessions) + 1 - most
if over > 0 then
  for i, word in ipairs(redis.call('ZPOPMIN', sessions, over)) do
    if i % 2 == 1 then ended[#ended + 1] = word end
  end
end
redis.call('ZADD', sessions, now, name)
redis.call('PEXPIRE', sessions, kept)
return ended
