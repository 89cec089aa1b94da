-- Puts one round of one writer into an inbox, each question at the end of its lane, or says why not.
-- ARGV: writer, sequence, most messages, most bytes, life of a key (ms), 1 if some of it was acknowledged as held
-- (then the circuit refuses none of it, however often it is sent), a user's share of both, the questions in MessagePack,
-- SIX values for each (as one argument they take the store a fifth less time, and the gateway a tenth): id, lane, user,
-- route, marks, body; then the circuit's rule. Marks are `HOPS SERIAL DIGEST KEY`, or '' for a question that has neither.
-- Answers what became of those that were not put in, TWO for each: its place, counted from 0, and a word, dID (known: its
-- earlier id), c (conflict), f (full), s (the user's share), oMS (the circuit is open, for so long); nothing for a round
-- that another one of this writer has overtaken.

local writer, sequence = inbox .. ':writer:' .. ARGV[1], tonumber(ARGV[2])
local most, most_bytes, key_life = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local is_held = ARGV[6] == '1'
local share, share_bytes = math.max(1, math.floor(most * ARGV[7])), most_bytes * ARGV[7]
local questions = cmsgpack.unpack(ARGV[8])
local WRITER_LIFE = 3600 * 1000

-- A round that was sent again, because its answer was lost, is answered as before and does nothing; what it writes is
-- there for WAIT to wait for.
local last = call('HMGET', writer, 'sequence', 'answers')
if last[1] and sequence == tonumber(last[1]) then
  call('PEXPIRE', writer, WRITER_LIFE)
  return cjson.decode(last[2])
end
if last[1] and sequence < tonumber(last[1]) then return nil end

local function known(key, digest)
  if key == '' then return nil end
  local value = call('HGET', inbox .. ':keys', key)
  if not value then return nil end
  local space = string.find(value, ' ', 1, true)
  if string.sub(value, 1, space - 1) ~= digest then return 'c' end
  return 'd' .. string.sub(value, space + 1)
end

-- One message of a user always fits, however large it is.
local function refusal(user, size)
  local all, mine = total(), share_of(user)
  if all.n + 1 > most or all.bytes + size > most_bytes then return 'f' end
  if user == '' or mine.n == 0 then return nil end
  if mine.n + 1 > share or mine.bytes + size > share_bytes then return 's' end
  return nil
end

-- One message that is too large for what is left does not make the inbox full.
local function open_when_full()
  if circuit_state() ~= 'open' and is_filled(rule.room, most, most_bytes) then open_circuit('full') end
end

-- Hardly ever is one of a round here already, and one question for all costs a tenth of one for each.
local function any_is_here()
  local keys = {}
  for i = 1, #questions, 6 do keys[#keys + 1] = message_key(questions[i]) end
  return #keys > 0 and call('EXISTS', unpack(keys)) > 0
end

-- What is here of it already: itself, or what was handed on from here and is back before that was noted.
local NO_TRACE, is_any_here, just_put = {}, any_is_here(), {}
local function trace_of(id)
  if not is_any_here and not just_put[id] then return NO_TRACE end
  local f = call('HMGET', message_key(id), 'holder', 'lane', 'user', 'size', 'to')
  return {is_here = f[2] and not f[5], is_leaving = f[5], holder = f[1], lane = f[2], user = f[3], size = f[4]}
end

-- Puts a question in, or answers why not.
local function enqueue(id, lane, user, route, body, hops, serial, digest, key)
  local answer, trace = known(key, digest), trace_of(id)
  if answer then return answer end
  if trace.is_here then return 'd' .. id end
  answer = refusal(user, #body)
  if answer == 'f' then open_when_full() end
  if answer then return answer end
  local stay_away = not is_held and refused_for(user, most, most_bytes)
  if stay_away then return 'o' .. stay_away end
  if trace.is_leaving then remove(id, trace.holder, trace.lane, trace.user, trace.size) end
  put(id, lane, user, route, hops, serial, now, body)
  just_put[id] = true
  if key ~= '' then note(inbox .. ':keys', key, digest .. ' ' .. id, key_life) end
end

local function marks_of(text)
  if text == '' then return '0', '0', '', '' end
  return string.match(text, '^(%d+) (%d+) (%S*) (.*)$')
end

local answers = {}
for i = 1, #questions, 6 do
  local id, lane, user, route, marks, body = unpack(questions, i, i + 5)
  local word = enqueue(id, lane, user, route, body, marks_of(marks))
  if word then add(answers, (i - 1) / 6, word) end
end
call('HSET', writer, 'sequence', sequence, 'answers', cjson.encode(answers))
call('PEXPIRE', writer, WRITER_LIFE)
commit()
return answers
