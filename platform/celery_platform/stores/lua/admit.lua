-- Ask all guards of one call at once: either every one of them admits it, or nothing is taken from any.
--
-- KEYS[1] hash    pauses: subject -> JSON {reason, until}
-- KEYS[2] zset    cancelled call ids, scored by when the mark lapses (ms)
-- KEYS[3] string  counter of fencing tokens
-- KEYS[4] hash    live changes of limits: name -> JSON
-- KEYS[5] hash    record of the call
-- KEYS[6..]       for each rule in order: claim 1 (hash) | breaker 2 (hash, zset of permits) | rate 1 (hash or zset)
--                 | slots 3 (zset held, zset waiting, string mean run time) | budget 1 (hash)
-- ARGV[1] JSON    id, nonce, prefix (of call records), task, subjects, failures, jitter (0..1), rules,
--                 drop {id: true} (refusals that do not wait); every duration in ms
-- Returns JSON    ok, fence, breakers {id: [epoch, trial]}, moved [[id, from, to]], over [ids of dry runs]
--                 or ok=false with guard, id, why, delay (ms), holder, state, result, moved
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
local q = cjson.decode(ARGV[1])
local record_key = KEYS[5]
local record = {}
do
  local flat = redis.call('HGETALL', record_key)
  for i = 1, #flat, 2 do record[flat[i]] = flat[i + 1] end
end
local commits, moved, over, breakers = {}, {}, {}, {}
local keep_record = false
local fence = 0

local function ms(value) return string.format('%.3f', value) end
local function int(value) return string.format('%.0f', value) end
local function log2(value) return math.log(value) / math.log(2) end
local function commit(action) commits[#commits + 1] = action end
local function no(guard, id, why, delay, more)
  local answer = more or {}
  answer.ok, answer.guard, answer.id, answer.why, answer.delay = false, guard, id, why, math.max(delay or 0, 0)
  return answer
end

-- When the n-th call may go, in ms after the start: ramp calls in the first second, twice as many in each next one.
local function ramped(n, ramp) return log2(1 + n / ramp) * 1000 end

local function check_cancel()
  local mark = redis.call('ZSCORE', KEYS[2], q.id)
  if mark and tonumber(mark) > now then return no('cancel', q.id, 'cancelled') end
end

local function check_pauses()
  if #q.subjects == 0 or redis.call('EXISTS', KEYS[1]) == 0 then return nil end
  local found = redis.call('HMGET', KEYS[1], unpack(q.subjects))
  for i, subject in ipairs(q.subjects) do
    if found[i] then
      local pause = cjson.decode(found[i])
      if pause['until'] == 0 or pause['until'] > now then
        local delay = 1000 + q.jitter * 500
        if pause['until'] > 0 then delay = math.min(delay, pause['until'] - now) end
        return no('pause', subject, pause.reason, delay)
      end
    end
  end
end

local check = {}

local function holds_turn(rule, claim)
  local owner, frozen, running = unpack(redis.call('HMGET', claim, 'owner', 'frozen', 'running'))
  if record.started then return true, running end
  return owner == q.id or frozen == q.id or not (owner or frozen or running), running
end

local function check_latest(rule, claim)
  local turn, running = holds_turn(rule, claim)
  if not turn then
    return no('idempotency', rule.key, 'superseded', 0, { holder = redis.call('HGET', claim, 'owner') or '' })
  end
  if running and running ~= q.id then
    local state, lease = unpack(redis.call('HMGET', q.prefix .. running, 'state', 'lease'))
    if state == 'running' and tonumber(lease) > now then
      return no('idempotency', rule.key, 'running', 500 + q.jitter * 500, { holder = running, wait = true })
    end
  end
end

local function check_holder(rule, claim, owner)
  local state, lease, result = unpack(redis.call('HMGET', q.prefix .. owner, 'state', 'lease', 'result'))
  state = state or 'waiting'
  if state == 'running' and tonumber(lease or 0) <= now then return nil end
  if state == 'done' and rule.scope ~= 'until_ttl' then return nil end
  if state ~= 'running' and rule.scope == 'while_running' then return nil end
  local more = { holder = owner, state = state, result = result or nil }
  local same = rule.scope == 'while_running' or redis.call('HGET', claim, 'fp') == rule.fingerprint
  if not same then return no('idempotency', rule.key, 'mismatch', 0, more) end
  if state == 'done' then return no('idempotency', rule.key, 'done', 0, more) end
  if rule.conflict == 'defer' then
    more.wait = true
    return no('idempotency', rule.key, state, 500 * (1 + q.jitter), more)
  end
  return no('idempotency', rule.key, 'duplicate', 0, more)
end

local function start(rule, claim)
  fence = redis.call('INCR', KEYS[3])
  keep_record = true
  redis.call('HSET', record_key, 'state', 'running', 'fence', fence, 'nonce', q.nonce, 'lease', int(now + rule.lease),
    'started', 1)
  redis.call('PEXPIRE', record_key, rule.hold + rule.lease)
  if rule.scope == 'until_start' then
    if redis.call('HGET', claim, 'owner') == q.id then redis.call('DEL', claim) end
  elseif rule.scope == 'latest_wins' then
    if redis.call('HGET', claim, 'owner') == q.id then redis.call('HDEL', claim, 'owner', 'first', 'due') end
    if redis.call('HGET', claim, 'frozen') == q.id then redis.call('HDEL', claim, 'frozen') end
    redis.call('HSET', claim, 'running', q.id, 'task', q.task, 'key', rule.key, 'scope', rule.scope)
    redis.call('PEXPIRE', claim, rule.hold)
  else
    redis.call('HSETNX', claim, 'since', int(now))
    redis.call('HSET', claim, 'owner', q.id, 'fp', rule.fingerprint, 'scope', rule.scope, 'task', q.task, 'key', rule.key)
    redis.call('PEXPIRE', claim, rule.scope == 'while_running' and rule.lease or rule.hold)
  end
end

function check.claim(rule, keys)
  local claim = keys[1]
  if record.state == 'done' then
    return no('idempotency', rule.key, 'done', 0, { holder = q.id, state = 'done', result = record.result })
  end
  if record.state == 'running' and record.nonce ~= q.nonce and tonumber(record.lease) > now then
    return no('idempotency', rule.key, 'running', tonumber(record.lease) - now + 50, { holder = q.id, wait = true })
  end
  local refusal = nil
  if rule.scope == 'latest_wins' then
    refusal = check_latest(rule, claim)
  elseif not (rule.scope == 'until_start' and record.started) then
    local owner = redis.call('HGET', claim, 'owner')
    if owner and owner ~= q.id then refusal = check_holder(rule, claim, owner) end
  end
  if refusal then return refusal end
  commit(function() start(rule, claim) end)
end

local function breaker_life(rule, key, until_)
  redis.call('PEXPIRE', key, math.ceil(math.max(rule.window, rule.longest, (until_ or 0) - now) * 2))
end

local function breaker_move(rule, key, from, to, ...)
  redis.call('HSET', key, 'state', to, 'since', int(now), 'pn', 0, ...)
  redis.call('HINCRBY', key, 'epoch', 1)
  breaker_life(rule, key)
  moved[#moved + 1] = { rule.id, from, to }
end

-- Parked calls come back one after the other, in the order they came, and not all at once.
local function park_behind(rule, key, delay, state, until_)
  local n = redis.call('HINCRBY', key, 'pn', 1)
  if n > rule.trials then delay = delay + 1000 + ramped(n - rule.trials, rule.ramp) end
  breaker_life(rule, key, until_)
  return no('breaker', rule.id, state, delay, { ['until'] = until_ or 0 })
end

local function check_trial(rule, key, permits)
  redis.call('ZREMRANGEBYSCORE', permits, '-inf', now)
  local ok, bad = unpack(redis.call('HMGET', key, 'to', 'tf'))
  local busy = redis.call('ZCARD', permits)
  if busy + tonumber(ok or 0) + tonumber(bad or 0) >= rule.trials then
    return park_behind(rule, key, math.max(1000, rule.cool_down / 4), 'half_open', nil)
  end
  commit(function()
    redis.call('ZADD', permits, int(now + rule.lease), q.nonce)
    redis.call('PEXPIRE', permits, rule.lease * 2)
  end)
  return nil
end

local function check_ramp(rule, key, epoch, started)
  if now - started > 15000 then
    redis.call('HDEL', key, 'ramp', 'rn')
    return nil
  end
  local reserved = record['r:' .. rule.id]
  if reserved then
    local of, at = string.match(reserved, '^(%d+):([%d.]+)$')
    if of == epoch and tonumber(at) <= now then return nil end
  end
  local due = started + ramped(tonumber(redis.call('HGET', key, 'rn') or 0) + 1, rule.ramp)
  if due <= now then
    commit(function() redis.call('HINCRBY', key, 'rn', 1) end)
    return nil
  end
  redis.call('HINCRBY', key, 'rn', 1)
  redis.call('HSET', record_key, 'r:' .. rule.id, epoch .. ':' .. ms(due))
  return no('breaker', rule.id, 'closed', due - now, { ['until'] = due })
end

function check.breaker(rule, keys)
  local key, permits = keys[1], keys[2]
  local state, epoch, until_, ramp = unpack(redis.call('HMGET', key, 'state', 'epoch', 'until', 'ramp'))
  state, until_ = state or 'closed', tonumber(until_ or 0)
  local forced = state == 'forced_open' or state == 'disabled' or state == 'metrics_only'
  if forced and until_ > 0 and until_ <= now then
    breaker_move(rule, key, state, 'closed', 'until', 0, 'opens', 0, 'w', '', 'ramp', int(now), 'rn', 0)
    state, ramp = 'closed', now
  elseif state == 'open' and until_ <= now then
    breaker_move(rule, key, 'open', 'half_open', 'to', 0, 'tf', 0)
    redis.call('DEL', permits)
    state = 'half_open'
  end
  local refusal, trial = nil, 0
  if state == 'open' then
    refusal = park_behind(rule, key, until_ - now + 1, 'open', until_)
  elseif state == 'forced_open' then
    local wait = until_ > 0 and math.min(until_ - now + 1, rule.cool_down) or rule.cool_down
    refusal = park_behind(rule, key, wait, 'forced_open', until_)
  elseif state == 'half_open' then
    refusal, trial = check_trial(rule, key, permits), 1
  elseif state == 'closed' and ramp then
    refusal = check_ramp(rule, key, epoch or '0', tonumber(ramp))
  end
  if refusal then return refusal end
  breakers[rule.id] = { tonumber(redis.call('HGET', key, 'epoch') or 0), trial }
end

local function changed(rule)
  local change = redis.call('HGET', KEYS[4], rule.name)
  if change then
    for name, value in pairs(cjson.decode(change)) do rule[name] = value end
  end
end

local function check_gcra(rule, key)
  local interval = rule.per / rule.limit
  local tat, reserved_tat, was = unpack(redis.call('HMGET', key, 'tat', 'rtat', 'i'))
  tat, reserved_tat, was = tonumber(tat or 0), tonumber(reserved_tat or 0), tonumber(was or interval)
  if was ~= interval then
    -- The limit was changed live: what is used and reserved counts as many calls as before, at the new pace.
    tat = now + (tat - now) * interval / was
    reserved_tat = now + (reserved_tat - now) * interval / was
  end
  local mine = tonumber(record['r:' .. rule.id])
  local step, slack = interval * rule.cost, interval * rule.burst
  local next_tat = math.max(tat, now) + step
  local at = next_tat - slack
  local queued = math.max(tat, reserved_tat, now) + step
  if not (mine and mine <= now + 1) and queued - slack > at then at = queued - slack end
  if at <= now then
    commit(function()
      redis.call('HSET', key, 'tat', ms(next_tat), 'rtat', ms(math.max(reserved_tat, next_tat)), 'i', interval)
      redis.call('PEXPIRE', key, math.ceil(math.max(next_tat, reserved_tat) - now) + 1000)
    end)
    return nil
  end
  local refusal = no('rate', rule.id, 'limit', at - now)
  refusal.reserve = function()
    if not mine then
      redis.call('HSET', key, 'tat', ms(tat), 'rtat', ms(queued), 'i', interval)
      redis.call('PEXPIRE', key, math.ceil(queued - now) + 1000)
    end
    redis.call('HSET', record_key, 'r:' .. rule.id, ms(at))
  end
  return refusal
end

-- One record a call, scored by when it starts: those that wait for their reserved moment are in it too.
local function check_sliding(rule, key)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - rule.per)
  local mine = tonumber(redis.call('ZSCORE', key, q.id) or nil)
  local at = now
  local function at_least_after(rank)
    local entry = rank >= 0 and redis.call('ZRANGE', key, rank, rank, 'WITHSCORES') or {}
    if entry[2] then at = math.max(at, tonumber(entry[2]) + rule.per + 0.001) end
  end
  if mine and mine <= now then
    -- Itself is among those up to now; it may start if fewer than limit others are.
    at_least_after(redis.call('ZCOUNT', key, '-inf', now) - 1 - rule.limit)
  elseif mine then
    at = mine
  else
    at_least_after(redis.call('ZCARD', key) - rule.limit)
  end
  local function book()
    redis.call('ZADD', key, ms(at), q.id)
    redis.call('PEXPIRE', key, math.ceil(at - now + rule.per) + 1000)
  end
  if at <= now then
    commit(book)
    return nil
  end
  local refusal = no('rate', rule.id, 'limit', at - now)
  refusal.reserve = book
  return refusal
end

function check.rate(rule, keys)
  changed(rule)
  return (rule.sliding and check_sliding or check_gcra)(rule, keys[1])
end

local function used_slots(held)
  redis.call('ZREMRANGEBYSCORE', held, '-inf', now)
  local used = 0
  for _, member in ipairs(redis.call('ZRANGE', held, 0, -1)) do
    used = used + tonumber(string.match(member, '|([%d.]+)$'))
  end
  return used
end

-- Those at the head that have not come back for half a minute after their time are gone; they must not block the rest.
local function drop_lost(waiting, slots)
  for _, id in ipairs(redis.call('ZRANGE', waiting, 0, slots)) do
    local due = tonumber(redis.call('HGET', q.prefix .. id, 'until') or 0)
    if id ~= q.id and due < now - 30000 then redis.call('ZREM', waiting, id) end
  end
end

function check.slots(rule, keys)
  changed(rule)
  local held, waiting, mean = keys[1], keys[2], keys[3]
  local free = rule.slots - used_slots(held)
  drop_lost(waiting, rule.slots)
  local ahead = redis.call('ZRANK', waiting, q.id) or redis.call('ZCARD', waiting)
  if free - ahead >= rule.cost then
    commit(function()
      redis.call('ZADD', held, int(now + rule.lease), q.nonce .. '|' .. rule.cost)
      redis.call('PEXPIRE', held, rule.lease * 2)
      redis.call('ZREM', waiting, q.id)
    end)
    return nil
  end
  local typical = tonumber(redis.call('GET', mean) or 200)
  local delay = math.min(math.max(typical * (ahead + 1 - math.max(free, 0)) / rule.slots, 50), 60000)
  local refusal = no('concurrency', rule.id, 'limit', delay)
  refusal.reserve = function()
    redis.call('ZADD', waiting, 'NX', ms(now), q.id)
    redis.call('PEXPIRE', waiting, 3600000)
  end
  return refusal
end

function check.budget(rule, keys)
  local saved, at = unpack(redis.call('HMGET', keys[1], 'saved', 'at'))
  local pace = rule.reserve / 60000
  saved = math.min(tonumber(saved or rule.reserve) + (now - tonumber(at or now)) * pace, rule.reserve)
  local after = q.failures > 0 and saved - 1 or math.min(saved + rule.share, rule.reserve)
  if after < 0 then return no('budget', rule.id, 'spent', -after / pace * (1 + q.jitter)) end
  commit(function()
    redis.call('HSET', keys[1], 'saved', after, 'at', ms(now))
    redis.call('PEXPIRE', keys[1], 120000)
  end)
end

local keys_of = { claim = 1, breaker = 2, rate = 1, slots = 3, budget = 1 }

local function stricter(one, other)
  if not one or (other and other.delay > one.delay) then return other end
  return one
end

local function ask()
  local refusal = check_cancel() or check_pauses()
  if refusal then return refusal end
  local next_key, limited = 6, nil
  for _, rule in ipairs(q.rules) do
    local keys = {}
    for i = 1, keys_of[rule.kind] do keys[i] = KEYS[next_key + i - 1] end
    next_key = next_key + keys_of[rule.kind]
    local answer = check[rule.kind](rule, keys)
    if answer and rule.dry_run then
      over[#over + 1], answer = rule.id, nil
    end
    if answer and (answer.guard == 'idempotency' or answer.guard == 'breaker') then return answer end
    limited = stricter(limited, answer)
  end
  return limited
end

local refusal = ask()
if refusal and refusal.guard ~= 'cancel' then
  local waits = refusal.wait or refusal.guard ~= 'idempotency'
  if waits and not q.drop[refusal.id] then
    if refusal.reserve then refusal.reserve() end
    if record.state ~= 'running' then redis.call('HSET', record_key, 'state', 'parked') end
    local n = redis.call('HINCRBY', record_key, 'n', 1)
    redis.call('HSETNX', record_key, 'first', int(now))
    redis.call('HSET', record_key, 'task', q.task, 'guard', refusal.guard, 'by', refusal.id, 'why', refusal.why or '',
      'at', int(now), 'until', int(now + refusal.delay))
    redis.call('HSET', record_key, 'h' .. (n % 10), int(now) .. ' ' .. refusal.guard .. ' ' .. refusal.id)
    local life = refusal.delay + 3600000
    if redis.call('PTTL', record_key) < life then redis.call('PEXPIRE', record_key, math.ceil(life)) end
    local parked_since = tonumber(redis.call('HGET', record_key, 'first'))
    refusal.waited = now - parked_since
  end
end
if refusal then
  refusal.reserve = nil
  refusal.moved = moved
  return cjson.encode(refusal)
end
for _, action in ipairs(commits) do action() end
if next(record) and not keep_record then redis.call('DEL', record_key) end
if keep_record then
  redis.call('HDEL', record_key, 'guard', 'by', 'why', 'until', 'first')
  -- A reservation is good for one start: a retry stands in line again.
  for name in pairs(record) do
    if string.sub(name, 1, 2) == 'r:' then redis.call('HDEL', record_key, name) end
  end
end
return cjson.encode({ ok = true, fence = fence, breakers = breakers, moved = moved, over = over })
