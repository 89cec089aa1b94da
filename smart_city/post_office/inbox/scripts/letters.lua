-- The dead letters of an inbox; it stands before the scripts that bury and exhume. Each is a line of JSON, then the body.

local function exhume(id)
  local letter = call('HGET', inbox .. ':letters', id)
  if not letter then return nil end
  call('HDEL', inbox .. ':letters', id)
  call('ZREM', inbox .. ':died', id)
  call('HINCRBY', inbox .. ':meta', 'dead_bytes', -#letter)
  return letter
end

local function bury(id, letter, most, most_bytes)
  exhume(id)
  call('HSET', inbox .. ':letters', id, letter)
  call('ZADD', inbox .. ':died', now, id)
  local bytes = call('HINCRBY', inbox .. ':meta', 'dead_bytes', #letter)
  local letters = call('ZCARD', inbox .. ':died')
  while letters > 1 and (letters > most or bytes > most_bytes) do
    letters = letters - 1
    exhume(call('ZRANGE', inbox .. ':died', 0, 0)[1])
    bytes = tonumber(call('HGET', inbox .. ':meta', 'dead_bytes'))
  end
end

-- Its head, decoded, and its body.
local function opened(letter)
  local line = string.find(letter, '\n', 1, true)
  return cjson.decode(string.sub(letter, 1, line - 1)), string.sub(letter, line + 1)
end
