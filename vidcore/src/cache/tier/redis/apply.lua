-- Makes stale what changes name, if none before them is missing.
-- KEYS mark, then per change of a key: generation, entry, lease; of a whole cache: its generation
-- ARGV id before the changes, id of the last one, time to live of the mark in ms, then `key` or `all`
-- Answers the mark as it is then; false if there is none.

local mark = redis.call('GET', KEYS[1])
if not mark then
  return false
end
-- Compared as numbers, which are exact up to 2^53.
if tonumber(mark) < tonumber(ARGV[1]) or tonumber(mark) >= tonumber(ARGV[2]) then
  return tonumber(mark)
end

-- A generation that is not there needs no new number. A server without memory for one deletes it.
local function bump(key)
  if redis.call('EXISTS', key) == 1 then
    local answer = redis.pcall('INCR', key)
    if type(answer) == 'table' and answer.err then
      redis.call('DEL', key)
    end
  end
end

local at = 2
for i = 4, #ARGV do
  bump(KEYS[at])
  if ARGV[i] == 'key' then
    redis.call('DEL', KEYS[at + 1], KEYS[at + 2])
    at = at + 3
  else
    at = at + 1
  end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return tonumber(ARGV[2])
