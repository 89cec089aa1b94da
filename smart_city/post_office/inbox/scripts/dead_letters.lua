-- A page of dead letters, the last to die first.
-- ARGV: most letters, most bytes of a body that is shown, most bytes of all of them, and where the page before ended: ms of
-- death (or '+inf'), id.
-- Answers THREE for each: the head as JSON, bytes of the body, the body ('' if it is too long).

local most, most_shown, most_bytes, died_at, after = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local answer, found, bytes = {}, 0, 0

local at = died_at == '+inf' and 0 or call('ZCOUNT', inbox .. ':died', '(' .. died_at, '+inf')
while found < most and bytes < most_bytes do
  local next = call('ZREVRANGE', inbox .. ':died', at, at, 'WITHSCORES')
  local id, score = next[1], next[2]
  if not id then break end
  at = at + 1
  if score ~= died_at or id < after then
    local letter = call('HGET', inbox .. ':letters', id)
    local line = string.find(letter, '\n', 1, true)
    local size = #letter - line
    add(answer, string.sub(letter, 1, line - 1), size, size <= most_shown and string.sub(letter, line + 1) or '')
    found, bytes = found + 1, bytes + line + math.min(size, most_shown)
  end
end
return answer
