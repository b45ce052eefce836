-- What all scripts on dead letters share: this text stands in front of each of them.
--
-- KEYS[1]  <root>               zset    id of an open letter -> burial time, ms
--          <root>:letter:<id>   hash    record, at, task, queue, reason, group, key, size, held, state, call
--          <root>:expiry        zset    id -> end of its retention, ms; a letter on hold has none
--          <root>:by:<tag>:<x>  zset    id of an open letter -> burial time, ms
--          <root>:sizes         hash    total, and t:<task> -> bytes kept
--          <root>:groups        zset    group with open letters -> newest burial time, ms
--          <root>:replayed      zset    id of a letter that was sent -> when, ms
-- Returns  nothing: these are functions
local root = KEYS[1]
local TAGS = { 'task', 'queue', 'reason', 'group', 'key' }
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function letter_of(id) return root .. ':letter:' .. id end
local function index_of(tag, value) return root .. ':by:' .. tag .. ':' .. value end
local function int(value) return string.format('%.0f', value) end

local function weigh(task, bytes)
    redis.call('HINCRBY', root .. ':sizes', 'total', int(bytes))
    if redis.call('HINCRBY', root .. ':sizes', 't:' .. task, int(bytes)) <= 0 then
        redis.call('HDEL', root .. ':sizes', 't:' .. task)
    end
end

-- Leave the open letters: no listing shows it any more.
local function close(id)
    local values = redis.call('HMGET', letter_of(id), unpack(TAGS))
    redis.call('ZREM', root, id)
    for index, tag in ipairs(TAGS) do
        if values[index] then redis.call('ZREM', index_of(tag, values[index]), id) end
    end
    local group = values[4]
    if group and redis.call('EXISTS', index_of('group', group)) == 0 then redis.call('ZREM', root .. ':groups', group) end
end

local function forget(id)
    local task, size = unpack(redis.call('HMGET', letter_of(id), 'task', 'size'))
    close(id)
    redis.call('ZREM', root .. ':expiry', id)
    redis.call('ZREM', root .. ':replayed', id)
    if task then weigh(task, -tonumber(size)) end
    return redis.call('DEL', letter_of(id))
end

local function sweep(limit)
    local over = redis.call('ZRANGEBYSCORE', root .. ':expiry', '-inf', int(now), 'LIMIT', 0, limit)
    for _, id in ipairs(over) do forget(id) end
    return #over
end
