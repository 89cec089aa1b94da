-- Notes how many consumers an instance has, and hears of the circuit.
-- ARGV: instance, how many, life of the note (ms), most messages, most bytes, the circuit's rule.
-- Answers nothing, or to one instance alone that the circuit has changed: its state, and why it is not closed.

if ARGV[2] == '0' then
  call('HDEL', inbox .. ':consumers', ARGV[1])
else
  note(inbox .. ':consumers', ARGV[1], ARGV[2], ARGV[3])
end
local state, c = state_for(tonumber(ARGV[4]), tonumber(ARGV[5])), the_circuit()
if state == c.told then return {} end
call('HSET', inbox .. ':circuit', 'told', state)
return {state, c.why}
