-- Ends a service token.
--
-- KEYS    the index (id to JSON), one that never exists
-- ARGV    token id, what the names of tokens begin with (in this slot)
-- Returns 1, or 0 when there is none of this id
local json = redis.call('HGET', KEYS[1], ARGV[1])
if not json then
  return 0
end
redis.call('DEL', ARGV[2] .. cjson.decode(json).digest)
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
