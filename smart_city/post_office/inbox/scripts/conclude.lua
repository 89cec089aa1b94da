-- Ends what was reclaimed, now that its asker has heard what had to be said.
-- ARGV: reaper, first wait (ms), longest wait (ms), most dead letters, most bytes of them, then THREE for each:
-- id, serial, and `done` if it proved answered (or arrived elsewhere), else ''.
-- Answers 1 for each that was ended, 0 for what another reaper has taken over.

local reaper, first_wait, longest_wait = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local most_dead, most_dead_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])

local function bury(id)
  local f = call('HMGET', message_key(id), 'route', 'user', 'hops', 'serial', 'before', 'at', 'why', 'body', 'tries')
  local letter = cjson.encode({
    v = 1, message_id = id, route = cjson.decode(f[1]), user = f[2], hops = tonumber(f[3]), serial = tonumber(f[4]),
    attempts = f[4] - f[5], asked_at = tonumber(f[6]), died_at = now, why = f[7], tries = tonumber(f[9]),
  }) .. '\n' .. f[8]
  call('RPUSH', inbox .. ':dead', letter)
  local bytes = call('HINCRBY', inbox .. ':meta', 'dead_bytes', #letter)
  local letters = call('LLEN', inbox .. ':dead')
  while letters > 1 and (letters > most_dead or bytes > most_dead_bytes) do
    letters = letters - 1
    bytes = call('HINCRBY', inbox .. ':meta', 'dead_bytes', -#call('LPOP', inbox .. ':dead'))
  end
end

local function wait_after(tries)
  if tries == 1 then return 0 end
  return math.min(first_wait * 2 ^ (tries - 2), longest_wait)
end

-- Back to the head of its lane. The first time at once and before the others, since it had its turn already.
local function requeue(id, lane, wait, since)
  call('HDEL', message_key(id), 'holder', 'ending', 'why', 'stream', 'agent', 'to')
  call('HSET', message_key(id), 'since', since)
  wait_since(id, since)
  if wait == 0 then return make_ready_first(lane) end
  call('ZADD', inbox .. ':delayed', now + wait, lane)
end

local function conclude(id, serial, outcome)
  local f = call('HMGET', message_key(id), 'serial', 'holder', 'ending', 'lane', 'since', 'user', 'size')
  if f[1] ~= serial or f[2] ~= reaper or not f[3] then return 0 end
  if outcome == 'done' or f[3] == 'dead' then
    if outcome ~= 'done' then bury(id) end
    remove(id, reaper, f[4], f[6], f[7])
  else
    let_go(id, reaper)
    if f[3] == 'free' then
      requeue(id, f[4], 0, f[5])
    else
      requeue(id, f[4], wait_after(call('HINCRBY', message_key(id), 'tries', 1)), now)
    end
  end
  return 1
end

local answers = {}
for i = 6, #ARGV, 3 do answers[#answers + 1] = conclude(unpack(ARGV, i, i + 2)) end
commit()
return answers
