-- Close a letter that was sent, and count the call in the books and in its replay.
--
-- KEYS[1]  as in graves.lua
-- KEYS[2]  books    hash
-- KEYS[3]  replay   hash    its field "sent" is counted
-- ARGV[1]  id
-- ARGV[2]  record that takes its place, unless the letter is on hold
-- ARGV[3]  queue it was sent to
-- ARGV[4]  how many letters that were sent are remembered
-- Returns  1, or 0 when it was closed before
local id, key = ARGV[1], letter_of(ARGV[1])
local state, task, size, held = unpack(redis.call('HMGET', key, 'state', 'task', 'size', 'held'))
if not task or state == 'sent' then return 0 end
close(id)
redis.call('HSET', key, 'state', 'sent')
if not held then
    redis.call('HSET', key, 'record', ARGV[2], 'size', #ARGV[2])
    weigh(task, #ARGV[2] - tonumber(size))
end
redis.call('ZADD', root .. ':replayed', int(now), id)
redis.call('HINCRBY', KEYS[2], ARGV[3] .. '|enqueued', 1)
redis.call('HINCRBY', KEYS[3], 'sent', 1)
for _, old in ipairs(redis.call('ZRANGE', root .. ':replayed', 0, -1 - tonumber(ARGV[4]))) do
    if not redis.call('HGET', letter_of(old), 'held') then forget(old) end
end
return 1
