-- ARGV[5] idempotency key or '', ARGV[6] seconds until it is canceled or '', ARGV[7] seconds within which it must begin
-- or '', ARGV[8..10] the most jobs of this owner that may wait, of all owners, and the most picture-steps of this owner within
-- the window, each 0 for no limit; ARGV[11] the queue's list; ARGV[12] how many texts the record's fields take; then these,
-- and then commands that put the job into the queue, each after the number of its words. Returns the outcome and the id of the
-- job, or of a limit the seconds.
local most_waiting, most_in_all, most_steps = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])

-- Whose job an entry of the queue asks for; nil for a cut-out, whose rest is longer than that of any job.
local function owner_of(entry)
  local whose = entry:match('^[a-z0-9-]+') or ''
  local rest = entry:sub(#whose + 1)
  if #rest == 74 and rest:find('^_cutout%-%x+_0$') then return nil end
  return whose
end

-- The queue: its entries, the turn of each, how many are jobs, and how many of the owner's; the last of them. A job's turn is how
-- many of its owner's jobs run or wait ahead of it.
local function look_at(queue)
  local line = {entries = redis.call('LRANGE', queue, 0, -1), turns = {}, jobs = 0, own = 0, own_last = 0, own_turn = 0}
  local next_turn = {}
  local function take_turn(whose)
    local turn = next_turn[whose] or 0
    next_turn[whose] = turn + 1
    return turn
  end
  for _, other in ipairs(redis.call('SMEMBERS', 'msd:running:' .. get('model'))) do take_turn(other:match('^[^:]*')) end
  for at, other in ipairs(line.entries) do
    local whose = owner_of(other)
    if whose then
      line.jobs, line.turns[at] = line.jobs + 1, take_turn(whose)
      if whose == owner then line.own, line.own_last = line.own + 1, at end
    end
  end
  line.own_turn = take_turn(owner)
  return line
end

-- Puts an entry behind all of its owner's, and ahead of the first whose turn is later.
local function line_up(queue, line, entry)
  for at = line.own_last + 1, #line.entries do
    if line.turns[at] and line.turns[at] > line.own_turn then
      return redis.call('LINSERT', queue, 'BEFORE', line.entries[at], entry)
    end
  end
  redis.call('RPUSH', queue, entry)
end

-- Seconds until the owner may spend so many steps more: 0 now, negative never.
local function wait_for_steps(charge)
  if most_steps == 0 or charge == 0 then return 0 end
  if charge > most_steps then return -1 end
  local slots, sum, wait, spent = {}, charge, 0, 'msd:spent:' .. get('model') .. ':' .. owner
  local found = redis.call('HGETALL', spent)
  for i = 1, #found, 2 do
    local slot, steps = tonumber(found[i]), tonumber(found[i + 1])
    if slot and steps and slot >= math.floor((now - window_s) / slot_s) then
      slots[#slots + 1] = {slot, steps}
      sum = sum + steps
    end
  end
  table.sort(slots, function(one, other) return one[1] < other[1] end)
  for _, slot in ipairs(slots) do
    if sum <= most_steps then break end
    sum = sum - slot[2]
    wait = (slot[1] + 1) * slot_s + window_s - now
  end
  return wait
end

if redis.call('EXISTS', 'msd:gone:' .. name) == 1 then return {'gone', id} end
if texts['state'] then return {'exists', id} end
if ARGV[5] ~= '' then
  local known = redis.call('GET', 'msd:key:' .. owner .. ':' .. ARGV[5])
  -- A key may outlive its record, if somebody or an evicting Redis removed that alone: then it is free.
  if known and redis.call('EXISTS', 'msd:job:' .. owner .. ':' .. known) == 1 then return {'key_used', known} end
end
local queue, last = ARGV[11], 12 + tonumber(ARGV[12])
for i = 13, last, 2 do texts[ARGV[i]] = ARGV[i + 1] end
local line, charge = look_at(queue), get('charge') or 0
if most_waiting > 0 and line.own >= most_waiting then return {'too_many_waiting', ''} end
if most_in_all > 0 and line.jobs >= most_in_all then return {'queue_full', ''} end
local wait = wait_for_steps(charge)
if wait ~= 0 then return {'steps_spent', tostring(wait < 0 and -1 or math.ceil(wait))} end
-- The line first: if Redis refuses it, nothing of the job is written.
local at = last + 1
while ARGV[at] do
  local words = tonumber(ARGV[at])
  if ARGV[at + 1] == 'RPUSH' then
    line_up(queue, line, ARGV[at + 3])
  else
    redis.call(unpack(ARGV, at + 1, at + words))
  end
  at = at + words + 1
end
if ARGV[5] ~= '' then redis.call('SET', 'msd:key:' .. owner .. ':' .. ARGV[5], id) end
set({unpack(ARGV, 13, last)})
set({'created_at', json_number(now), 'queued_at', json_number(now), 'version', '0'})
if ARGV[6] ~= '' then set({'cancel_at', json_number(now + tonumber(ARGV[6]))}) end
if ARGV[7] ~= '' then set({'start_before', json_number(now + tonumber(ARGV[7]))}) end
redis.call('ZADD', 'msd:jobs:' .. owner, json_number(now), id)
redis.call('SADD', 'msd:active:' .. get('model'), name)
if charge > 0 then spend(charge) end
change('queued', {})
return {'created', id}
