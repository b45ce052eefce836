-- Tell all guards of one admitted call how it ended.
--
-- KEYS[1] hash    record of the call
-- KEYS[2..]       for each rule in order: claim 1 | breaker 2 | rate 1 | slots 3 | budget 1, as in admit.lua
-- ARGV[1] JSON    id, nonce, ending (done | waiting | freed), result (string or null), ran (ms), delay (ms),
--                 jitter (0..1), rules; a breaker rule adds epoch, trial, verdict (success | failure | ignored);
--                 a rate rule adds actual, what the call really cost. Every duration in ms
-- Returns JSON    fenced, result (of the run that took over), moved [[id, from, to]]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
local q = cjson.decode(ARGV[1])
local record_key = KEYS[1]
local moved = {}
local answer = { fenced = false }

local function int(value) return string.format('%.0f', value) end

local settle = {}

local function leave(rule, claim)
  if redis.call('HGET', claim, 'owner') == q.id then redis.call('DEL', claim) end
  if redis.call('HGET', claim, 'running') == q.id then redis.call('HDEL', claim, 'running') end
  if redis.call('HGET', claim, 'frozen') == q.id then redis.call('HDEL', claim, 'frozen') end
end

function settle.claim(rule, keys)
  local claim = keys[1]
  local state, nonce, result = unpack(redis.call('HMGET', record_key, 'state', 'nonce', 'result'))
  if nonce ~= q.nonce then
    answer.fenced, answer.state, answer.result = true, state or '', result or nil
    if rule.scope ~= 'while_running' and not state then
      local owner = redis.call('HGET', claim, 'owner')
      if owner then answer.result = redis.call('HGET', q.prefix .. owner, 'result') or nil end
    end
    return
  end
  redis.call('HDEL', record_key, 'nonce', 'lease')
  if q.ending == 'done' then
    redis.call('HSET', record_key, 'state', 'done', 'ended', int(now))
    if type(q.result) == 'string' then redis.call('HSET', record_key, 'result', q.result) end
    redis.call('PEXPIRE', record_key, rule.keep)
    if rule.scope == 'until_ttl' then
      if redis.call('HGET', claim, 'owner') == q.id then redis.call('PEXPIRE', claim, rule.keep) end
    else
      leave(rule, claim)
    end
  elseif q.ending == 'waiting' then
    redis.call('HSET', record_key, 'state', 'waiting')
    redis.call('PEXPIRE', record_key, rule.hold + q.delay)
    if rule.scope == 'while_running' or rule.scope == 'latest_wins' then
      leave(rule, claim)
    elseif redis.call('HGET', claim, 'owner') == q.id then
      redis.call('PEXPIRE', claim, rule.hold + q.delay)
    end
  else
    leave(rule, claim)
    redis.call('DEL', record_key)
  end
end

-- The window is text: "bucket:calls:failures:slow;..." by time, or one letter a call by count.
local function counted(rule, text, failed, slow)
  local letter = failed and 'F' or (slow and 'S' or 'o')
  text = string.sub(text .. letter, -rule.window_calls)
  local _, failures = string.gsub(text, 'F', '')
  local _, slows = string.gsub(text, 'S', '')
  return text, #text, failures, slows
end

local function timed(rule, text, failed, slow)
  local width = rule.window / 10
  local current = math.floor(now / width)
  local kept, calls, failures, slows, seen = {}, 0, 0, 0, false
  for b, c, f, s in string.gmatch(text, '(%d+):(%d+):(%d+):(%d+);') do
    b, c, f, s = tonumber(b), tonumber(c), tonumber(f), tonumber(s)
    if b > current - 10 then
      if b == current then c, f, s, seen = c + 1, f + (failed and 1 or 0), s + (slow and 1 or 0), true end
      calls, failures, slows = calls + c, failures + f, slows + s
      kept[#kept + 1] = int(b) .. ':' .. c .. ':' .. f .. ':' .. s .. ';'
    end
  end
  if not seen then
    calls, failures, slows = calls + 1, failures + (failed and 1 or 0), slows + (slow and 1 or 0)
    kept[#kept + 1] = int(current) .. ':1:' .. (failed and 1 or 0) .. ':' .. (slow and 1 or 0) .. ';'
  end
  return table.concat(kept), calls, failures, slows
end

local function move(rule, key, from, to, ...)
  redis.call('HSET', key, 'state', to, 'since', int(now), 'pn', 0, ...)
  redis.call('HINCRBY', key, 'epoch', 1)
  moved[#moved + 1] = { rule.id, from, to }
end

local function open(rule, key, from)
  local opens = redis.call('HINCRBY', key, 'opens', 1)
  local wait = math.min(rule.cool_down * rule.growth ^ (opens - 1), rule.longest) * (1 + 0.1 * q.jitter)
  move(rule, key, from, 'open', 'until', int(now + wait))
  redis.call('HDEL', key, 'ramp', 'rn')
  redis.call('PEXPIRE', key, math.ceil(math.max(rule.window, rule.longest, wait) * 2))
end

local function over(rule, calls, failures, slows)
  return failures / calls >= rule.failure_rate or (rule.slow_call > 0 and slows / calls >= rule.slow_call_rate)
end

local function end_trial(rule, key, permits, failed, slow)
  -- A permit that has lapsed was given to somebody else: this result comes too late to count.
  if redis.call('ZREM', permits, q.nonce) == 0 or rule.verdict == 'ignored' then return end
  local bad = failed or slow
  local good, failures = tonumber(redis.call('HINCRBY', key, 'to', bad and 0 or 1)), tonumber(redis.call('HINCRBY', key, 'tf', bad and 1 or 0))
  if good + failures < rule.trials then return end
  if failures / rule.trials >= rule.failure_rate then
    open(rule, key, 'half_open')
  else
    move(rule, key, 'half_open', 'closed', 'opens', 0, 'until', 0, 'w', '', 'ramp', int(now), 'rn', 0)
  end
end

function settle.breaker(rule, keys)
  local key, permits = keys[1], keys[2]
  local state, epoch, text = unpack(redis.call('HMGET', key, 'state', 'epoch', 'w'))
  state = state or 'closed'
  if tonumber(epoch or 0) ~= rule.epoch then return end
  local failed = rule.verdict == 'failure'
  local slow = rule.slow_call > 0 and q.ran >= rule.slow_call
  if state == 'half_open' then return end_trial(rule, key, permits, failed, slow) end
  if rule.verdict == 'ignored' or (state ~= 'closed' and state ~= 'metrics_only') then return end
  local calls, failures, slows
  local count = rule.window_calls > 0 and counted or timed
  text, calls, failures, slows = count(rule, text or '', failed, slow)
  redis.call('HSET', key, 'w', text, 'calls', calls, 'failures', failures, 'slow', slows, 'state', state)
  if state == 'closed' then redis.call('PEXPIRE', key, math.ceil(math.max(rule.window, rule.longest) * 2)) end
  if state == 'closed' and calls >= rule.minimum_calls and over(rule, calls, failures, slows) then
    open(rule, key, 'closed')
  end
end

function settle.rate(rule, keys)
  if rule.sliding or rule.actual == rule.cost then return end
  local back = rule.per / rule.limit * (rule.cost - rule.actual)
  for _, name in ipairs({ 'tat', 'rtat' }) do
    local value = tonumber(redis.call('HGET', keys[1], name) or nil)
    if value then redis.call('HSET', keys[1], name, string.format('%.3f', value - back)) end
  end
  if back < 0 and redis.call('EXISTS', keys[1]) == 1 then
    local tat = tonumber(redis.call('HGET', keys[1], 'tat') or 0)
    redis.call('PEXPIRE', keys[1], math.ceil(math.max(tat - now, 0)) + 1000)
  end
end

function settle.slots(rule, keys)
  if redis.call('ZREM', keys[1], q.nonce .. '|' .. rule.cost) == 0 then return end
  local mean = tonumber(redis.call('GET', keys[3]) or q.ran)
  redis.call('SET', keys[3], string.format('%.3f', mean * 0.8 + q.ran * 0.2), 'PX', 3600000)
end

-- A budget is spent when the call begins; how it ends does not matter.
function settle.budget() end

local keys_of = { claim = 1, breaker = 2, rate = 1, slots = 3, budget = 1 }
local next_key = 2
for _, rule in ipairs(q.rules) do
  local keys = {}
  for i = 1, keys_of[rule.kind] do keys[i] = KEYS[next_key + i - 1] end
  next_key = next_key + keys_of[rule.kind]
  settle[rule.kind](rule, keys)
end
answer.moved = moved
return cjson.encode(answer)
