-- Where any number of logs of one slot are, for whoever begins to hear them.
--
-- KEYS  FOUR for each log: meta, entries, streams and open
-- ARGV  a candidate epoch, then TWO for each log: ms after which an idle log is forgotten, "create" to begin a log that
--       is not there
-- Answers for each log [chain, newest offset, how many answers in parts are open and shown to joiners].

local function shown_in(open)
  local shown = 0
  for _, note in ipairs(redis.call('HVALS', open)) do
    if string.sub(note, -5) == 'shown' then shown = shown + 1 end
  end
  return shown
end

local answers = {}
for i = 1, #KEYS / 4 do
  local meta, entries, streams, open = unpack(KEYS, 4 * i - 3, 4 * i)
  local log = opened(meta, entries, ARGV[1], tonumber(ARGV[2 * i]), ARGV[2 * i + 1] == 'create')
  answers[i] = {log.chain, log.last, redis.call('HLEN', streams) + shown_in(open)}
end
return answers
