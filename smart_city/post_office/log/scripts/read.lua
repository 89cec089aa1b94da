-- Reads one log: its chain and newest offset, whether a position is still good there, and what came after it.
--
-- KEYS  meta, entries, streams
-- ARGV  a candidate epoch, "create" to begin a log that is not there, ms after which an idle log is forgotten,
--       the position's offset (empty: none) and epoch, how many entries and how many bytes at most
-- Answers [chain, newest offset, first kept, reason ('' when the position is good), entries, open streams].

local meta, entries, streams = KEYS[1], KEYS[2], KEYS[3]
local candidate, is_creating, idle = ARGV[1], ARGV[2] == 'create', tonumber(ARGV[3])
local since, epoch = tonumber(ARGV[4]), ARGV[5]
local most, most_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])

local function created()
  redis.call('DEL', entries)
  local chain = with_epoch('', candidate, 1)
  redis.call('HSET', meta, 'v', 1, 'generation', generation_of_store(), 'chain', chain, 'last', 0, 'first', 1,
    'first_at', now_ms(), 'bytes', 0, 'trimmed', 0)
  redis.call('PEXPIRE', meta, idle)
  return {chain = chain, last = 0, average = 0}
end

local function opened()
  local found = redis.call('HMGET', meta, 'generation', 'chain', 'last', 'bytes', 'trimmed', 'first')
  local chain, last = found[2], tonumber(found[3])
  if not chain then
    return is_creating and created() or {chain = '', last = 0, average = 0, is_missing = true}
  end
  local generation = generation_of_store()
  if found[1] ~= generation then
    chain = with_epoch(chain, candidate, last + 1)
    redis.call('HSET', meta, 'generation', generation, 'chain', chain)
  end
  if redis.call('PTTL', meta) < idle / 2 then redis.call('PEXPIRE', meta, idle) end
  local kept = math.max(1, last - found[6] + 1)
  return {chain = chain, last = last, average = (found[4] - found[5]) / kept}
end

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

-- Asks for about as many as fit, so that a log of large entries is not copied to be thrown away; one always fits.
local function entries_after(log, offset)
  local found, size = {}, 0
  while #found < most and offset < log.last do
    local about = math.floor((most_bytes - size) / math.max(1, log.average))
    local count = math.max(1, math.min(most - #found, about))
    local chunk = redis.call('XRANGE', entries, string.format('%d', offset + 1), '+', 'COUNT', count)
    if #chunk == 0 then break end
    for _, entry in ipairs(chunk) do
      local data = entry[2][2]
      if #found > 0 and size + #data > most_bytes then return found end
      found[#found + 1], size, offset = data, size + #data, offset + 1
    end
  end
  return found
end

local log = opened()
local first = first_kept(log)
local reason = since and judged(log, first) or ''
local after = since and reason == '' and entries_after(log, since) or {}
return {log.chain, log.last, first, reason, after, redis.call('HVALS', streams)}
