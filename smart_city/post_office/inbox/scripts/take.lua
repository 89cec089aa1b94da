-- Gives one message to each of the holders named, in the order of the ready lanes, as far as there are any.
-- ARGV: taker, number of this take, most bytes to answer with, 1 to take also what others had their chance of, how many
-- consumers this instance has, then TWO for each holder: its name, its lease (ms).
-- Answers: 1 if more could be taken at once, 2 if others may have the rest for a moment, else 0; ms until something more
-- may be taken (-1: unknown); then SIX for each message: id, serial, attempt here, the place of its holder among
-- those named, route, body.

local taker, number, most_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local eager, own = ARGV[4], tonumber(ARGV[5])
local PROMOTED, PASSED_OVER = 512, 64

-- A take that was given up unheard may still lie in a connection's buffer; when it comes, it takes nothing.
local void = tonumber(call('HGET', inbox .. ':void', taker) or 0)
if number <= void then return {0, -1} end

local due = call('ZRANGEBYSCORE', inbox .. ':delayed', '-inf', now, 'LIMIT', 0, PROMOTED)
call_many('ZREM', inbox .. ':delayed', due)
call_many('RPUSH', inbox .. ':ready', due)

-- The holders, each given one message at most, the first of them first.
local room, first = {}, 1
for at = 6, #ARGV, 2 do room[#room + 1] = {holder = ARGV[at], lease = ARGV[at + 1]} end

-- With consumers elsewhere these get their share of what is ready, and the rest only when nobody else wanted it.
local ready, all = call('LLEN', inbox .. ':ready'), consumers()
local share = ready
if eager == '0' and all > own then share = math.ceil(ready * own / all) end
local most = math.min(#room, share)

local next_due = nil

-- Whom to give a message: the first holder, but for a while none that had the attempt before.
local function taker_of(id, is_first_attempt)
  while room[first].is_served do first = first + 1 end
  if is_first_attempt then return room[first], first end
  local last, avoid = unpack(call('HMGET', message_key(id), 'last', 'avoid'))
  if not avoid or tonumber(avoid) <= now then return room[first], first end
  for at = first, #room do
    if not room[at].is_served and room[at].holder ~= last then return room[at], at end
  end
  next_due = math.min(next_due or avoid, avoid)
end

local function give(id, to, serial)
  call('HSET', message_key(id), 'serial', serial, 'holder', to.holder, 'take', taker .. ' ' .. number)
  to.is_served = true
  stop_waiting(id)
  hold(id, to.holder, to.lease)
end

local answer, given, bytes, passed_over = {0, -1}, 0, 0, {}
while given < most and bytes < most_bytes and #passed_over < PASSED_OVER do
  local lane = call('LPOP', inbox .. ':ready')
  if not lane then break end
  local id = call('LINDEX', lane_key(lane), 0)
  local serial, before, route, body = unpack(call('HMGET', message_key(id), 'serial', 'before', 'route', 'body'))
  local to, place = taker_of(id, serial == before)
  if to then
    give(id, to, serial + 1)
    given, bytes = given + 1, bytes + #body
    add(answer, id, serial + 1, serial + 1 - before, place - 1, route, body)
  else
    passed_over[#passed_over + 1] = lane
  end
end
commit()

local left = call('LLEN', inbox .. ':ready')
call_many('RPUSH', inbox .. ':ready', passed_over)
if left > 0 then answer[1] = given < share and #passed_over < PASSED_OVER and 1 or 2 end
local delayed = call('ZRANGE', inbox .. ':delayed', 0, 0, 'WITHSCORES')[2]
next_due = math.min(next_due or delayed or -1, delayed or next_due or -1)
if next_due >= 0 then answer[2] = math.max(0, next_due - now) end
return answer
