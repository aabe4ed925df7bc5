-- Stores what was loaded, unless something changed meanwhile, and ends the lease.
-- KEYS entry, generation, generation of the cache, lease
-- ARGV generation, generation of the cache, holder, time to live in ms, bytes

local kept = 0
if redis.call('GET', KEYS[2]) == ARGV[1] and redis.call('GET', KEYS[3]) == ARGV[2] then
  redis.call('SET', KEYS[1], ARGV[2] .. ':' .. ARGV[5], 'PX', ARGV[4])
  kept = 1
end
if redis.call('GET', KEYS[4]) == ARGV[3] then
  redis.call('DEL', KEYS[4])
end
return kept
