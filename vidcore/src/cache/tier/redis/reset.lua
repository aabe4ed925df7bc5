-- Makes whole caches stale, and takes every change up to an id as applied.
-- KEYS mark, then the generation of each cache
-- ARGV id, time to live of the mark in ms

for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    local answer = redis.pcall('INCR', KEYS[i])
    if type(answer) == 'table' and answer.err then
      redis.call('DEL', KEYS[i])
    end
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return redis.status_reply('OK')
