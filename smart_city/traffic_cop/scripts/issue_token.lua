-- Writes a token of a session: of a new one, or of one that must still stand.
--
-- KEYS    the session; its tokens (digest by end); the user's sessions (id by end); the token;
--         the sessions of the whole shard (id by end)
-- ARGV    session id, token digest, milliseconds the token lives, the session as JSON,
--         "new" or "again", and how many there may be: sessions of this user if new, else living tokens
-- Returns {"written"}, {"gone"}, or {"full", milliseconds until there is room}
--
-- Session and indexes live as long as the longest of their tokens. All times are this server's.
local session, tokens, sessions, token, shard = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, digest, lifetime, json = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local is_new, most = ARGV[5] == 'new', tonumber(ARGV[6])

if not is_new and redis.call('EXISTS', session) == 0 then
  return { 'gone' }
end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local counted = is_new and sessions or tokens
redis.call('ZREMRANGEBYSCORE', counted, '-inf', now)
if redis.call('ZCARD', counted) >= most then
  local first = redis.call('ZRANGE', counted, 0, 0, 'WITHSCORES')
  return { 'full', first[2] - now }
end

local function lives_for(key)
  if redis.call('PTTL', key) < lifetime then
    redis.call('PEXPIRE', key, lifetime)
  end
end

if redis.call('PTTL', session) < lifetime then
  redis.call('SET', session, json, 'PX', lifetime)
end
redis.call('ZADD', tokens, now + lifetime, digest)
lives_for(tokens)
redis.call('ZADD', sessions, 'GT', now + lifetime, id)
lives_for(sessions)
redis.call('ZREMRANGEBYSCORE', shard, '-inf', now)
redis.call('ZADD', shard, 'GT', now + lifetime, id)
lives_for(shard)
redis.call('SET', token, json, 'PX', lifetime)
return { 'written' }
