-- Takes deliveries from their holders for the one who ends them, who first logs what their askers must hear.
-- ARGV: mode, its argument, reaper, reclaim lease (ms), most tries, age (ms), at most so many, how, why.
--
--   lapsed    -                       leases that ended, and messages that nobody took within the age
--   instance  INSTANCE                all that an instance has which is gone
--   holder    INSTANCE|consumer       all that one consumer has
--   one       ID SERIAL               a single delivery
--   stop      ID USER                 a question of this user, who wants no answer, wherever it stands
--   take      TAKER NUMBER            what a take brought whose answer nobody heard, which is void if it is yet to
--                                     come; its holders follow the other arguments
--
-- `how` it will end: try (a failed try; the last one is its death), dead, free (again, and it was no try).
-- A reaper that dies is reaped in turn; how a message ends is decided once and stays.
-- Answers THIRTEEN for each: id, serial, attempt here, ending, why, route, stream, agent, hops, and for what was
-- on its way to another inbox to, lane, user, body, else ''. For `stop` perhaps a single word instead: `stopped` (it is
-- or will be), `finished` (it dies already), `leaving` (to another inbox).

local mode, subject, reaper, lease = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local most_tries, age, most, how, why = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[9]
local VOID_LIFE, STOPPED_LIFE = 3600 * 1000, 600 * 1000
local answer, found = {}, 0

local function ending_of(tries)
  if how == 'try' then return tries + 1 >= most_tries and 'dead' or 'again' end
  return how
end

local function claim(id, ending, reason)
  local f = call('HMGET', message_key(id), 'holder', 'ending', 'why', 'serial', 'before', 'route', 'stream', 'agent',
    'hops', 'tries', 'to')
  if f[1] then let_go(id, f[1]) end
  if f[2] then ending, reason = f[2], f[3] end
  ending = ending or ending_of(tonumber(f[10]))
  if f[1] and not f[2] then call('HSET', message_key(id), 'last', f[1]) end
  call('HSET', message_key(id), 'holder', reaper, 'ending', ending, 'why', reason)
  hold(id, reaper, lease)
  found = found + 1
  add(answer, id, f[4], f[4] - f[5], ending, reason, f[6], f[7] or '', f[8] or '', f[9], f[11] or '')
  add(answer, unpack(f[11] and call('HMGET', message_key(id), 'lane', 'user', 'body') or {'', '', ''}))
end

-- A message that nobody has leaves its lane at once, so that whoever stands behind it need not wait for its end.
local function claim_waiting(id, reason)
  local lane = call('HGET', message_key(id), 'lane')
  stop_waiting(id)
  call('LREM', lane_key(lane), 1, id)
  if call('EXISTS', lane_key(lane)) == 0 then
    call('LREM', inbox .. ':ready', 1, lane)
    call('ZREM', inbox .. ':delayed', lane)
  end
  call('HSET', message_key(id), 'lane', '', 'from', lane)
  claim(id, 'dead', reason)
end

-- Takes a question away because its asker wants no answer, and tells its holder; says a word when it cannot be taken.
local function claim_stopped(id, user)
  local f = call('HMGET', message_key(id), 'user', 'holder', 'ending', 'to', 'serial', 'why')
  if f[1] ~= user then return call('HGET', inbox .. ':stopped', id) == user and 'stopped' or nil end
  if f[4] then return 'leaving' end
  if f[3] == 'dead' then return f[6] == 'stopped' and 'stopped' or 'finished' end
  note(inbox .. ':stopped', id, user, STOPPED_LIFE)
  if f[3] then
    call('HSET', message_key(id), 'stop', 1) -- whoever ends it ends it so
    return 'stopped'
  end
  if not f[2] then return claim_waiting(id, 'stopped') end
  call('SPUBLISH', inbox, 'stop ' .. id .. ' ' .. f[5])
  claim(id, 'dead', 'stopped')
end

local function claim_held_by(holder, take)
  if holder == reaper then return end
  for _, id in ipairs(call('SMEMBERS', held_key(holder))) do
    if found >= most then return end
    if not take or call('HGET', message_key(id), 'take') == take then claim(id, nil, why) end
  end
end

if mode == 'lapsed' then
  for _, id in ipairs(call('ZRANGEBYSCORE', inbox .. ':leases', '-inf', now, 'LIMIT', 0, most)) do
    claim(id, nil, why)
  end
  for _, id in ipairs(call('ZRANGEBYSCORE', inbox .. ':waiting', '-inf', now - age, 'LIMIT', 0, most - found)) do
    claim_waiting(id, 'expired')
  end
elseif mode == 'instance' then
  for _, holder in ipairs(call('SMEMBERS', inbox .. ':holders')) do
    if string.sub(holder, 1, #subject + 1) == subject .. '|' then claim_held_by(holder) end
  end
elseif mode == 'holder' then
  claim_held_by(subject)
elseif mode == 'take' then
  local taker, number = string.match(subject, '^(.*) (%d+)$')
  note(inbox .. ':void', taker, number, VOID_LIFE)
  for i = 10, #ARGV do claim_held_by(ARGV[i], subject) end
elseif mode == 'one' then
  local id, serial = string.match(subject, '^(.*) (%d+)$')
  local f = call('HMGET', message_key(id), 'serial', 'holder', 'ending', 'to')
  if f[1] == serial and f[2] and not f[3] and not f[4] then claim(id, nil, why) end
elseif mode == 'stop' then
  local id, user = string.match(subject, '^(%S+) (.*)$')
  local word = claim_stopped(id, user)
  if word then answer = {word} end
end
commit()
return answer
