-- Answers in parts that are open, each kept as the frame that tells a joiner the text so far. One call, many logs.
--
-- KEYS  FOUR for each item: `log:{CHANNEL}`, which is the bus channel of a log and never a key (that it is named
--       keeps a slot that moves key by key from being served by halves), and beginning with it
--         :open     hash  message id -> the newest part, bytes of the frame up to its text, 'shown' to joiners or
--                         'hidden'; and beside it
--         :open:ID  string: the frame up to the end of its text, which each part makes longer by itself alone
--         :drafts   hash  message id -> whole frame of one that shall end; ID/end -> how it shall,
--                         or '-' when it was decided that it breaks off; ID/broken -> the frame of one that did
--         :streams  hash  message id -> whole frame: shown ones of the release before this one, which kept open
--                         answers that are hidden among the drafts; they are taken over when touched. It knows
--                         nothing of :open, and what it breaks off here is removed by who touches it next
-- ARGV  life of a forgotten answer (ms), most bytes of an answer, then SIX for each item:
--       verb, message id, part, a frame up to its text, text (escaped as in JSON), end
--
--   open    the answer begins; the frame is the joiners'; part is 'hidden' if there shall be none
--   append  text is added and published in a frame of its own as this part; sent again, it is known
--   close   as append when there is text; then it is decided that and how the answer shall end, and no joiner sees it
--   fail    it is decided that the answer breaks off, also if it is yet to begin; unless it shall end
--   forget  its end is logged and settled
--
-- Answers for each {part}, for close and fail {part, whole text, end ('' when it breaks off)}.
-- Part -1: there is no such answer (any more), -2: it is too long.

local life, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local call, format = redis.call, string.format
local BROKEN_LIFE = 60 * 1000 -- for so long whoever broke it off may do so again
local BROKEN = '-' -- in place of an end
local BEGIN, PART = '"payload":{"message":"', '"},"part":'

local function keep(key, id, value)
  call('HSET', key, id, value)
  call('HPEXPIRE', key, life, 'FIELDS', 1, id)
end

local function tail(part) return PART .. format('%d', part) .. '}' end

-- The frame up to its text, the text, the part. What is escaped in JSON can hold neither BEGIN nor PART.
local function parse(frame)
  local _, head = string.find(frame, BEGIN, 1, true)
  local digits = string.match(string.sub(frame, -16), '(%d+)}$')
  return string.sub(frame, 1, head), string.sub(frame, head + 1, -2 - #digits - #PART), tonumber(digits)
end

local function kept_at(log, id) return log .. ':open:' .. id end

local function note(log, id, answer)
  keep(log .. ':open', id, format('%d %d %s', answer.part, answer.head, answer.is_shown and 'shown' or 'hidden'))
  call('PEXPIRE', kept_at(log, id), life)
end

local function begin(log, id, head, text, part, is_shown)
  local answer = {part = part, head = #head, size = #text, is_shown = is_shown}
  call('HDEL', log .. ':streams', id)
  call('HDEL', log .. ':drafts', id)
  call('SET', kept_at(log, id), head .. text)
  note(log, id, answer)
  return answer
end

-- An answer whose whole frame is kept, as one that is open.
local function taken_over(log, id)
  local frame = call('HGET', log .. ':streams', id)
  local is_shown = frame and true or false
  frame = frame or call('HGET', log .. ':drafts', id)
  if not frame then return nil end
  local head, text, part = parse(frame)
  return begin(log, id, head, text, part, is_shown)
end

local function find(log, id)
  local found = call('HGET', log .. ':open', id)
  if not found then return taken_over(log, id) end
  local part, head, how = string.match(found, '^(%d+) (%d+) (%l+)$')
  local size = call('STRLEN', kept_at(log, id)) - head
  return size >= 0 and {part = tonumber(part), head = tonumber(head), size = size, is_shown = how == 'shown'} or nil
end

local function text_of(log, id, answer) return call('GETRANGE', kept_at(log, id), answer.head, -1) end

local function frame_of(log, id, answer) return call('GET', kept_at(log, id)) .. tail(answer.part) end

local function ending_of(log, id) return call('HGET', log .. ':drafts', id .. '/end') end

local function remove_open(log, id)
  call('HDEL', log .. ':open', id)
  call('DEL', kept_at(log, id))
end

local verbs = {}

function verbs.open(log, id, hidden, head, text)
  if ending_of(log, id) then return {-1} end
  begin(log, id, head, text, 0, hidden == '')
  return {0}
end

function verbs.forget(log, id)
  remove_open(log, id)
  call('HDEL', log .. ':streams', id)
  call('HDEL', log .. ':drafts', id, id .. '/end', id .. '/broken')
  return {0}
end

-- The answer with its new text, or why not.
local function add(log, id, new_part, delta_head, new_text)
  local answer = find(log, id)
  if not answer or ending_of(log, id) == BROKEN then return nil, -1 end
  if new_text ~= '' and tonumber(new_part) > answer.part then
    if answer.size + #new_text > most then return nil, -2 end
    answer.part, answer.size = answer.part + 1, answer.size + #new_text
    call('APPEND', kept_at(log, id), new_text)
    if answer.is_shown then
      call('SPUBLISH', log, '{"v":1,"t":"delta"}\n' .. delta_head .. new_text .. tail(answer.part))
    end
  end
  return answer
end

function verbs.append(log, id, part, head, text)
  local answer, why = add(log, id, part, head, text)
  if not answer then return {why} end
  note(log, id, answer)
  return {answer.part}
end

function verbs.close(log, id, part, head, text, ending)
  local answer, why = add(log, id, part, head, text)
  if not answer then return {why} end
  local decided, whole = ending_of(log, id) or ending, text_of(log, id, answer)
  keep(log .. ':drafts', id, frame_of(log, id, answer))
  keep(log .. ':drafts', id .. '/end', decided)
  remove_open(log, id)
  return {answer.part, whole, decided}
end

function verbs.fail(log, id)
  local drafts, answer, ending = log .. ':drafts', find(log, id), ending_of(log, id)
  if answer and ending and ending ~= BROKEN then return {answer.part, text_of(log, id, answer), ending} end
  local frame = answer and frame_of(log, id, answer) or call('HGET', drafts, id .. '/broken')
  verbs.forget(log, id)
  keep(drafts, id .. '/end', BROKEN)
  if not frame then return {-1} end
  call('HSET', drafts, id .. '/broken', frame)
  call('HPEXPIRE', drafts, BROKEN_LIFE, 'FIELDS', 1, id .. '/broken')
  local _, text, part = parse(frame)
  return {part, text, ''}
end

local answers = {}
for i = 1, #KEYS / 4 do
  local at = 3 + (i - 1) * 6
  local verb, id, part, head, text, ending = unpack(ARGV, at, at + 5)
  answers[i] = verbs[verb](KEYS[4 * i - 3], id, part, head, text, ending)
end
return answers
