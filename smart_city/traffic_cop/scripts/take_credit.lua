-- Settles what was spent on account and takes a slice of credit out of a token bucket that all instances share.
--
-- KEYS    the bucket, "LEVEL MICROSECONDS"; missing while it is full
-- ARGV    credit that comes back each second, the bucket's size, what was spent on account,
--         the least credit that is of use (0: only look), the most that is wanted
-- Returns what was taken (0, or at least the least), the level that is left, rounded down, and in how many
--         milliseconds the least (when looking: 1) could be had
--
-- Beyond its least nobody gets more than half of what is left, so that whoever asks first does not starve the
-- others. The clock is this server's; when it steps back nothing is gained or lost.
local rate, burst, owed = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local least, most = tonumber(ARGV[4]), tonumber(ARGV[5])

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local level = burst
local kept = redis.call('GET', KEYS[1])
if kept then
  local split = string.find(kept, ' ', 1, true)
  local passed = math.max(0, now - string.sub(kept, split + 1))
  level = math.min(burst, string.sub(kept, 1, split - 1) + passed / 1000000 * rate)
end
level = level - owed

local taken = 0
if least > 0 and level >= least then
  taken = math.max(least, math.min(most, math.floor(level / 2)))
  level = level - taken
end
if taken + owed > 0 then
  local full_in = math.ceil((burst - level) / rate * 1000)
  redis.call('SET', KEYS[1], string.format('%.6f %.0f', level, now), 'PX', full_in + 1)
end

local missing = taken > 0 and 0 or math.max(least, 1) - level
return { taken, math.floor(level), math.max(0, math.ceil(missing / rate * 1000)) }
