-- Tells which sessions of a shard live longest; what they are stands elsewhere.
--
-- KEYS    the sessions of the shard (id by end), one that never exists
-- ARGV    how many to name at most
-- Returns how many there are, and id, end in ms, id, end, ... of the first ones
local clock = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', clock[1] * 1000 + math.floor(clock[2] / 1000))
return { redis.call('ZCARD', KEYS[1]), redis.call('ZREVRANGE', KEYS[1], 0, ARGV[1] - 1, 'WITHSCORES') }
