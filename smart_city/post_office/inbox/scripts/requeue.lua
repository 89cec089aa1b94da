-- Puts a dead letter back, under its id, at the end of its lane; its attempts begin again, its serials go on.
-- ARGV: id, most messages, most bytes, ms for which it is known that it was put back.
-- Answers q (queued), d (it was already), f (there is no room), or '' (there is no such letter).

local id, most, most_bytes, life = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]

local function was_requeued()
  return call('EXISTS', message_key(id)) == 1 or call('HEXISTS', inbox .. ':requeued', id) == 1
end

local function requeue()
  local letter = call('HGET', inbox .. ':letters', id)
  if not letter then return was_requeued() and 'd' or '' end
  local head, body = opened(letter)
  local all = total()
  if all.n + 1 > most or all.bytes + #body > most_bytes then return 'f' end
  exhume(id)
  head.route.life = (head.route.life or 0) + 1 -- so that its answer is not taken for the error that the asker had
  put(id, head.lane, head.user, cjson.encode(head.route), 0, head.serial, head.asked_at, body)
  note(inbox .. ':requeued', id, 1, life)
  return 'q'
end

local answer = requeue()
commit()
return answer
