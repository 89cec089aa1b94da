-- How an inbox stands: depth, bytes, dead letters, consumers of all instances, for how long (ms) has waited what waits
-- longest (-1: nothing waits), and its circuit. ARGV: most messages, most bytes, the circuit's rule.

local all = total()
local oldest = call('ZRANGE', inbox .. ':waiting', 0, 0, 'WITHSCORES')
return {
  all.n, all.bytes, call('ZCARD', inbox .. ':died'), consumers(), oldest[2] and math.max(0, now - oldest[2]) or -1,
  state_for(tonumber(ARGV[1]), tonumber(ARGV[2])),
}
