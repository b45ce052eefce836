-- Measure queues without touching them: how long each list is, and since when its next message could have run.
--
-- KEYS[..]  list   the lists of queues, or keys that do not exist
-- Returns   { now(s), { length, since(Unix s) or "" }, .. }, one pair a list in the order of KEYS
-- The time stands in a header of the message's JSON; the text of an argument cannot pass for it, since quotes inside of a
-- string are escaped. A message of a producer that knows nothing of the platform has no such header.
local function since(message)
    for _, name in ipairs({ 'platform_ready_at', 'platform_enqueued_at' }) do
        local found = string.match(message, '[{,]%s*"' .. name .. '":%s*([%d%.]+)')
        if found then return found end
    end
    return ''
end

local time = redis.call('TIME')
local reply = { string.format('%d.%06d', time[1], time[2]) }
for index, key in ipairs(KEYS) do
    local length = redis.call('LLEN', key)
    local first = length > 0 and redis.call('LINDEX', key, -1)
    reply[index + 1] = { length, first and since(first) or '' }
end
return reply
