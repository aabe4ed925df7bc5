-- Ends a lease, if it is still the holder's.
-- KEYS lease
-- ARGV holder

if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return redis.status_reply('OK')
