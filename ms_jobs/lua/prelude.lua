-- The beginning of every script: one script is one step, and one change of a job is one script.
--
-- KEYS[1] is the job's hash, whose values are JSON texts. ARGV[1] is the time in Unix seconds ('' asks Redis, whose
-- clock all hosts share), ARGV[2] the owner, ARGV[3] the job's id, ARGV[4] the lifetime in seconds.
local key, owner, id, lifetime = KEYS[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local name = owner .. ':' .. id

local function clock()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local now = clock()

-- The hash as it stands; kept up to date by set().
local texts = {}
local flat = redis.call('HGETALL', key)
for i = 1, #flat, 2 do texts[flat[i]] = flat[i + 1] end

-- The value of a field; nil if there is none.
local function get(field)
  local text = texts[field]
  if not text or text == 'null' then return nil end
  return cjson.decode(text)
end

local function json_number(value) return string.format('%.6f', value) end

-- Sets fields: a flat list of names and JSON texts.
local function set(fields)
  if #fields == 0 then return end
  redis.call('HSET', key, unpack(fields))
  for i = 1, #fields, 2 do texts[fields[i]] = fields[i + 1] end
end

local function grow_version()
  local version = redis.call('HINCRBY', key, 'version', 1)
  texts['version'] = tostring(version)
  return version
end

-- Adds to a number of the metrics; one that is no number starts again, for metrics cost no job its change.
local function add(command, hash, field, value)
  local reply = redis.pcall(command, hash, field, value)
  if type(reply) == 'table' and reply.err then redis.pcall('HSET', hash, field, value) end
end

local function count(what) add('HINCRBY', 'msd:counts:' .. get('model'), what, 1) end

-- Adds a duration, in seconds, to a histogram of the model; ms_jobs/measures.py reads it, and has its bounds as BUCKETS.
local function observe(what, seconds)
  local histograms, bucket = 'msd:histograms:' .. get('model'), '+Inf'
  for _, bound in ipairs(buckets) do
    if seconds <= tonumber(bound) then
      bucket = bound
      break
    end
  end
  add('HINCRBY', histograms, what .. '|' .. bucket, 1)
  add('HINCRBYFLOAT', histograms, what .. '|sum', json_number(math.max(seconds, 0)))
end

-- Time of the job's next deadline; nil if there is none.
local function next_due()
  local state, cancel_at, start_before = get('state'), get('cancel_at'), get('start_before')
  if state == 'running' then return not get('cancel_requested') and cancel_at or nil end
  if state ~= 'queued' then return get('expires_at') end
  local due = get('queued_at') + lifetime
  if cancel_at then due = math.min(due, cancel_at) end
  if start_before and get('attempt') == 0 then due = math.min(due, start_before) end
  return due
end

-- Adds an entry to a stream. Redis sets 4 kB aside for the first entry of a stream; restored, it takes what it needs.
local function append(stream, ...)
  redis.call('XADD', stream, ...)
  if redis.call('XLEN', stream) == 1 then
    redis.pcall('RESTORE', stream, 0, redis.call('DUMP', stream), 'REPLACE')
  end
end

-- A full Redis accepts writes only after a DEL. What ends jobs, and so makes room, must get through.
local function write_though_full() redis.call('DEL', 'msd:nothing') end

-- One transition: sets fields, grows the version, and writes one entry of the event log, whose id is the version.
local function change(event, fields)
  set(fields)
  local version = grow_version()
  append('msd:events:' .. name, version .. '-0', 'event', event, 'state', get('state'),
    'attempt', texts['attempt'], 'at', json_number(now))
  local due = next_due()
  if due then
    redis.call('ZADD', 'msd:due:' .. get('model'), json_number(due), name)
  else
    redis.call('ZREM', 'msd:due:' .. get('model'), name)
  end
  redis.call(get('state') == 'running' and 'SADD' or 'SREM', 'msd:running:' .. get('model'), name)
  count(event)
end

-- Adds to the picture-steps of the owner in the slot in which the job was created; like metrics, they cost no job its change.
local function spend(steps)
  local spent = 'msd:spent:' .. get('model') .. ':' .. owner
  add('HINCRBY', spent, tostring(math.floor(get('created_at') / slot_s)), steps)
  redis.pcall('EXPIRE', spent, window_s + slot_s)
end

-- Gives back the picture-steps that a job was charged for and did not take.
local function give_back()
  local charge, step, steps = get('charge') or 0, get('step') or 0, get('steps') or 0
  local taken = steps > 0 and math.ceil(charge * math.min(step / steps, 1)) or 0
  if charge > taken then spend(taken - charge) end
end

-- The last transition of a job.
local function finish(state, fields)
  write_though_full()
  give_back()
  local all = {'state', cjson.encode(state), 'ended_at', json_number(now), 'expires_at', json_number(now + lifetime)}
  for _, item in ipairs(fields) do all[#all + 1] = item end
  -- Of a canceled job no picture is served, nor what the model saw of its subjects.
  if state == 'canceled' then all[#all + 1], all[#all + 2] = 'references', '[]' end
  if get('state') == 'running' then
    observe('run|' .. state, now - get('started_at'))
    local asked_at = get('cancel_requested_at')
    if state == 'canceled' and asked_at then observe('cancel|', now - asked_at) end
  end
  observe('total|' .. state, now - get('created_at'))
  redis.call('DEL', 'msd:progress:' .. name, 'msd:preview:' .. name)
  redis.call('SREM', 'msd:active:' .. get('model'), name)
  change(state, all)
end

-- Applies passed deadlines to a job that has not ended.
local function apply_deadlines()
  local state, cancel_at, start_before = get('state'), get('cancel_at'), get('start_before')
  local cancel_is_due = cancel_at and now >= cancel_at and not get('cancel_requested')
  if state == 'queued' then
    local start_is_due = start_before and get('attempt') == 0 and now >= start_before
    if cancel_is_due then
      finish('canceled', {'cancel_requested', 'true', 'cancel_requested_at', json_number(now)})
    elseif start_is_due or now >= get('queued_at') + lifetime then
      finish('expired', {})
    end
  elseif state == 'running' and cancel_is_due then
    write_though_full()
    change('cancel_requested', {'cancel_requested', 'true', 'cancel_requested_at', json_number(now)})
  end
end

-- Whether this attempt runs the job.
local function is_run_by(attempt) return get('state') == 'running' and get('attempt') == tonumber(attempt) end
