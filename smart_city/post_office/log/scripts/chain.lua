-- The opening of every script of the log: the chain of epochs, and when a new one begins.
--
-- Meta is a hash: v (the format, 1), generation (of the store that began the newest epoch), chain (newest first:
-- "e2:99 e1:1", each with its first offset), last and first (offsets), first_at (when the first kept entry was
-- stored, in ms), bytes and trimmed (of all entries ever, and of those before the first kept one), renewed (when its
-- expiry was, in ms), and for each writer w:INCARNATION (its last sequence, when, and the answer it got).
-- An entry is `OFFSET-0` with d (the publication), t (stored at, in ms) and b (bytes of all entries before it).

local EPOCHS_KEPT = 16

local function now_ms()
  local clock = redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000)
end

-- Changes at every start and every promotion of a server: what a replica had not heard of is lost then.
local function generation_of_store()
  return string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
end

local function with_epoch(chain, epoch, start)
  local kept = {string.format('%s:%d', epoch, start)}
  for link in string.gmatch(chain, '%S+') do
    if #kept == EPOCHS_KEPT then break end
    kept[#kept + 1] = link
  end
  return table.concat(kept, ' ')
end

local function newest_epoch(chain)
  local epoch, start = string.match(chain, '^(%w+):(%d+)')
  return epoch, tonumber(start)
end
