-- Prolongs a lease that is still the caller's. It allocates nothing, so it works on a full store, too.
-- KEYS[1] the lease
-- ARGV    own token, milliseconds
-- Returns 1, or 0 when it lapsed or belongs to another.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
