-- Put another record in the place of an open letter's.
--
-- KEYS[1]  as in graves.lua
-- ARGV[1]  id
-- ARGV[2]  record
-- Returns  1, or 0 when there is no such open letter
local key = letter_of(ARGV[1])
if not redis.call('ZSCORE', root, ARGV[1]) then return 0 end
local task, size = unpack(redis.call('HMGET', key, 'task', 'size'))
redis.call('HSET', key, 'record', ARGV[2], 'size', #ARGV[2])
weigh(task, #ARGV[2] - tonumber(size))
return 1
