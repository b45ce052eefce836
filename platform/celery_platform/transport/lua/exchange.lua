-- Settle what a consumer is done with, move what is due, and lease it new messages: one atomic step.
--
-- KEYS[1]  held:<owner>         hash    what this consumer holds
-- KEYS[2]  leases               zset    owner -> end of its lease, ms
-- KEYS[3]  delayed              zset    delayed member -> due time, ms
-- KEYS[4]  delayed:messages     hash    delayed member -> message
-- KEYS[5]  casualties           list    what could not be delivered
-- KEYS[6]  bell                 string  rung when a message is due sooner than all others
-- KEYS[7..]                     list    queues to pop from, first come first served
-- ARGV[1]  owner
-- ARGV[2]  lease                ms
-- ARGV[3]  how many messages to lease; 0 only settles
-- ARGV[4]  number of the first message leased here; the others count up from it
-- ARGV[5]  how many due messages to move at most
-- ARGV[6]  "1" also looks for an owner whose lease has ended
-- ARGV[7]  how many acknowledgements follow
-- ARGV[8..]                     fields to acknowledge, then settlements of four: verb, field, a, b
--            "return"  field  "" ""          put back at the head as it was
--            "replace" field  message ""     put back at the head in this form
--            "park"    field  delay(ms) message
--            "bury"    field  casualty ""
-- Returns  { now(ms), next due(ms) or -1, an expired owner or "", { key, { message, .. } }, .. }
-- Removal always comes before addition: a server out of memory refuses only a script whose first write adds.
-- A field that this owner no longer holds is left alone: whoever took it over decides.
local CHUNK = 1000
local held, leases, delayed, delayed_messages, casualties, bell = unpack(KEYS, 1, 6)
local owner, lease, wanted, number = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local acknowledged = tonumber(ARGV[7])
for first = 1, acknowledged, CHUNK do
    local last = math.min(first + CHUNK - 1, acknowledged)
    redis.call('HDEL', held, unpack(ARGV, 7 + first, 7 + last))
end

local function queue_of(field)
    return string.sub(field, string.find(field, '|', 1, true) + 1)
end

local settle = {}
settle['return'] = function(field, message)
    redis.call('RPUSH', queue_of(field), message)
end
settle['replace'] = function(field, _, replacement)
    redis.call('RPUSH', queue_of(field), replacement)
end
settle['park'] = function(field, _, delay, message)
    local due = now + tonumber(delay)
    local member = owner .. ':' .. field
    local soonest = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
    redis.call('HSET', delayed_messages, member, message)
    redis.call('ZADD', delayed, due, member)
    if not soonest or due < tonumber(soonest) then
        redis.call('SET', bell, '')
        redis.call('DEL', bell)
    end
end
settle['bury'] = function(_, _, casualty)
    redis.call('RPUSH', casualties, casualty)
end
for index = 8 + acknowledged, #ARGV, 4 do
    local field = ARGV[index + 1]
    local message = redis.call('HGET', held, field)
    if message then
        redis.call('HDEL', held, field)
        settle[ARGV[index]](field, message, ARGV[index + 2], ARGV[index + 3])
    end
end

local function soonest()
    return tonumber(redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2] or -1)
end

local function move_due(limit)
    local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, limit)
    local messages = redis.call('HMGET', delayed_messages, unpack(due))
    redis.call('HDEL', delayed_messages, unpack(due))
    redis.call('ZREM', delayed, unpack(due))
    for index, member in ipairs(due) do
        if messages[index] then redis.call('LPUSH', queue_of(member), messages[index]) end
    end
end

local batches = {}
local function take(key, messages)
    local pairs_to_set = {}
    for _, message in ipairs(messages) do
        pairs_to_set[#pairs_to_set + 1] = string.format('%.0f|%s', number, key)
        pairs_to_set[#pairs_to_set + 1] = message
        number = number + 1
    end
    redis.call('HSET', held, unpack(pairs_to_set))
    wanted = wanted - #messages
    batches[#batches + 1] = { key, messages }
end

local function pop_one_by_one()
    for index = 7, #KEYS do
        if wanted < 1 then return end
        local messages = redis.call('RPOP', KEYS[index], wanted)
        if messages and #messages > 0 then take(KEYS[index], messages) end
    end
end

local function pop()
    if #KEYS == 7 then return pop_one_by_one() end
    local arguments = { #KEYS - 6, unpack(KEYS, 7) }
    arguments[#arguments + 1] = 'RIGHT'
    arguments[#arguments + 1] = 'COUNT'
    while wanted > 0 do
        arguments[#KEYS - 2] = wanted
        -- Before Redis 7.0 there is no LMPOP.
        local reply = redis.pcall('LMPOP', unpack(arguments))
        if reply and reply.err then return pop_one_by_one() end
        if not reply then return end
        take(reply[1], reply[2])
    end
end

local next_due, expired = -1, ''
if wanted > 0 then
    next_due = soonest()
    if next_due >= 0 and next_due <= now then
        move_due(tonumber(ARGV[5]))
        next_due = soonest()
    end
    pop()
    redis.call('ZADD', leases, now + lease, owner)
    if ARGV[6] == '1' then
        expired = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 1)[1] or ''
    end
end
return { string.format('%.0f', now), string.format('%.0f', next_due), expired, unpack(batches) }
