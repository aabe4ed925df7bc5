-- Takes a cost from several budgets at once, or from none (GCRA).
--
-- KEYS  one per budget
-- ARGV  1: the cost; 0 only looks
--       2: the time in microseconds, for tests alone; empty for the server's own
--       then for each budget: its period in microseconds, and its burst
--
-- A key holds the time at which its budget will be whole again, in microseconds since 1970; without a
-- key it is whole. Such times are below 2^53, so that a Lua number counts them exactly.
--
-- Answers 1 or 0 for admitted or refused, then for each budget how long until it is whole.

local cost = tonumber(ARGV[1])
local now, keep = tonumber(ARGV[2]), 2
if now then
    -- A clock that a test moves does not agree with the server on when a key is of no use any more.
    keep = 3600000
else
    local time = redis.call('TIME')
    now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local stored = redis.call('MGET', unpack(KEYS))
local answer = { 1 }
for i = 1, #KEYS do
    local period, burst = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
    -- No budget is emptier than empty: the server's clock may have been set back.
    local missing = math.min(math.max((tonumber(stored[i]) or 0) - now, 0), period * burst)
    if cost > 0 and missing + cost * period > period * burst then
        answer[1] = 0
    end
    answer[i + 1] = missing
end

if cost > 0 and answer[1] == 1 then
    for i = 1, #KEYS do
        local missing = answer[i + 1] + cost * tonumber(ARGV[2 * i + 1])
        -- A little longer than needed: a key that went too early would give its calls back.
        redis.call('SET', KEYS[i], string.format('%.0f', now + missing), 'PX', math.floor(missing / 1000) + keep)
        answer[i + 1] = missing
    end
end
return answer
