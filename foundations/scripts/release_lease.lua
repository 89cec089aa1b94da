-- Gives a lease back if it is still the caller's.
-- KEYS[1] the lease
-- ARGV    own token
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
