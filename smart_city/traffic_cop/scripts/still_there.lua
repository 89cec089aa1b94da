-- Tells of each key whether it exists.
local there = {}
for place, key in ipairs(KEYS) do
  there[place] = redis.call('EXISTS', key)
end
return there
