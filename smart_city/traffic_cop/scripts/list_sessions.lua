-- Reads a user's living sessions, those that live longest first.
--
-- KEYS    the user's sessions (id by end), one that never exists
-- ARGV    what the names of sessions begin with (in this slot), how many to read at most (below 1000)
-- Returns how many there are, and the first ones' JSON (null where one has just ended)
local clock = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', clock[1] * 1000 + math.floor(clock[2] / 1000))
local ids = redis.call('ZREVRANGE', KEYS[1], 0, ARGV[2] - 1)
if #ids == 0 then
  return { 0, {} }
end
for place, id in ipairs(ids) do
  ids[place] = ARGV[1] .. id
end
return { redis.call('ZCARD', KEYS[1]), redis.call('MGET', unpack(ids)) }
