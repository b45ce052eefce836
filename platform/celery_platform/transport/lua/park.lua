-- Keep a message on the server until it is due.
--
-- KEYS[1]  delayed            zset    delayed member -> due time, ms
-- KEYS[2]  delayed:messages   hash    delayed member -> message
-- KEYS[3]  bell               string  rung when this message is due sooner than all others
-- ARGV[1]  delay              ms from now, by the server's clock
-- ARGV[2]  member             <id>|<key of the list it moves to>
-- ARGV[3]  message
-- Returns  when it is due, ms
local time = redis.call('TIME')
local due = time[1] * 1000 + math.ceil(time[2] / 1000) + tonumber(ARGV[1])
local soonest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('ZADD', KEYS[1], due, ARGV[2])
if not soonest or due < tonumber(soonest) then
    redis.call('SET', KEYS[3], '')
    redis.call('DEL', KEYS[3])
end
return string.format('%.0f', due)
