#!lua flags=allow-oom
-- Gives connections to a new owner, each under the next fence: to the same user, and within the resume window.
--
-- KEYS  `owner:{connection:ID}` of each connection
-- ARGV  ms until the window ends unless it is owned again, ms for which the record outlives that, the new owner,
--       then for each key: user id
-- Returns {fence, offset up to which the log was heard, the owner before if that has not left} for each, {} for each that is not given.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local outcome = {}
for i, key in ipairs(KEYS) do
  local known = redis.call('HMGET', key, 'user_id', 'ends', 'heard', 'instance', 'is_lost')
  if known[1] == ARGV[3 + i] and tonumber(known[2]) > now then
    local fence = redis.call('HINCRBY', key, 'fence', 1)
    redis.call('HSET', key, 'instance', ARGV[3], 'ends', string.format('%d', now + ARGV[1]))
    redis.call('HDEL', key, 'is_lost')
    redis.call('PEXPIRE', key, ARGV[1] + ARGV[2])
    outcome[i] = {fence, tonumber(known[3]), known[5] and '' or known[4]}
  else
    outcome[i] = {}
  end
end
return outcome
