-- Gives one message to each of the holders named, in the order of the ready lanes, as far as there are any.
-- ARGV: taker, number of this take, most bytes to answer with, then TWO for each: holder, its lease (ms).
-- Answers: 1 if more could be taken at once, ms until the next delayed lane is due (-1: none), then SIX for each
-- message: id, serial, attempt here, the place of its holder among those named, route, body.

local taker, number, most_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local PROMOTED = 512

-- A take that was given up unheard may still lie in a connection's buffer; when it comes, it takes nothing.
local void = tonumber(call('HGET', inbox .. ':void', taker) or 0)
if number <= void then return {0, -1} end

local due = call('ZRANGEBYSCORE', inbox .. ':delayed', '-inf', now, 'LIMIT', 0, PROMOTED)
call_many('ZREM', inbox .. ':delayed', due)
call_many('RPUSH', inbox .. ':ready', due)

local function give(id, holder, lease)
  local serial, before, route, body = unpack(call('HMGET', message_key(id), 'serial', 'before', 'route', 'body'))
  call('HSET', message_key(id), 'serial', serial + 1, 'holder', holder, 'take', taker .. ' ' .. number)
  stop_waiting(id)
  hold(id, holder, lease)
  return serial + 1, serial + 1 - before, route, body
end

local answer, bytes = {0, -1}, 0
for at = 4, #ARGV, 2 do
  if bytes >= most_bytes then break end
  local lane = call('LPOP', inbox .. ':ready')
  if not lane then break end
  local id = call('LINDEX', lane_key(lane), 0)
  local serial, attempt, route, body = give(id, ARGV[at], ARGV[at + 1])
  bytes = bytes + #body
  add(answer, id, serial, attempt, at / 2 - 2, route, body)
end
commit()

if call('EXISTS', inbox .. ':ready') == 1 then answer[1] = 1 end
local next_due = call('ZRANGE', inbox .. ':delayed', 0, 0, 'WITHSCORES')[2]
if next_due then answer[2] = math.max(0, next_due - now) end
return answer
