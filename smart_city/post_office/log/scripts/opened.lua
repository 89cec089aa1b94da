-- What the scripts that read begin with, behind the chain: a log as it is now, begun if it is to be.

local generation = generation_of_store()

local function created(meta, entries, candidate, idle)
  redis.call('DEL', entries)
  local chain = with_epoch('', candidate, 1)
  redis.call('HSET', meta, 'v', 1, 'generation', generation, 'chain', chain, 'last', 0, 'first', 1,
    'first_at', now_ms(), 'bytes', 0, 'trimmed', 0)
  redis.call('PEXPIRE', meta, idle)
  return {chain = chain, last = 0, average = 0}
end

local function opened(meta, entries, candidate, idle, is_creating)
  local found = redis.call('HMGET', meta, 'generation', 'chain', 'last', 'bytes', 'trimmed', 'first')
  local chain, last = found[2], tonumber(found[3])
  if not chain then
    return is_creating and created(meta, entries, candidate, idle)
      or {chain = '', last = 0, average = 0, is_missing = true}
  end
  if found[1] ~= generation then
    chain = with_epoch(chain, candidate, last + 1)
    redis.call('HSET', meta, 'generation', generation, 'chain', chain)
  end
  if redis.call('PTTL', meta) < idle / 2 then redis.call('PEXPIRE', meta, idle) end
  local kept = math.max(1, last - found[6] + 1)
  return {chain = chain, last = last, average = (found[4] - found[5]) / kept}
end
