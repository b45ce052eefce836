-- Describe the groups that have open letters, the one with the newest letter first.
--
-- KEYS[1]  as in graves.lua
-- ARGV[1]  how many groups at most
-- Returns  a row a group: group, task, reason, error, open letters, letters ever, first (ms), last (ms), a letter
local rows = {}
for _, group in ipairs(redis.call('ZREVRANGE', root .. ':groups', 0, tonumber(ARGV[1]) - 1)) do
    local index = index_of('group', group)
    local about = redis.call('HMGET', root .. ':group:' .. group, 'task', 'reason', 'error', 'total')
    local first = redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')
    local last = redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES')
    local count = redis.call('ZCARD', index)
    if count > 0 then
        rows[#rows + 1] = { group, about[1] or '', about[2] or '', about[3] or '', tostring(count),
            about[4] or tostring(count), first[2], last[2], last[1] }
    end
end
return rows
