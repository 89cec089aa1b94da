#!lua flags=allow-oom
-- Says who owns connections' logs, or goes on saying it: while the record lives, answers are appended there.
--
-- KEYS  `owner:{connection:ID}` of each connection
-- ARGV  ms until the window ends unless this is said again, ms for which the record outlives that, the owner,
--       then THREE for each key: fence, offset up to which the log was heard, user id
-- Returns 1 for each connection that is owned, 0 for each that has another owner by now, was left, or has ended.

local time = redis.call('TIME')
local ends = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
local outcome = {}
for i, key in ipairs(KEYS) do
  local fence, heard, user = unpack(ARGV, 1 + 3 * i, 3 + 3 * i)
  local known = redis.call('HMGET', key, 'fence', 'user_id', 'is_lost')
  local is_owner = not known[1] or (known[1] == fence and known[2] and not known[3])
  if is_owner then
    redis.call('HSET', key, 'v', 1, 'user_id', user, 'instance', ARGV[3], 'fence', fence, 'heard', heard,
      'ends', string.format('%d', ends))
    redis.call('PEXPIRE', key, ARGV[1] + ARGV[2])
  end
  outcome[i] = is_owner and 1 or 0
end
return outcome
