-- Take over what a dead consumer held; it is leased to the one who takes it, which decides what becomes of it.
--
-- KEYS[1]  leases            zset  owner -> end of its lease, ms
-- KEYS[2]  held:<dead>       hash  what the dead consumer held
-- KEYS[3]  held:<owner>      hash  what the taker holds
-- ARGV[1]  the dead owner
-- ARGV[2]  the taker
-- ARGV[3]  lease             ms, given to the taker
-- ARGV[4]  number of the first message taken
-- ARGV[5]  how many to take at most
-- ARGV[6]  "1" takes although the lease has not run out: the caller saw the owner die
-- Returns  { how many remain, old field, message, old field, message, .. }; nothing to take: { 0 }
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ARGV[6] ~= '1' and (not ends or tonumber(ends) > now) then return { 0 } end

local fields = redis.call('HKEYS', KEYS[2])
local number, limit = tonumber(ARGV[4]), tonumber(ARGV[5])
local taken, moved = {}, {}
for index = 1, math.min(limit, #fields) do
    local field = fields[index]
    local message = redis.call('HGET', KEYS[2], field)
    local queue = string.sub(field, string.find(field, '|', 1, true) + 1)
    taken[#taken + 1] = field
    taken[#taken + 1] = message
    redis.call('HDEL', KEYS[2], field)
    redis.call('HSET', KEYS[3], string.format('%.0f|%s', number, queue), message)
    number = number + 1
end
if #taken > 0 then redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[2]) end
local remain = #fields - #taken / 2
if remain == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
return { remain, unpack(taken) }
