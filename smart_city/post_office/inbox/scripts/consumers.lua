-- Notes how many consumers an instance has. ARGV: instance, how many, life of the note (ms).

if ARGV[2] == '0' then return call('HDEL', inbox .. ':consumers', ARGV[1]) end
call('HSET', inbox .. ':consumers', ARGV[1], ARGV[2])
return call('HPEXPIRE', inbox .. ':consumers', ARGV[3], 'FIELDS', 1, ARGV[1])
