-- Say that consumers still live, and learn whose lease ran out.
--
-- KEYS[1]    leases     zset  owner -> end of its lease, ms
-- KEYS[2..]  held:<owner>     hash, one for each owner of ARGV, in the same order
-- ARGV[1]    lease      ms
-- ARGV[2..]  owners
-- Returns    { an expired owner or "", for each owner: how many messages it holds, or -1 when its lease was taken }
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local holds = {}
-- A server out of memory refuses only a script whose first write adds.
redis.call('ZREM', KEYS[1], '')
for index = 2, #ARGV do
    local count = redis.call('HLEN', KEYS[index])
    -- An owner without lease and without messages has lost nothing.
    if redis.call('ZSCORE', KEYS[1], ARGV[index]) or count > 0 then
        redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), ARGV[index])
        holds[index - 1] = count
    else
        holds[index - 1] = -1
    end
end
local expired = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1)[1] or ''
return { expired, unpack(holds) }
