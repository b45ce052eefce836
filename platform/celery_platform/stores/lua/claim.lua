-- Take an idempotency key for a call that is being enqueued, or say who holds it.
--
-- KEYS[1] hash    the claim of the key
-- KEYS[2] string  the prefix of call records: not a key itself, it pins the slot
-- ARGV[1] JSON    id, task, key, scope, conflict, fingerprint, hold (ms), delay (ms), max_wait (ms, 0 = none)
-- Returns JSON    verdict: new | duplicate | raise | drop | mismatch | unclaimed; holder, state, age (ms), delay (ms)
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local q = cjson.decode(ARGV[1])
local claim = KEYS[1]

local function field(key, name)
  return redis.call('HGET', key, name) or nil
end

local function take()
  redis.call('HSET', claim, 'owner', q.id, 'since', now, 'fp', q.fingerprint, 'scope', q.scope, 'task', q.task, 'key', q.key)
  redis.call('PEXPIRE', claim, q.hold)
end

local function newest()
  local owner, due, first = field(claim, 'owner'), tonumber(field(claim, 'due')), tonumber(field(claim, 'first'))
  if not owner or not first then
    first = now
  elseif owner ~= q.id and due and due <= now then
    -- The window of the waiting call is over: it runs whatever comes now, or a steady stream would starve it.
    redis.call('HSETNX', claim, 'frozen', owner)
    first = now
  end
  due = now + q.delay
  if q.max_wait > 0 then due = math.min(due, first + q.max_wait) end
  take()
  redis.call('HSET', claim, 'first', first, 'due', due)
  redis.call('PEXPIRE', claim, q.hold + q.delay)
  return cjson.encode({ verdict = 'new', delay = math.max(due - now, 0) })
end

if q.scope == 'latest_wins' then return newest() end

local owner = field(claim, 'owner')
if not owner or owner == q.id then
  take()
  return cjson.encode({ verdict = 'new', delay = 0 })
end
local record = KEYS[2] .. owner
local state = field(record, 'state') or 'waiting'
local lease = tonumber(field(record, 'lease')) or 0
if (state == 'running' and lease <= now) or (state == 'done' and q.scope ~= 'until_ttl') then
  take()
  return cjson.encode({ verdict = 'new', delay = 0 })
end
local answer = { holder = owner, state = state, age = now - (tonumber(field(claim, 'since')) or now), delay = 0 }
if field(claim, 'fp') ~= q.fingerprint then
  answer.verdict = 'mismatch'
elseif q.conflict == 'replace' and state ~= 'running' and state ~= 'done' then
  take()
  answer.verdict = 'new'
elseif q.conflict == 'defer' then
  answer.verdict = 'unclaimed'
elseif q.conflict == 'raise' or q.conflict == 'drop' then
  answer.verdict = q.conflict
else
  answer.verdict = 'duplicate'
end
return cjson.encode(answer)
