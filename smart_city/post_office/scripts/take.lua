-- Gives one message to each of the holders named, in the order of the ready lanes, as far as there are any.
-- ARGV: most bytes to answer with, then TWO for each: holder, its lease (ms).
-- Answers: 1 if more could be taken at once, ms until the next delayed lane is due (-1: none), then SIX for each
-- message: id, serial, attempt here, the place of its holder among those named, route, body.

local most_bytes = tonumber(ARGV[1])
local PROMOTED = 512

for _, lane in ipairs(call('ZRANGEBYSCORE', inbox .. ':delayed', '-inf', now, 'LIMIT', 0, PROMOTED)) do
  call('ZREM', inbox .. ':delayed', lane)
  call('RPUSH', inbox .. ':ready', lane)
end

local function give(id, holder, lease)
  local route, body, before = unpack(call('HMGET', message_key(id), 'route', 'body', 'before'))
  call('ZREM', inbox .. ':waiting', id)
  local serial = call('HINCRBY', message_key(id), 'serial', 1)
  call('HSET', message_key(id), 'holder', holder)
  hold(id, holder, lease)
  return serial, serial - before, route, body
end

local answer, bytes = {0, -1}, 0
for place = 2, #ARGV, 2 do
  if bytes >= most_bytes then break end
  local lane = call('LPOP', inbox .. ':ready')
  if not lane then break end
  local id = call('LINDEX', lane_key(lane), 0)
  local serial, attempt, route, body = give(id, ARGV[place], ARGV[place + 1])
  bytes = bytes + #body
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4] = id, serial, attempt, place / 2 - 1
  answer[n + 5], answer[n + 6] = route, body
end

if call('EXISTS', inbox .. ':ready') == 1 then answer[1] = 1 end
local due = call('ZRANGE', inbox .. ':delayed', 0, 0, 'WITHSCORES')
if due[2] then answer[2] = math.max(0, due[2] - now) end
return answer
