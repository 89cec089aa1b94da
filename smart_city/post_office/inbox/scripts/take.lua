-- Gives messages to the holders named, one to each in turn, in the order of the ready lanes, as far as there are any.
-- ARGV: taker, number of this take, most bytes to answer with, 1 to take also what others had their chance of, how many
-- consumers this instance has, then THREE for each holder: its name, its lease (ms), how many it takes at most.
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

-- The holders, the first of them first.
local holders, turn, room = {}, 1, 0
for at = 6, #ARGV, 3 do
  holders[#holders + 1] = {name = ARGV[at], lease = ARGV[at + 1], room = tonumber(ARGV[at + 2])}
  room = room + ARGV[at + 2]
end

-- With consumers elsewhere these get their share of what is ready, and the rest only when nobody else wanted it.
local ready, all = call('LLEN', inbox .. ':ready'), consumers()
local share = ready
if eager == '0' and all > own then share = math.ceil(ready * own / all) end
local most = math.min(room, share)

local next_due = nil

-- Who had the attempt before, as long as another is preferred, and until when.
local function avoided(id)
  local last, avoid = unpack(call('HMGET', message_key(id), 'last', 'avoid'))
  if avoid and tonumber(avoid) > now then return last, tonumber(avoid) end
end

-- Whom to give a message: the next holder that has room.
local function taker_of(id, is_first_attempt)
  local last, avoid
  if not is_first_attempt then last, avoid = avoided(id) end
  for step = 0, #holders - 1 do
    local at = (turn - 1 + step) % #holders + 1
    if holders[at].room > 0 and holders[at].name ~= last then return holders[at], at end
  end
  next_due = math.min(next_due or avoid, avoid)
end

local function give(id, to, serial)
  call('HSET', message_key(id), 'serial', serial, 'holder', to.name, 'take', taker .. ' ' .. number)
  to.room = to.room - 1
  stop_waiting(id)
  hold(id, to.name, to.lease)
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
    turn = place % #holders + 1
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
