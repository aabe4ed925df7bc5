-- Asks for the duty to load one entry.
-- KEYS entry, generation, generation of the cache, lease, mark
-- ARGV holder, lease in ms, time to live of a generation in ms, of the cache's in ms, 1 to look first
-- Answers {outcome, generation, generation of the cache, entry, mark}; outcome 0 there, 1 lead, 2 wait.

-- The server's time in microseconds stays below 2^53 until the year 2255, so that a double holds it.
local function current(key, ttl)
  local value = redis.call('GET', key)
  if value then
    redis.call('PEXPIRE', key, ttl)
    return value
  end
  local time = redis.call('TIME')
  value = string.format('%.0f', time[1] * 1000000 + time[2])
  redis.call('SET', key, value, 'PX', ttl)
  return value
end

local all = current(KEYS[3], ARGV[4])
local mark = redis.call('GET', KEYS[5])
if ARGV[5] == '1' then
  local entry = redis.call('GET', KEYS[1])
  if entry and string.sub(entry, 1, #all + 1) == all .. ':' then
    return {0, '0', all, entry, mark}
  end
end
local generation = current(KEYS[2], ARGV[3])
if redis.call('SET', KEYS[4], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return {1, generation, all, '', mark}
end
return {2, generation, all, '', mark}
