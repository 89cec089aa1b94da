-- Uses a session that stands: subscribes to URIs, or keeps up to where changes of them were told, and puts its end off.
--
-- KEYS    the caller's sessions (name by last use), the session's URIs, up to which offset each was told
-- ARGV    name, milliseconds that it is kept unused, milliseconds after which its end is put off,
--         how many URIs it may have (0: none is added), then URIs, each with an offset
-- Returns "gone", "full", or "used"
local sessions, uris, told = KEYS[1], KEYS[2], KEYS[3]
local name, kept, fresh, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local used = redis.call('ZSCORE', sessions, name)
if not used or now - used >= kept then return 'gone' end
for i = 5, #ARGV, 2 do
  local is_followed = redis.call('SISMEMBER', uris, ARGV[i]) == 1
  if not is_followed and most > 0 then
    if redis.call('SCARD', uris) >= most then return 'full' end
    redis.call('SADD', uris, ARGV[i])
    is_followed = true
  end
  if is_followed then redis.call('HSET', told, ARGV[i], ARGV[i + 1]) end
end
if #ARGV > 4 or now - used > fresh then
  redis.call('ZADD', sessions, now, name)
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, kept) end
end
return 'used'
