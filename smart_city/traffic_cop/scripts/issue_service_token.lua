-- Writes a service token and its entry in the index of all.
--
-- KEYS    the index (id to JSON), the token
-- ARGV    token id, the token as JSON, milliseconds it lives (0: until it is revoked), how many there may be
-- Returns 1, or 0 when there are that many already
local lifetime = tonumber(ARGV[3])
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[2])
if lifetime > 0 then
  redis.call('HPEXPIRE', KEYS[1], lifetime, 'FIELDS', 1, ARGV[1])
  redis.call('PEXPIRE', KEYS[2], lifetime)
end
return 1
