-- Put a breaker into a state by hand.
--
-- KEYS[1] hash    the breaker
-- KEYS[2] zset    its permits
-- ARGV[1]         state: closed | forced_open | disabled | metrics_only
-- ARGV[2]         how long, in ms; not used for closed
-- ARGV[3]         reason, for people
-- Returns         the state it was in
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local before = redis.call('HGET', KEYS[1], 'state') or 'closed'
local lasting = tonumber(ARGV[2])
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'state', ARGV[1], 'since', string.format('%.0f', now), 'reason', ARGV[3], 'pn', 0, 'opens', 0, 'w', '')
redis.call('DEL', KEYS[2])
if ARGV[1] == 'closed' then
  redis.call('HSET', KEYS[1], 'until', 0)
  if before ~= 'closed' then redis.call('HSET', KEYS[1], 'ramp', string.format('%.0f', now), 'rn', 0) end
  redis.call('PEXPIRE', KEYS[1], 86400000)
else
  redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + lasting))
  redis.call('PEXPIRE', KEYS[1], lasting + 86400000)
end
return before
