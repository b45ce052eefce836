-- Keep letters from every removal, or end that.
--
-- KEYS[1]  as in graves.lua
-- ARGV[1]  "1" to hold, "0" to end it
-- ARGV[2]  what they have left when the hold ends, ms
-- ARGV[3..]  ids
-- Returns  how many of them there are
local found = 0
for index = 3, #ARGV do
    local id = ARGV[index]
    if redis.call('EXISTS', letter_of(id)) == 1 then
        found = found + 1
        if ARGV[1] == '1' then
            redis.call('HSET', letter_of(id), 'held', '1')
            redis.call('ZREM', root .. ':expiry', id)
        else
            redis.call('HDEL', letter_of(id), 'held')
            redis.call('ZADD', root .. ':expiry', int(now + tonumber(ARGV[2])), id)
        end
    end
end
return found
