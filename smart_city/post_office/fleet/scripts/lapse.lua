#!lua flags=allow-oom
-- Ends connections whose resume window has passed: from now on nothing is appended to their logs.
--
-- KEYS  TWO for each connection: `owner:{connection:ID}`, the meta of its log
-- ARGV  ms for which owners from before are told that the connection has ended
-- Returns for each {when to look again, in ms} if its window has not passed, {0, user id, offset up to which the log
-- was heard} if its user is owed what came after, {} if nothing is left to do. Until that is done, it can be asked
-- again: whoever asked first may have died.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local outcome = {}

-- What stays of a record is never removed on the way: while its slot moves key by key, a key that is gone is not found
-- again.
local function lapse(owner, meta)
  local user, ends, heard, fence, owed = unpack(redis.call('HMGET', owner, 'user_id', 'ends', 'heard', 'fence', 'owed_to'))
  if owed then return {0, owed, tonumber(heard)} end
  if not user then return {} end
  if tonumber(ends) > now then return {tonumber(ends)} end
  local is_heard = tonumber(redis.call('HGET', meta, 'last') or 0) <= tonumber(heard)
  if is_heard and fence == '1' then
    redis.call('DEL', owner)
    return {}
  end
  redis.call('HSET', owner, 'v', 1, 'fence', fence)
  redis.call('HDEL', owner, 'user_id', 'instance', 'heard', 'ends', 'is_lost')
  if not is_heard then redis.call('HSET', owner, 'owed_to', user, 'heard', heard) end
  redis.call('PEXPIRE', owner, ARGV[1])
  return is_heard and {} or {0, user, tonumber(heard)}
end

for i = 1, #KEYS / 2 do outcome[i] = lapse(KEYS[2 * i - 1], KEYS[2 * i]) end
return outcome
