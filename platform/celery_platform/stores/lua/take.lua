-- Claim a letter for being sent; a claim that was never finished is given again, with the call it was made for.
--
-- KEYS[1]  as in graves.lua
-- ARGV[1]  id
-- ARGV[2]  id of the call it would be sent as
-- Returns  { "claimed", "sent" or "gone", id of its call }
local key = letter_of(ARGV[1])
if redis.call('EXISTS', key) == 0 then return { 'gone', '' } end
local state, call = unpack(redis.call('HMGET', key, 'state', 'call'))
if state == 'sent' then return { 'sent', call } end
redis.call('HSET', key, 'state', 'sending', 'call', call or ARGV[2])
return { 'claimed', call or ARGV[2] }
