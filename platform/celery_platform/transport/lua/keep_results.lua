-- Store results and tell whoever waits for them, as Celery does one by one.
--
-- KEYS[1..]  string  the key of each result, which is its channel as well
-- ARGV[1]    how long to keep them, s; 0 for ever
-- ARGV[2..]  the results, in the order of the keys
-- Returns    how many were stored
local expires = tonumber(ARGV[1])
for index, key in ipairs(KEYS) do
    local value = ARGV[index + 1]
    if expires > 0 then
        redis.call('SET', key, value, 'EX', expires)
    else
        redis.call('SET', key, value)
    end
    redis.call('PUBLISH', key, value)
end
return #KEYS
