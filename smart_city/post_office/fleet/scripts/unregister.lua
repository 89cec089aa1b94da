#!lua flags=allow-oom
-- Takes connections out of their users' hashes, but for those that have a newer owner by now.
--
-- KEYS  the hash `connections:USER` of each connection
-- ARGV  TWO for each key: connection id, fence
-- Returns 1 for each connection that is taken out.

local outcome, gone = {}, {}

local function note(key, id, fence)
  local known = redis.call('HGET', key, id)
  if not known or tonumber(string.match(known, '"fence":(%d+)') or 0) > tonumber(fence) then return 0 end
  gone[key] = gone[key] or {}
  table.insert(gone[key], id)
  return 1
end

-- A hash that loses its last connection is touched no more: while its slot moves key by key, it would not be found again.
for i, key in ipairs(KEYS) do outcome[i] = note(key, ARGV[2 * i - 1], ARGV[2 * i]) end
for key, ids in pairs(gone) do redis.call('HDEL', key, unpack(ids)) end
return outcome
