#!lua flags=allow-oom
-- Says who owns connections' logs: while the record lives, answers are appended there.
--
-- KEYS  `owner:{connection:ID}` of each connection
-- ARGV  time to live in ms, the owning instance's name, then for each key: user id

for i, key in ipairs(KEYS) do
  redis.call('HSET', key, 'instance', ARGV[2], 'user_id', ARGV[2 + i])
  redis.call('PEXPIRE', key, ARGV[1])
end
return #KEYS
