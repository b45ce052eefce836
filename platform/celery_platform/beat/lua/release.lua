-- Give up the leadership of the schedules, if the asker still has it.
--
-- KEYS[1]  lease, string  "<fence> <holder>"
-- ARGV[1]  holder         who asks
--
-- Returns  1 when the lease was given up, 0 when the asker did not hold it

local held = redis.call('GET', KEYS[1])
if held and string.sub(held, string.find(held, ' ', 1, true) + 1) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
