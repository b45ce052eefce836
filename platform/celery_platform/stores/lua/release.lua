-- Free an idempotency key by hand, or after a publish that failed.
--
-- KEYS[1] hash    the claim of the key
-- KEYS[2] string  the prefix of call records: not a key itself, it pins the slot
-- ARGV[1]         the call that must own it, or empty for whoever does
-- Returns         1 when it was held, else 0
local owner = redis.call('HGET', KEYS[1], 'owner') or redis.call('HGET', KEYS[1], 'running')
if not owner or (ARGV[1] ~= '' and owner ~= ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
local record = KEYS[2] .. owner
-- Without its nonce a run that is still going cannot record its result any more.
if redis.call('HGET', record, 'state') == 'running' then redis.call('DEL', record) end
return 1
