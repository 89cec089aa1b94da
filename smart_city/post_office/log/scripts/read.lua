-- Reads one log: its chain and newest offset, whether a position is still good there, and what came after it;
-- or going back, what came right before an offset.
--
-- KEYS  meta, entries, streams and open (the log's open answers, as `stream.lua` keeps them; beside the latter lies the
--       text of each, which is not named), and one that never exists
-- ARGV  a candidate epoch, "create" to begin a log that is not there or "back" to read back in time, ms after which
--       an idle log is forgotten, the position's offset (empty: none; going back exclusive, empty: the newest too)
--       and epoch, how many entries and how many bytes at most
-- Answers [chain, newest offset, first kept, reason ('' when the position is good), entries, open streams]; the
-- entries are in the order in which they were read, so going back the newest is the first. Open streams are for who
-- asks without a position: with each page on the way there, one of 100 kB cost 105 µs instead of 22.

local meta, entries, streams, open = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local candidate, is_creating, is_back, idle = ARGV[1], ARGV[2] == 'create', ARGV[2] == 'back', tonumber(ARGV[3])
local since, epoch = tonumber(ARGV[4]), ARGV[5]
local most, most_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])

local function first_kept(log)
  local head = not log.is_missing and redis.call('XRANGE', entries, '-', '+', 'COUNT', 1)[1]
  return head and tonumber(string.match(head[1], '^%d+')) or log.last + 1
end

-- A position is good while its epoch is known, what came after it in that epoch survived, and it is still kept.
local function judged(log, first)
  local next_start, is_known = nil, epoch == ''
  for name, start in string.gmatch(log.chain, '(%w+):(%d+)') do
    if is_known then break end
    is_known = name == epoch
    if is_known and next_start and since >= next_start then return 'diverged' end
    next_start = tonumber(start)
  end
  if not is_known then return 'unknown_epoch' end
  if since > log.last then return 'future' end
  if since < first - 1 then return 'trimmed' end
  return ''
end

local function chunk_after(offset, count)
  return redis.call('XRANGE', entries, string.format('%d', offset + 1), '+', 'COUNT', count)
end

local function chunk_before(offset, count)
  return redis.call('XREVRANGE', entries, string.format('%d', offset - 1), '-', 'COUNT', count)
end

-- Asks for about as many as fit, so that a log of large entries is not copied to be thrown away; one always fits.
-- What does not fit is left at the far end, so that whoever goes on from the last one read misses nothing.
local function entries_from(log, chunk_from, offset, step)
  local found, size = {}, 0
  while #found < most do
    local about = math.floor((most_bytes - size) / math.max(1, log.average))
    local count = math.max(1, math.min(most - #found, about))
    local chunk = chunk_from(offset, count)
    for _, entry in ipairs(chunk) do
      local data = entry[2][2]
      if #found > 0 and size + #data > most_bytes then return found end
      found[#found + 1], size, offset = data, size + #data, offset + step
    end
    if #chunk < count then break end
  end
  return found
end

local function read(log, reason)
  if log.is_missing then return {} end
  if is_back then
    return entries_from(log, chunk_before, math.min(since or math.huge, log.last + 1), -1)
  end
  return since and reason == '' and since < log.last and entries_from(log, chunk_after, since, 1) or {}
end

-- What a joiner is told of each open answer: its frame, which is kept up to the end of its text.
local function snapshots()
  local frames, found = redis.call('HVALS', streams), redis.call('HGETALL', open)
  for i = 1, #found, 2 do
    local part, how = string.match(found[i + 1], '^(%d+) %d+ (%l+)$')
    local frame = how == 'shown' and redis.call('GET', open .. ':' .. found[i])
    if frame then frames[#frames + 1] = frame .. '"},"part":' .. part .. '}' end
  end
  return frames
end

local log = opened(meta, entries, candidate, idle, is_creating)
local first = first_kept(log)
local reason = since and not is_back and judged(log, first) or ''
return {log.chain, log.last, first, reason, read(log, reason), (since or is_back) and {} or snapshots()}
