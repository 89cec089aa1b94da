-- Takes a lease that nobody holds, or whose holder the caller knows to be dead.
-- KEYS[1] the lease
-- ARGV    own token, own record, milliseconds, token of the dead holder (empty: none)
-- Returns {} when it was taken, else {token, record, milliseconds left} of the holder.
-- Expiry is the server's own, so only the server's clock counts.
local held = redis.call('HMGET', KEYS[1], 'token', 'owner')
if held[1] and held[1] ~= ARGV[1] and held[1] ~= ARGV[4] then
  return {held[1], held[2], redis.call('PTTL', KEYS[1])}
end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'owner', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {}
