-- The circuit of an inbox; it stands before the scripts that need it. Their last argument is its rule as JSON:
-- failures, share, window, cool, probes, room; durations in ms.
--
-- It is closed (everything comes in), open (nothing does, until a cool-down is over), then half open (some do, one an
-- asker, and again some after each further cool-down). It opens when the inbox is full, or when in a window so many
-- different people's questions failed, and failures are such a share of all that ended: one person with many
-- questions, or one lane that fails for ever, is not enough. Half open it closes on the first success, and opens again when half as
-- many people fail as were let in. One that is open because it was full closes as soon as there is room again.
--
--   :circuit   why ('' closed, full, failing), wait (until when), half, probes (left); in the window since when
--              began, ok, bad, and ok_before, bad_before of the one before; told: the state that was told last
--   :failing   whose questions failed in this window, :failed in the one before; :probing: whose are let in while
--              it is half open

local rule = cjson.decode(table.remove(ARGV))
local FIELDS = {'why', 'wait', 'half', 'probes', 'began', 'ok', 'bad', 'ok_before', 'bad_before', 'told'}
local circuit, circuit_has_changed = nil, false

local function the_circuit()
  if circuit then return circuit end
  local f = call('HMGET', inbox .. ':circuit', unpack(FIELDS))
  circuit = {why = f[1] or '', told = f[10] or 'closed'}
  for i = 2, 9 do circuit[FIELDS[i]] = tonumber(f[i] or 0) end
  return circuit
end

local function forget_failures(c)
  c.began, c.ok, c.bad, c.ok_before, c.bad_before = now, 0, 0, 0, 0
  call('DEL', inbox .. ':failing', inbox .. ':failed', inbox .. ':probing')
end

local function open_circuit(why)
  local c = the_circuit()
  c.why, c.wait, c.half, c.probes, circuit_has_changed = why, now + rule.cool, 0, 0, true
  forget_failures(c)
end

local function close_circuit()
  local c = the_circuit()
  c.why, c.half, circuit_has_changed = '', 0, true
  forget_failures(c)
end

local function circuit_state()
  local c = the_circuit()
  if c.why == '' then return 'closed' end
  return (c.half == 1 or now >= c.wait) and 'half_open' or 'open'
end

local function is_filled(part, most, most_bytes)
  local all = total()
  return all.n > most * part or all.bytes > most_bytes * part
end

-- The state as one sees it who looks: an inbox that was full and has room again takes the next question.
local function state_for(most, most_bytes)
  if the_circuit().why == 'full' and not is_filled(rule.room, most, most_bytes) then return 'closed' end
  return circuit_state()
end

-- The window goes on: what is older than the one before is forgotten.
local function move_window(c)
  local age = now - c.began
  if age < rule.window then return end
  local ok, bad, failing = c.ok, c.bad, call('SMEMBERS', inbox .. ':failing')
  forget_failures(c)
  circuit_has_changed = true
  if age >= 2 * rule.window then return end
  c.ok_before, c.bad_before = ok, bad
  call_many('SADD', inbox .. ':failed', failing)
  call('PEXPIRE', inbox .. ':failed', 2 * rule.window)
end

local function has_succeeded()
  local c = the_circuit()
  if c.why ~= '' then
    if circuit_state() == 'half_open' then close_circuit() end
    return
  end
  move_window(c)
  c.ok, circuit_has_changed = c.ok + 1, true
end

local function has_failed(user)
  local c, state = the_circuit(), circuit_state()
  if state == 'open' then return end
  if state == 'closed' then move_window(c) end
  if call('SISMEMBER', inbox .. ':failed', user) == 1 then return end
  if call('SADD', inbox .. ':failing', user) == 0 then return end
  call('PEXPIRE', inbox .. ':failing', 2 * rule.window + rule.cool)
  c.bad, circuit_has_changed = c.bad + 1, true
  if state == 'half_open' then
    if 2 * c.bad >= rule.probes then open_circuit('failing') end
    return
  end
  local bad, ok = c.bad + c.bad_before, c.ok + c.ok_before
  if bad >= rule.failures and bad >= rule.share * (bad + ok) then open_circuit('failing') end
end

-- For how long (ms) a question of this user has to stay away; nil if it may come in.
local function refused_for(user, most, most_bytes)
  local c = the_circuit()
  if c.why == '' then return nil end
  if c.why == 'full' and not is_filled(rule.room, most, most_bytes) then
    close_circuit()
    return nil
  end
  if now >= c.wait then
    c.half, c.probes, c.wait, circuit_has_changed = 1, rule.probes, now + rule.cool, true
    forget_failures(c)
  end
  if c.probes > 0 and call('SADD', inbox .. ':probing', user) == 1 then
    call('PEXPIRE', inbox .. ':probing', 2 * rule.cool)
    c.probes, circuit_has_changed = c.probes - 1, true
    return nil
  end
  return c.wait - now
end

add(at_commit, function()
  if not circuit_has_changed then return end
  local set = {}
  for _, name in ipairs(FIELDS) do add(set, name, circuit[name]) end
  call('HSET', inbox .. ':circuit', unpack(set))
end)
