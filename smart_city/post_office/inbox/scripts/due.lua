-- Which inboxes of one slot are to be looked after: a lease has lapsed in it, nobody took a message within the age, or
-- its circuit is not closed, or its change not told yet. Most of many are empty, and cost one command.
--
-- KEYS  the inboxes, and one that never exists (see `inbox.lua`)        ARGV  the age in ms
-- Answers the places of those inboxes, from 1.

local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local oldest = now - tonumber(ARGV[1])

local function has_one_until(key, time)
  local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  return first and tonumber(first) <= time
end

local function is_unsettled(circuit)
  local found = call('HMGET', circuit, 'why', 'told')
  return (found[1] or '') ~= '' or (found[2] or 'closed') ~= 'closed'
end

local answer = {}
for place = 1, #KEYS - 1 do
  local inbox = KEYS[place]
  local leases, waiting, circuit = inbox .. ':leases', inbox .. ':waiting', inbox .. ':circuit'
  if call('EXISTS', leases, waiting, circuit) > 0
    and (has_one_until(leases, now) or has_one_until(waiting, oldest) or is_unsettled(circuit)) then
    answer[#answer + 1] = place
  end
end
return answer
