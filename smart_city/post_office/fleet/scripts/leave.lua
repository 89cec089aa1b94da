#!lua flags=allow-oom
-- Connections have lost their sockets. Those that may come back have their window from now on; of those that may not,
-- the record goes, at once if everything in the log was heard. Where there were owners before, a stone stays in its
-- place for a while: they may not know yet that they are owners no more.
--
-- KEYS  TWO for each connection: `owner:{connection:ID}`, the meta of its log
-- ARGV  ms of the window, ms for which the record outlives it, the owner,
--       then FOUR for each: fence, offset up to which the log was heard, user id, 'back' or 'never'
-- A record that stays is never removed on the way: while its slot moves key by key, a key that is gone is not found again.
-- Returns for each when to look after it, in ms; 0 for never, -1 when it has another owner by now.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local outcome = {}

local function leave(owner, meta, fence, heard, user, may_return)
  local known = redis.call('HMGET', owner, 'fence', 'user_id')
  if known[1] and (known[1] ~= fence or not known[2]) then return -1 end
  local is_heard = tonumber(redis.call('HGET', meta, 'last') or 0) <= tonumber(heard)
  if may_return == 'never' and is_heard then
    if tonumber(fence) == 1 then
      redis.call('DEL', owner)
    else
      redis.call('HSET', owner, 'v', 1, 'fence', fence)
      redis.call('HDEL', owner, 'user_id', 'instance', 'heard', 'ends', 'is_lost')
      redis.call('PEXPIRE', owner, ARGV[1] + ARGV[2])
    end
    return 0
  end
  local ends = may_return == 'never' and now or now + ARGV[1]
  redis.call('HSET', owner, 'v', 1, 'user_id', user, 'instance', ARGV[3], 'fence', fence, 'heard', heard,
    'ends', string.format('%d', ends), 'is_lost', 1)
  redis.call('PEXPIRE', owner, ARGV[1] + ARGV[2])
  return ends
end

for i = 1, #KEYS / 2 do
  outcome[i] = leave(KEYS[2 * i - 1], KEYS[2 * i], unpack(ARGV, 4 * i, 4 * i + 3))
end
return outcome
