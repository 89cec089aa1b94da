-- What the holder of a delivery says of it. ARGV: ms that an answer takes at most to be logged, then FIVE for each
-- word: verb, id, serial, and two arguments; then the circuit's rule.
--
--   check                   it is about to be answered: keeps the lease for so long
--   open   stream, agent    the same, and an answer in parts begins under that message id
--   extend lease            more time
--   done                    dealt with; not while an answer in parts is open
--   close                   dealt with, and so is any answer in parts; or it has arrived elsewhere
--   leave  channel          it goes to another inbox, an answer in parts will be ended first: from now on only `leave`
--                           (to the same), `close` and `stay` are heard
--   stay                    it did not go; an answer in parts was ended
--
-- Answers for each: {stale}, or {ok} followed for check, open and leave by what is known of it, or {open} followed by
-- the same when an open answer is in the way. A delivery is good while it is held, its serial is the last one, and
-- nobody is ending it.

local function say(word, m)
  return {word, m.route, m.stream or '', m.agent or '', m.hops, m.lane, m.user, m.body or ''}
end

local function find(id, serial)
  local f = call('HMGET', message_key(id), 'serial', 'holder', 'ending', 'route', 'stream', 'agent', 'hops', 'lane',
    'user', 'to', 'size')
  if f[1] ~= serial or not f[2] or f[3] then return nil end
  return {
    holder = f[2], route = f[4], stream = f[5], agent = f[6], hops = f[7], lane = f[8], user = f[9], to = f[10],
    size = f[11]}
end

local function keep(id, milliseconds)
  call('ZADD', inbox .. ':leases', 'XX', 'GT', now + milliseconds, id)
end

local function settle(id, m)
  has_succeeded()
  remove(id, m.holder, m.lane, m.user, m.size)
  return {'ok'}
end

local verbs = {}

function verbs.check(id, m)
  keep(id, ARGV[1])
  return say('ok', m)
end

function verbs.open(id, m, stream, agent)
  keep(id, ARGV[1])
  if m.stream then return say('open', m) end
  call('HSET', message_key(id), 'stream', stream, 'agent', agent)
  return say('ok', m)
end

function verbs.extend(id, m, lease)
  keep(id, lease)
  return {'ok'}
end

function verbs.done(id, m)
  if m.stream then return say('open', m) end
  return settle(id, m)
end

function verbs.leave(id, m, channel)
  call('HSET', message_key(id), 'to', channel)
  m.body = call('HGET', message_key(id), 'body')
  return say('ok', m)
end

verbs.close = settle

local when_leaving = {close = settle}

function when_leaving.stay(id)
  call('HDEL', message_key(id), 'to', 'stream', 'agent')
  return {'ok'}
end

function when_leaving.leave(id, m, channel)
  if m.to ~= channel then return {'stale'} end
  return verbs.leave(id, m, channel)
end

local answers = {}
for i = 2, #ARGV, 5 do
  local verb, id, serial, first, second = unpack(ARGV, i, i + 4)
  local m = find(id, serial)
  local act = m and (m.to and when_leaving or verbs)[verb]
  answers[#answers + 1] = act and act(id, m, first, second) or {'stale'}
end
commit()
return answers
