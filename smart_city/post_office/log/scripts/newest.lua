-- The newest position of any number of logs of one slot; whoever asks keeps them from being forgotten.
--
-- KEYS  each log's meta        ARGV  for each, the ms after which an idle log is forgotten
-- Answers offset, epoch, offset, epoch, …; 0 and '' for a log that is not there.

local function epoch_of(chain, offset)
  local epoch
  for name, start in string.gmatch(chain, '(%w+):(%d+)') do
    epoch = name
    if tonumber(start) <= offset then break end
  end
  return epoch
end

local answers = {}
for i, meta in ipairs(KEYS) do
  local found = redis.call('HMGET', meta, 'last', 'chain')
  local last = tonumber(found[1] or 0)
  answers[#answers + 1] = last
  answers[#answers + 1] = found[2] and epoch_of(found[2], last) or ''
  local idle = tonumber(ARGV[i])
  if found[2] and redis.call('PTTL', meta) < idle / 2 then redis.call('PEXPIRE', meta, idle) end
end
return answers
