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

-- Ids have no gaps. What another process has applied is passed over: it would drop what is newer.
local applied = tonumber(mark) - tonumber(ARGV[1])
-- A generation is deleted, not counted up: a server without memory does so too, and one that fell back to an
-- older state does not come to a number again that it gave out before.
local at = 2
for i = 4, #ARGV do
  local is_new = i - 3 > applied
  if ARGV[i] == 'key' then
    if is_new then
      redis.call('DEL', KEYS[at], KEYS[at + 1], KEYS[at + 2])
    end
    at = at + 3
  else
    if is_new then
      redis.call('DEL', KEYS[at])
    end
    at = at + 1
  end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return tonumber(ARGV[2])
