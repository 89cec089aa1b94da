-- How an inbox stands: depth, bytes, dead letters, consumers of all instances, and for how long (ms) has waited what
-- waits longest (-1: nothing waits).

local depth, bytes = unpack(call('HMGET', inbox .. ':meta', 'depth', 'bytes'))
local consumers = 0
for _, n in ipairs(call('HVALS', inbox .. ':consumers')) do consumers = consumers + n end
local oldest = call('ZRANGE', inbox .. ':waiting', 0, 0, 'WITHSCORES')
return {
  tonumber(depth or 0), tonumber(bytes or 0), call('LLEN', inbox .. ':dead'), consumers,
  oldest[2] and math.max(0, now - oldest[2]) or -1,
}
