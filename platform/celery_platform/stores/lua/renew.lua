-- Keep what a running call holds for another lease, and tell whether it should stop.
--
-- KEYS[1] zset    cancelled call ids, scored by when the mark lapses (ms)
-- KEYS[2] hash    record of the call
-- KEYS[3..]       for each rule in order: claim 1 | breaker 2 | rate 1 | slots 3 | budget 1, as in admit.lua
-- ARGV[1] JSON    id, nonce, rules; every duration in ms
-- Returns         array: held (1 | 0: another run has taken over), cancelled (1 | 0)
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local q = cjson.decode(ARGV[1])
local held = 1

local renew = {}

function renew.claim(rule, keys)
  if redis.call('HGET', KEYS[2], 'nonce') ~= q.nonce then
    held = 0
    return
  end
  redis.call('HSET', KEYS[2], 'lease', string.format('%.0f', now + rule.lease))
  redis.call('PEXPIRE', KEYS[2], rule.hold + rule.lease)
  local running = redis.call('HGET', keys[1], 'owner') == q.id or redis.call('HGET', keys[1], 'running') == q.id
  if running then redis.call('PEXPIRE', keys[1], rule.scope == 'while_running' and rule.lease or rule.hold) end
end

local function extend(key, member, lease)
  -- XX: what lapsed was given to somebody else and is not taken back.
  redis.call('ZADD', key, 'XX', string.format('%.0f', now + lease), member)
  redis.call('PEXPIRE', key, lease * 2)
end

function renew.breaker(rule, keys) extend(keys[2], q.nonce, rule.lease) end
function renew.rate() end
function renew.budget() end
function renew.slots(rule, keys) extend(keys[1], q.nonce .. '|' .. rule.cost, rule.lease) end

local keys_of = { claim = 1, breaker = 2, rate = 1, slots = 3, budget = 1 }
local next_key = 3
for _, rule in ipairs(q.rules) do
  local keys = {}
  for i = 1, keys_of[rule.kind] do keys[i] = KEYS[next_key + i - 1] end
  next_key = next_key + keys_of[rule.kind]
  renew[rule.kind](rule, keys)
end
local mark = redis.call('ZSCORE', KEYS[1], q.id)
return { held, mark and tonumber(mark) > now and 1 or 0 }
