-- Let one of several copies of a firing's message run; its redeliveries and retries carry the same copy and pass.
--
-- KEYS[1]  claim, string  the copy that was first, lives ARGV[2]
-- ARGV[1]  copy           the copy that asks
-- ARGV[2]  ttl            milliseconds the claim lasts after it was last asked for
--
-- Returns  1 when the copy may run, 0 when another one was first

local first = redis.call('GET', KEYS[1])
if first and first ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
