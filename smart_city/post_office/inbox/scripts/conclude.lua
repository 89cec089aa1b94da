-- Ends what was reclaimed, now that its asker has heard what had to be said.
-- ARGV: reaper, first wait (ms), longest wait (ms), most dead letters, most bytes of them, ms for which another taker
-- than the last one is preferred, id, serial, and `done` if it proved answered (or arrived elsewhere), else '';
-- then the circuit's rule.
-- Answers 1 if it was ended, 0 if another reaper has taken it over, 2 if its asker has stopped it meanwhile: then it is
-- still this reaper's, and dead once the asker was told.

local reaper, first_wait, longest_wait = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local most_dead, most_dead_bytes, other_taker = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

-- What speaks against the agents: not that nobody came, that a socket or an instance went, or that somebody stopped it.
local function is_failure(ending, why)
  if why == 'lapsed' or string.sub(why, 1, 7) == 'failed:' then return ending ~= 'free' end
  return ending == 'dead' and (why == 'closed' or why == 'lost' or why == 'too_large')
end

local function write_letter(id)
  local f = call('HMGET', message_key(id), 'route', 'user', 'hops', 'serial', 'before', 'at', 'why', 'body', 'tries',
    'lane', 'from')
  bury(id, cjson.encode({
    v = 1, message_id = id, route = cjson.decode(f[1]), user = f[2], hops = tonumber(f[3]), serial = tonumber(f[4]),
    attempts = f[4] - f[5], asked_at = tonumber(f[6]), died_at = now, why = f[7], tries = tonumber(f[9]),
    lane = f[11] or f[10],
  }) .. '\n' .. f[8], most_dead, most_dead_bytes)
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

local function try_again(id, lane)
  local wait = wait_after(call('HINCRBY', message_key(id), 'tries', 1))
  if consumers() > 1 then call('HSET', message_key(id), 'avoid', now + wait + other_taker) end
  requeue(id, lane, wait, now)
end

local function conclude(id, serial, outcome)
  local f = call('HMGET', message_key(id), 'serial', 'holder', 'ending', 'lane', 'since', 'user', 'size', 'why', 'stop')
  local ending, lane, user, why = f[3], f[4], f[6], f[8]
  if f[1] ~= serial or f[2] ~= reaper or not ending then return 0 end
  if outcome ~= 'done' and ending ~= 'dead' and f[9] then
    call('HSET', message_key(id), 'ending', 'dead', 'why', 'stopped')
    call('HDEL', message_key(id), 'stream', 'agent')
    return 2
  end
  if outcome ~= 'done' and is_failure(ending, why) then has_failed(user) end
  if outcome == 'done' or ending == 'dead' then
    if outcome ~= 'done' and why ~= 'stopped' then write_letter(id) end
    remove(id, reaper, lane, user, f[7])
    return 1
  end
  let_go(id, reaper)
  if ending == 'free' then requeue(id, lane, 0, f[5]) else try_again(id, lane) end
  return 1
end

local answer = conclude(ARGV[7], ARGV[8], ARGV[9])
commit()
return answer
