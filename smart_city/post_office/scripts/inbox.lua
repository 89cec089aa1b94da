-- What the scripts of an inbox share; it stands before each of them. KEYS[1] is `inbox:{CHANNEL}`: every key below
-- begins with it, and wake-ups are published on the bus channel of that name. The clock is the server's, in ms.
--
--   :message:ID    hash   v, lane, user, route, body, size, hops, serial, before, at, since, tries;
--                         while somebody has it: holder; while it is being ended: ending, why; and stream, agent, to
--   :lane:LANE     list   message ids in order; the head of a lane in flight stays its head
--   :ready         list   lanes whose head may be taken, served round robin
--   :delayed       zset   lanes that wait after a failed try, by when they are due
--   :leases        zset   messages that somebody has, by when the lease ends
--   :held:HOLDER   set    what one holder (`INSTANCE|consumer`) has; `:holders` names the holders
--   :waiting       zset   messages that nobody has, by since when
--   :meta          hash   depth, bytes, dead_bytes; `:users` the same by user (n:USER, b:USER)
--   :keys          hash   idempotency keys, each with a life of its own
--   :writer:ID     hash   a writer's last round and what was answered to it
--   :dead          list   dead letters, the oldest first: a line of JSON, then the body
--   :consumers     hash   how many consumers each instance has, each with a life of its own
--
-- A lane that is not empty is in exactly one of three places: ready, delayed, or in flight (its head is leased).

local inbox = KEYS[1]
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local has_news = false

local function message_key(id) return inbox .. ':message:' .. id end
local function lane_key(lane) return inbox .. ':lane:' .. lane end
local function held_key(holder) return inbox .. ':held:' .. holder end

local function make_ready(lane, push)
  call(push, inbox .. ':ready', lane)
  has_news = true
end

local function wake_takers()
  if has_news then call('SPUBLISH', inbox, '1') end
end

local function hold(id, holder, milliseconds)
  call('ZADD', inbox .. ':leases', now + milliseconds, id)
  call('SADD', held_key(holder), id)
  call('SADD', inbox .. ':holders', holder)
end

local function let_go(id, holder)
  call('ZREM', inbox .. ':leases', id)
  call('SREM', held_key(holder), id)
  if call('EXISTS', held_key(holder)) == 0 then call('SREM', inbox .. ':holders', holder) end
end

local function count_for(user, n, bytes)
  call('HINCRBY', inbox .. ':meta', 'depth', n)
  call('HINCRBY', inbox .. ':meta', 'bytes', bytes)
  if user == '' then return end
  local left = call('HINCRBY', inbox .. ':users', 'n:' .. user, n)
  call('HINCRBY', inbox .. ':users', 'b:' .. user, bytes)
  if left <= 0 then call('HDEL', inbox .. ':users', 'n:' .. user, 'b:' .. user) end
end

-- Takes a message that somebody has out of the inbox; its lane goes on. One that has left its lane has lane ''.
local function remove(id)
  local lane, user, size, holder = unpack(call('HMGET', message_key(id), 'lane', 'user', 'size', 'holder'))
  let_go(id, holder)
  call('DEL', message_key(id))
  if lane ~= '' then
    call('LPOP', lane_key(lane))
    if call('EXISTS', lane_key(lane)) == 1 then make_ready(lane, 'RPUSH') end
  end
  count_for(user, -1, -size)
end
