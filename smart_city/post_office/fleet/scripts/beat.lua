#!lua flags=allow-oom
-- One heartbeat of an instance: renews its membership, tells its figures, and learns who lives and who lapsed.
--
-- KEYS  {instances}:leases (zset: member -> end of its lease in ms), {instances}:figures (hash: member -> JSON),
--       {instances}:estates (zset: dead member -> when somebody else may take over from it), one that never exists
-- ARGV  member, its figures as JSON, lease in ms, whether to claim dead members (1 or 0)
-- Returns the members claimed here, the figures of all that live as member, JSON, member, JSON, ..., and 1 if this one
-- was no member (any more): it is new, was given up meanwhile, or the store has lost it.
-- A dead member is claimed by one of the living at a time, until its estate is settled: a claimer may die, too.
-- One that beats again was not dead, and has no estate.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local is_new = redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('ZREM', KEYS[3], ARGV[1])

local claimed = {}
if ARGV[4] == '1' then
  for _, member in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', '(' .. now, 'BYSCORE', 'LIMIT', 0, 10)) do
    redis.call('ZREM', KEYS[1], member)
    redis.call('HDEL', KEYS[2], member)
    redis.call('ZADD', KEYS[3], 0, member)
  end
  for _, member in ipairs(redis.call('ZRANGE', KEYS[3], '-inf', '(' .. now, 'BYSCORE', 'LIMIT', 0, 10)) do
    if redis.call('ZSCORE', KEYS[1], member) then
      redis.call('ZREM', KEYS[3], member)
    else
      redis.call('ZADD', KEYS[3], now + 4 * ARGV[3], member)
      claimed[#claimed + 1] = member
    end
  end
end

local living = {}
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], now, '+inf', 'BYSCORE')) do
  living[#living + 1] = member
  living[#living + 1] = redis.call('HGET', KEYS[2], member) or '{}'
end
return {claimed, living, is_new}
