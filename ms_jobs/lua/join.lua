-- A connection waits for a job. ARGV[5] digest of what it sent, ARGV[6] which jobs it may join: 'own', its new one; 'lost', one
-- that nobody waits for and nobody was answered with; 'any'; these only if they have a connection, or had one within ARGV[7]
-- seconds. Returns 1 if it joined. The fields 'waiting' and 'answered' are for this script and leave.lua alone.
local state, waiting = get('state'), get('waiting') or 0
if not state then return 0 end
if ARGV[6] ~= 'own' then
  local left_at = redis.call('ZSCORE', 'msd:twins:' .. owner .. ':' .. ARGV[5], id)
  local is_late = not left_at or tonumber(left_at) < now - tonumber(ARGV[7])
  if is_late or get('cancel_requested') then return 0 end
end
if ARGV[6] == 'lost' and (waiting > 0 or get('answered')) then return 0 end
write_though_full()
set({'waiting', tostring(waiting + 1)})
redis.call('ZADD', 'msd:twins:' .. owner .. ':' .. ARGV[5], '+inf', id)
redis.call('EXPIRE', 'msd:twins:' .. owner .. ':' .. ARGV[5], math.ceil(lifetime))
if get('cancel_at') and (state == 'queued' or state == 'running') then
  -- Nobody is told: only the deadline changes that leave.lua has set.
  set({'cancel_at', 'null'})
  local due = next_due()
  if due then
    redis.call('ZADD', 'msd:due:' .. get('model'), json_number(due), name)
  else
    redis.call('ZREM', 'msd:due:' .. get('model'), name)
  end
end
return 1
