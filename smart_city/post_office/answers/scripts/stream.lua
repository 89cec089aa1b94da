-- Answers in parts that are open, each kept as the frame that tells a joiner the text so far. One call, many logs.
--
-- KEYS  THREE for each item: `log:{CHANNEL}`, which is the bus channel of a log and never a key (that it is named
--       keeps a slot that moves key by key from being served by halves), and beginning with it
--         :streams  hash  message id -> frame; what joiners are sent
--         :drafts   hash  the same for answers that are shown to nobody, or no more; ID/end -> how one shall end,
--                         or '-' when it was decided that it breaks off; ID/broken -> the frame of one that did
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
local call = redis.call
local BROKEN_LIFE = 60 * 1000 -- for so long whoever broke it off may do so again
local BEGIN, PART = '"payload":{"message":"', '"},"part":'

local function keep(key, id, value)
  call('HSET', key, id, value)
  call('HPEXPIRE', key, life, 'FIELDS', 1, id)
end

-- The frame up to its text, the text, the part. What is escaped in JSON can hold neither BEGIN nor PART.
local function parse(frame)
  local _, head = string.find(frame, BEGIN, 1, true)
  local digits = string.match(string.sub(frame, -16), '(%d+)}$')
  return string.sub(frame, 1, head), string.sub(frame, head + 1, -2 - #digits - #PART), tonumber(digits)
end

local function tail(part) return PART .. string.format('%d', part) .. '}' end

local function find(log, id)
  local frame = call('HGET', log .. ':streams', id)
  if frame then return frame, true end
  return call('HGET', log .. ':drafts', id), false
end

local function ending_of(log, id) return call('HGET', log .. ':drafts', id .. '/end') end

local verbs = {}

function verbs.open(log, id, hidden, head, text)
  if ending_of(log, id) then return {-1} end
  keep(log .. (hidden == '' and ':streams' or ':drafts'), id, head .. text .. tail(0))
  return {0}
end

function verbs.forget(log, id)
  call('HDEL', log .. ':streams', id)
  call('HDEL', log .. ':drafts', id, id .. '/end', id .. '/broken')
  return {0}
end

local function add(log, id, new_part, delta_head, new_text, ending)
  local frame, is_shown = find(log, id)
  if not frame then return {-1} end
  local head, text, part = parse(frame)
  if new_text ~= '' and tonumber(new_part) > part then
    if #text + #new_text > most then return {-2} end
    part, text = part + 1, text .. new_text
    if is_shown then
      call('SPUBLISH', log, '{"v":1,"t":"delta"}\n' .. delta_head .. new_text .. tail(part))
    end
  end
  if ending and is_shown then call('HDEL', log .. ':streams', id) end
  keep(log .. ((ending or not is_shown) and ':drafts' or ':streams'), id, head .. text .. tail(part))
  return {part, text}
end

function verbs.append(log, id, part, head, text) return {add(log, id, part, head, text, nil)[1]} end

function verbs.close(log, id, part, head, text, ending)
  local answer = add(log, id, part, head, text, ending)
  if answer[1] < 0 then return answer end
  answer[3] = ending_of(log, id) or ending
  keep(log .. ':drafts', id .. '/end', answer[3])
  return answer
end

function verbs.fail(log, id)
  local drafts, frame, ending = log .. ':drafts', find(log, id), ending_of(log, id)
  if not ending or not frame then
    frame, ending = frame or call('HGET', drafts, id .. '/broken'), nil
    verbs.forget(log, id)
    keep(drafts, id .. '/end', '-')
    if not frame then return {-1} end
    call('HSET', drafts, id .. '/broken', frame)
    call('HPEXPIRE', drafts, BROKEN_LIFE, 'FIELDS', 1, id .. '/broken')
  end
  local _, text, part = parse(frame)
  return {part, text, ending or ''}
end

local answers = {}
for i = 1, #KEYS / 3 do
  local at = 3 + (i - 1) * 6
  local verb, id, part, head, text, ending = unpack(ARGV, at, at + 5)
  answers[i] = verbs[verb](KEYS[3 * i - 2], id, part, head, text, ending)
end
return answers
