-- Keep a dead letter, unless it is kept already; the oldest of its task leave when there are too many.
--
-- KEYS[1]      as in graves.lua
-- KEYS[2]      books    hash    <queue>|dead and <queue>|enqueued are counted here
-- ARGV[1..4]   id, record, burial time (ms), retention (ms)
-- ARGV[5..7]   most letters of the task, most bytes of the task, most bytes of all; 0 without bound
-- ARGV[8]      what the group shows of this letter
-- ARGV[9]      "1" when a producer has entered the call in the books already
-- ARGV[10..14] task, queue, reason, group, key
-- Returns      { 1 when it is new, 1 when its group is, how many had to leave }
local id, record, at, ttl = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if redis.call('EXISTS', letter_of(id)) == 1 then return { 0, 0, 0 } end
sweep(20)

local task, queue, reason, group = ARGV[10], ARGV[11], ARGV[12], ARGV[13]
redis.call('HSET', letter_of(id), 'record', record, 'at', at, 'size', #record)
redis.call('ZADD', root, at, id)
redis.call('ZADD', root .. ':expiry', int(now + ttl), id)
for index, tag in ipairs(TAGS) do
    local value = ARGV[9 + index]
    redis.call('HSET', letter_of(id), tag, value)
    redis.call('ZADD', index_of(tag, value), at, id)
end
weigh(task, #record)

local about = root .. ':group:' .. group
local new_group = 1 - redis.call('EXISTS', about)
redis.call('HSET', about, 'sample', id, 'task', task, 'reason', reason, 'error', ARGV[8])
redis.call('HINCRBY', about, 'total', 1)
redis.call('PEXPIRE', about, int(ttl * 2))
redis.call('ZADD', root .. ':groups', at, group)

redis.call('HINCRBY', KEYS[2], queue .. '|dead', 1)
if ARGV[9] ~= '1' then redis.call('HINCRBY', KEYS[2], queue .. '|enqueued', 1) end

-- The oldest that nobody holds; among a thousand that are held, none is looked for.
local function oldest(index)
    for _, candidate in ipairs(redis.call('ZRANGE', index, 0, 999)) do
        if candidate ~= id and not redis.call('HGET', letter_of(candidate), 'held') then return candidate end
    end
end

local function over(field, most)
    return most > 0 and tonumber(redis.call('HGET', root .. ':sizes', field) or 0) > most
end

local most_letters, most_bytes, most_of_all = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local dropped = 0
while dropped < 100 do
    local mine = index_of('task', task)
    local leaving = nil
    if (most_letters > 0 and redis.call('ZCARD', mine) > most_letters) or over('t:' .. task, most_bytes) then
        leaving = oldest(mine)
    elseif over('total', most_of_all) then
        leaving = redis.call('ZRANGE', root .. ':replayed', 0, 0)[1] or oldest(root)
    end
    if not leaving then break end
    redis.call('HINCRBY', root .. ':truncated', redis.call('HGET', letter_of(leaving), 'task') or '', 1)
    forget(leaving)
    dropped = dropped + 1
end
return { 1, new_group, dropped }
