-- Take or renew the leadership of the schedules; the server's expiry is its only clock.
--
-- KEYS[1]  lease, string  "<fence> <holder>", lives ARGV[2]
-- KEYS[2]  fence, string  the last fence given out; no lifetime, owned by this script
-- ARGV[1]  holder         who asks
-- ARGV[2]  ttl            milliseconds the lease lasts
-- ARGV[3]  floor          the highest fence the database has seen: a store that lost its memory counts on from there
--
-- Returns  the fence of the asker (1 and up), or 0 when another holds the lease

local held = redis.call('GET', KEYS[1])
if held then
  local space = string.find(held, ' ', 1, true)
  local fence = tonumber(string.sub(held, 1, space - 1))
  if string.sub(held, space + 1) ~= ARGV[1] then
    return 0
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return fence
end
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local fence = math.max(last, tonumber(ARGV[3])) + 1
redis.call('SET', KEYS[2], fence)
redis.call('SET', KEYS[1], fence .. ' ' .. ARGV[1], 'PX', ARGV[2])
return fence
