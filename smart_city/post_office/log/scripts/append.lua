-- Appends to any number of logs of one slot: each log all or nothing, in order, and once however often it is sent.
--
-- KEYS  for each log: meta and entries; where entries are marked also keys, and the ownership record that guarded ones
--       need
-- ARGV  a candidate epoch, writer's incarnation, its sequence number, ms for which idempotency keys are kept, the canary
--       of the connection on which the sender hears its "own" logs;
--       for logs that follow one another and have this alike: how many they are, "count bytes age idle" (ms), "own" or
--       "all", the number of entries, and "plain" or "marked", all in one text; then the entries of each. A plain entry
--       is its data. A marked one is its mark, of the letters k (has a key: key, digest and message id follow) and o
--       (needs the owner), and then its data.
-- Answers a JSON list with, for each log, {"v", "e": epoch, "s": its start, "f": first, "l": last, "x": [[index,
-- outcome, …], …]}; e, s, f and l are missing when nothing was appended, x when nothing was set aside. A log that could not be
-- written answers {"v", "error"}, and the others of the call are none the worse for it.

local WRITERS_KEPT_MS = 3600000
local BUS_BYTES = 65536

local call, format = redis.call, string.format
local candidate = ARGV[1]
local writer = 'w:' .. ARGV[2]
local sequence = tonumber(ARGV[3])
local keys_kept_ms = ARGV[4]
local now = now_ms()
local generation = generation_of_store()

local cursor = 5
local function next_argument()
  cursor = cursor + 1
  return ARGV[cursor]
end

local function next_plain(count)
  local data = {}
  for i = 1, count do data[i] = ARGV[cursor + i] end
  cursor = cursor + count
  return data
end

-- The entries' data, and what their marks say under the same indices.
local function next_marked(count)
  local data, marks = {}, {}
  for i = 1, count do
    local letters = next_argument()
    local mark = {needs_owner = string.find(letters, 'o', 1, true) ~= nil}
    if string.find(letters, 'k', 1, true) then
      mark.key, mark.digest, mark.message_id = next_argument(), next_argument(), next_argument()
    end
    marks[i], data[i] = mark, next_argument()
  end
  return data, marks
end

-- How many logs come next, how much each keeps, and what is to be appended to it.
local function next_head()
  local logs, count, bytes, age, idle, hearers, entries, kind = string.match(
    next_argument(), '(%d+) (%d+) (%d+) (%d+) (%d+) (%a+) (%d+) (%a+)')
  local limits = {count = tonumber(count), bytes = tonumber(bytes), age = tonumber(age), idle = tonumber(idle)}
  return {
    logs = tonumber(logs), limits = limits, entries = tonumber(entries), is_plain = kind == 'plain',
    is_own = hearers == 'own'}
end

local function opened(meta)
  local found = call('HMGET', meta, writer, 'generation', 'chain', 'last', 'bytes', 'first', 'first_at', 'trimmed',
    'renewed')
  local log
  if found[3] then
    log = {
      record = found[1], chain = found[3], last = tonumber(found[4]), bytes = tonumber(found[5]),
      first = tonumber(found[6]), first_at = tonumber(found[7]), trimmed = tonumber(found[8]),
      renewed = tonumber(found[9] or 0)}
  else
    log = {is_new = true, chain = '', last = 0, bytes = 0, first = 1, first_at = now, trimmed = 0, renewed = 0}
  end
  if found[2] ~= generation then
    log.chain = with_epoch(log.chain, candidate, log.last + 1)
    log.has_new_epoch = true
  end
  log.epoch, log.start = newest_epoch(log.chain)
  log.is_unwritten = log.last == 0
  return log
end

-- What this writer was told under this sequence; nil when it is a new one.
local function earlier_answer(record)
  local seen, answer = string.match(record, '^(%d+) %d+ (.*)$')
  seen = tonumber(seen)
  if seen == sequence then return answer end
  if seen > sequence then error('overtaken by a later append of its writer') end
  return nil
end

local function known_under(key, marks)
  local wanted, known = {}, {}
  for _, mark in ipairs(marks) do wanted[#wanted + 1] = mark.key end
  if #wanted > 0 then
    for i, text in ipairs(call('HMGET', key, unpack(wanted))) do
      if text then known[wanted[i]] = cjson.decode(text) end
    end
  end
  return known
end

-- Parts entries into those to append and those set aside: duplicates, conflicts, and those whose owner has gone.
-- Keys that become known are told as well, ready to be remembered.
local function judged(log, data, marks, keys, owner)
  local fresh, aside, told = {}, {}, {}
  local known, has_owner = known_under(keys, marks), call('HEXISTS', owner, 'user_id') == 1
  for i, mark in ipairs(marks) do
    local earlier = mark.key and known[mark.key]
    if earlier and earlier.digest == mark.digest then
      aside[#aside + 1] = {i - 1, 'duplicate', earlier.offset, earlier.epoch, earlier.message_id}
    elseif earlier then
      aside[#aside + 1] = {i - 1, 'conflict'}
    elseif mark.needs_owner and not has_owner then
      aside[#aside + 1] = {i - 1, 'gone'}
    else
      fresh[#fresh + 1] = data[i]
      if mark.key then
        local answer = {
          v = 1, offset = log.last + #fresh, epoch = log.epoch, digest = mark.digest, message_id = mark.message_id}
        known[mark.key] = answer
        told[#told + 1], told[#told + 2] = mark.key, cjson.encode(answer)
      end
    end
  end
  return fresh, aside, told
end

-- The first XADD fails before anything is changed, or none does.
local function add(entries, log, fresh)
  local offset, bytes = log.last, log.bytes
  if log.is_new then call('DEL', entries) end
  for i = 1, #fresh do
    local data = fresh[i]
    offset = offset + 1
    call('XADD', entries, format('%d-0', offset), 'd', data, 't', now, 'b', bytes)
    bytes = bytes + #data
  end
  if log.last < log.first then log.first_at = now end
  log.last, log.bytes = offset, bytes
end

local function remember(keys, told)
  local fields = {}
  for i = 1, #told, 2 do fields[#fields + 1] = told[i] end
  call('HSET', keys, unpack(told))
  call('HPEXPIRE', keys, keys_kept_ms, 'FIELDS', #fields, unpack(fields))
end

local function entry_from(entries, offset)
  local entry = call('XRANGE', entries, format('%d', offset), '+', 'COUNT', 1)[1]
  local fields = entry[2]
  return {offset = tonumber(string.match(entry[1], '^%d+')), at = tonumber(fields[4]), before = tonumber(fields[6])}
end

-- The first entry to keep. Times and bytes grow along the log, so it is found in steps that double, then halve;
-- the newest entry always stays.
local function first_to_keep(entries, log, limits)
  local function is_kept(entry)
    local is_young = entry.at >= now - limits.age
    return entry.offset == log.last or (is_young and log.bytes - entry.before <= limits.bytes)
  end
  local low = entry_from(entries, math.max(log.first, log.last - limits.count + 1))
  if is_kept(low) then return low end
  local step = 1
  local high = entry_from(entries, math.min(low.offset + step, log.last))
  while not is_kept(high) do
    low, step = high, step * 2
    high = entry_from(entries, math.min(low.offset + step, log.last))
  end
  while high.offset - low.offset > 1 do
    local middle = entry_from(entries, math.floor((low.offset + high.offset) / 2))
    if is_kept(middle) then high = middle else low = middle end
  end
  return high
end

local function trim(entries, log, limits)
  local is_within = log.last - log.first < limits.count and log.bytes - log.trimmed <= limits.bytes
  if is_within and log.first_at >= now - limits.age then return end
  local kept = first_to_keep(entries, log, limits)
  call('XTRIM', entries, 'MINID', format('%d', kept.offset))
  log.first, log.first_at, log.trimmed, log.has_new_head = kept.offset, kept.at, kept.before, true
end

-- A writer that comes anew sweeps out those not heard of for an hour.
local function sweep_writers(meta)
  local fields = call('HGETALL', meta)
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'w:' then
      local at = tonumber(string.match(fields[i + 1], '^%d+ (%d+)'))
      if at < now - WRITERS_KEPT_MS then call('HDEL', meta, fields[i]) end
    end
  end
end

-- Idle logs expire, meta last. The time is set an eighth longer and renewed after an eighth, which costs a busy
-- log nothing.
local function renew(meta, entries, log, limits)
  call('PEXPIRE', entries, format('%d', limits.age + limits.age / 8))
  call('PEXPIRE', meta, format('%d', limits.idle + limits.age / 8))
end

local function put(fields, name, value)
  fields[#fields + 1], fields[#fields + 2] = name, value
end

local function keep(meta, entries, log, limits, answer)
  local fields = {'last', log.last, 'bytes', log.bytes, writer, format('%d %d %s', sequence, now, answer)}
  local is_renewed = now - log.renewed >= limits.age / 8
  if is_renewed then put(fields, 'renewed', now) end
  if log.is_new or log.has_new_head then
    put(fields, 'first', log.first)
    put(fields, 'first_at', log.first_at)
    put(fields, 'trimmed', log.trimmed)
  end
  if log.has_new_epoch then
    put(fields, 'v', 1)
    put(fields, 'generation', generation)
    put(fields, 'chain', log.chain)
  end
  call('HSET', meta, unpack(fields))
  if is_renewed then renew(meta, entries, log, limits) end
  if not log.record and not log.is_unwritten then sweep_writers(meta) end
end

-- How many hear each log; nil where the sender hears none, or the connection on which it did is gone.
local function hearers_of(canary)
  if canary == '' then return nil end
  local names = {canary}
  for i = 1, #KEYS do
    if string.sub(KEYS[i], -5) == ':meta' then names[#names + 1] = string.sub(KEYS[i], 1, -6) end
  end
  local found, hearers = call('PUBSUB', 'SHARDNUMSUB', unpack(names)), {}
  for i = 1, #found, 2 do hearers[found[i]] = found[i + 1] end
  return hearers[canary] > 0 and hearers or nil
end
local hearers = hearers_of(ARGV[5])

-- The reply tells the sender, so that a log that nobody else hears is not published (many_channels: 11 % of the gateway).
local function publish(bus, head, fresh, is_own)
  if hearers and hearers[bus] <= (is_own and 1 or 0) then return end
  local sizes, size = {}, 0
  for i = 1, #fresh do
    sizes[i] = #fresh[i]
    size = size + sizes[i]
  end
  if size > BUS_BYTES then
    call('SPUBLISH', bus, head .. '}\n')
  else
    call('SPUBLISH', bus, head .. ',"z":[' .. table.concat(sizes, ',') .. ']}\n' .. table.concat(fresh))
  end
end

-- Changes nothing, and yet is a write that WAIT can wait for: what was logged by another call, of which this one tells
-- its sender, may not have reached the replicas.
local function touch(meta, log)
  if not log.is_new then call('HSET', meta, 'renewed', log.renewed) end
end

local function append(head_of_log, data, marks, meta, entries, keys, owner)
  local limits = head_of_log.limits
  local log = opened(meta)
  local earlier = log.record and earlier_answer(log.record)
  if earlier then
    touch(meta, log)
    return earlier
  end
  local fresh, aside, told = data, nil, nil
  if marks then fresh, aside, told = judged(log, data, marks, keys, owner) end
  local tail = (aside and #aside > 0) and ',"x":' .. cjson.encode(aside) .. '}' or '}'
  if #fresh == 0 then
    touch(meta, log)
    return '{"v":1' .. tail
  end

  local head = format(
    '{"v":1,"e":"%s","s":%d,"f":%d,"l":%d', log.epoch, log.start, log.last + 1, log.last + #fresh)
  local answer = head .. tail
  add(entries, log, fresh)
  if told and #told > 0 then remember(keys, told) end
  trim(entries, log, limits)
  keep(meta, entries, log, limits, answer)
  publish(string.sub(meta, 1, -6), head, fresh, head_of_log.is_own)
  return answer
end

local answers, at, head, left = {}, 1, nil, 0
while at <= #KEYS do
  if left == 0 then
    head = next_head()
    left = head.logs
  end
  left = left - 1
  local data, marks = (head.is_plain and next_plain or next_marked)(head.entries)
  local next_at = at + (head.is_plain and 2 or 4)
  local is_done, answer = pcall(append, head, data, marks, unpack(KEYS, at, next_at - 1))
  if not is_done then
    answer = cjson.encode({v = 1, error = type(answer) == 'table' and answer.err or tostring(answer)})
  end
  answers[#answers + 1], at = answer, next_at
end
return '[' .. table.concat(answers, ',') .. ']'
