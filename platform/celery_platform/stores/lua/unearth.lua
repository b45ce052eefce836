-- Forget letters whose time is over, and those that are named.
--
-- KEYS[1]  as in graves.lua
-- ARGV[1]  how many letters to look at whose time is over
-- ARGV[2..]  ids; one that is held stays
-- Returns  { how many were over, how many of those named were forgotten }
local over = sweep(tonumber(ARGV[1]))
local forgotten = 0
for index = 2, #ARGV do
    if not redis.call('HGET', letter_of(ARGV[index]), 'held') then forgotten = forgotten + forget(ARGV[index]) end
end
return { over, forgotten }
