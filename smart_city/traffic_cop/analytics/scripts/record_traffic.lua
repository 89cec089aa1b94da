-- Writes what one instance has counted in some minutes. Each value is the whole of what its field stands for, so
-- that a call which is repeated, or whose answer was lost, changes nothing.
--
-- KEYS    the minutes, each a hash; a minute may come twice
-- ARGV    how many seconds a minute is kept, then for each key a field and its value
-- Returns this server's time, in seconds and microseconds
for place, key in ipairs(KEYS) do
  redis.call('HSET', key, ARGV[2 * place], ARGV[2 * place + 1])
  redis.call('EXPIRE', key, ARGV[1])
end
return redis.call('TIME')
