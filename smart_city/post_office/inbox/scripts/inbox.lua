-- What the scripts of an inbox share; it stands before each of them. KEYS[1] is `inbox:{CHANNEL}`: every key below
-- begins with it, and wake-ups are published on the bus channel of that name. KEYS[2] never exists: while the slot
-- moves key by key, it keeps a script from being served by halves. The clock is the server's, in ms.
--
--   :message:ID    hash   v, lane, user, route, body, size, hops, serial, before, at, since, tries;
--                         while somebody has it: holder, take; while it is being ended: ending, why, stop; and
--                         stream, agent, to; of an earlier attempt: last, avoid; out of its lane: from
--   :lane:LANE     list   message ids in order; the head of a lane in flight stays its head
--   :ready         list   lanes whose head may be taken, served round robin
--   :delayed       zset   lanes that wait after a failed try, by when they are due
--   :leases        zset   messages that somebody has, by when the lease ends
--   :held:HOLDER   set    what one holder (`INSTANCE|consumer`) has; `:holders` names the holders
--   :waiting       zset   messages that nobody has, by since when
--   :meta          hash   depth, bytes, dead_bytes; `:users` the same by user (n:USER, b:USER)
--   :circuit       hash   whether it takes questions, and what it was decided by; `:failing`, `:failed`, `:probing`: askers
--   :keys          hash   idempotency keys, each with a life of its own
--   :writer:ID     hash   a writer's last round and what was answered to it
--   :void          hash   takes up to that number take nothing any more, by taker, each with a life of its own
--   :letters       hash   dead letters by message id: a line of JSON, then the body; `:died` when each died
--   :requeued      hash   letters put back lately, each with a life of its own; `:stopped` what was stopped lately
--   :consumers     hash   how many consumers each instance has, each with a life of its own
--
-- A lane that is not empty is in exactly one of three places: ready, delayed, or in flight (its head is leased).
--
-- A script ends with `commit`. Messages and lanes change at once; what is the same for many of them is gathered until
-- then, since in a round of hundreds the calls are what costs.

local inbox = KEYS[1]
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local totals, users = nil, {}
local let_go_ids, held_changes = {}, {SREM = {}, SADD = {}}
local lease_args, waiting_args, not_waiting = {}, {}, {}
local ready_front, ready_back = {}, {}
local lanes, ends_of = {}, {}
local at_commit = {}

local message_prefix = inbox .. ':message:'
local function message_key(id) return message_prefix .. id end
local function lane_key(lane) return inbox .. ':lane:' .. lane end
local function held_key(holder) return inbox .. ':held:' .. holder end

-- Calls a command that takes any number of arguments, a thousand at a time.
local function call_many(command, key, args)
  for i = 1, #args, 1000 do call(command, key, unpack(args, i, math.min(i + 999, #args))) end
end

local function add(list, ...)
  local size = #list
  for i = 1, select('#', ...) do list[size + i] = (select(i, ...)) end
end

-- Who has what

local function hold(id, holder, milliseconds)
  add(lease_args, now + milliseconds, id)
  held_changes.SADD[holder] = held_changes.SADD[holder] or {}
  add(held_changes.SADD[holder], id)
end

local function let_go(id, holder)
  add(let_go_ids, id)
  held_changes.SREM[holder] = held_changes.SREM[holder] or {}
  add(held_changes.SREM[holder], id)
end

local function wait_since(id, since) add(waiting_args, since, id) end
local function stop_waiting(id) add(not_waiting, id) end

-- Which lanes may be taken

local function make_ready(lane) add(ready_back, lane) end
local function make_ready_first(lane) add(ready_front, lane) end

-- How much there is

local function total()
  if not totals then
    local depth, bytes = unpack(call('HMGET', inbox .. ':meta', 'depth', 'bytes'))
    totals = {n = tonumber(depth or 0), bytes = tonumber(bytes or 0)}
  end
  return totals
end

local function share_of(user)
  if not users[user] then
    local n, bytes = unpack(call('HMGET', inbox .. ':users', 'n:' .. user, 'b:' .. user))
    users[user] = {n = tonumber(n or 0), bytes = tonumber(bytes or 0)}
  end
  return users[user]
end

local function count(user, n, bytes)
  local all, mine = total(), share_of(user)
  all.n, all.bytes = all.n + n, all.bytes + bytes
  mine.n, mine.bytes = mine.n + n, mine.bytes + bytes
end

-- What stands at the end of a lane with `commit`.
local function put_into(lane, id)
  local ends = ends_of[lane]
  if not ends then
    ends = {}
    ends_of[lane], lanes[#lanes + 1] = ends, lane
  end
  ends[#ends + 1] = id
end

-- A message at the end of its lane.
local function put(id, lane, user, route, hops, serial, at, body)
  call('HSET', message_key(id), 'v', 1, 'lane', lane, 'user', user, 'route', route, 'body', body, 'size', #body,
    'hops', hops, 'serial', serial, 'before', serial, 'at', at, 'since', now, 'tries', 0)
  put_into(lane, id)
  wait_since(id, now)
  count(user, 1, #body)
end

-- Takes a message that somebody has out of the inbox; its lane goes on. One that has left its lane has lane ''.
local function remove(id, holder, lane, user, size)
  let_go(id, holder)
  call('DEL', message_key(id))
  if lane ~= '' then
    call('LPOP', lane_key(lane))
    if call('EXISTS', lane_key(lane)) == 1 then make_ready(lane) end
  end
  count(user, -1, -size)
end

-- Notes something for so long.
local function note(key, name, value, milliseconds)
  call('HSET', key, name, value)
  call('HPEXPIRE', key, milliseconds, 'FIELDS', 1, name)
end

-- How many take from it, on all instances.
local function consumers()
  local all = 0
  for _, n in ipairs(call('HVALS', inbox .. ':consumers')) do all = all + n end
  return all
end

local function commit_counts()
  if not totals then return end
  call('HSET', inbox .. ':meta', 'depth', totals.n, 'bytes', totals.bytes)
  local set, drop = {}, {}
  for user, share in pairs(users) do
    local n, bytes = 'n:' .. user, 'b:' .. user
    if share.n > 0 then add(set, n, share.n, bytes, share.bytes) else add(drop, n, bytes) end
  end
  call_many('HSET', inbox .. ':users', set)
  call_many('HDEL', inbox .. ':users', drop)
end

local function commit_holders()
  call_many('ZREM', inbox .. ':leases', let_go_ids)
  for holder, ids in pairs(held_changes.SREM) do
    call_many('SREM', held_key(holder), ids)
    if call('EXISTS', held_key(holder)) == 0 then call('SREM', inbox .. ':holders', holder) end
  end
  call_many('ZADD', inbox .. ':leases', lease_args)
  for holder, ids in pairs(held_changes.SADD) do
    call_many('SADD', held_key(holder), ids)
    call('SADD', inbox .. ':holders', holder)
  end
end

-- A lane that was empty may be taken now. A round has too few messages for a call to have too many arguments.
local function commit_lanes()
  for _, lane in ipairs(lanes) do
    local ends = ends_of[lane]
    if call('RPUSH', lane_key(lane), unpack(ends)) == #ends then make_ready(lane) end
  end
end

local function commit()
  commit_lanes()
  commit_holders()
  commit_counts()
  for _, write in ipairs(at_commit) do write() end
  call_many('ZREM', inbox .. ':waiting', not_waiting)
  call_many('ZADD', inbox .. ':waiting', waiting_args)
  call_many('LPUSH', inbox .. ':ready', ready_front)
  call_many('RPUSH', inbox .. ':ready', ready_back)
  if #ready_front + #ready_back > 0 then call('SPUBLISH', inbox, '1') end
end
