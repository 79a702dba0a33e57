-- ARGV[5] worker, ARGV[6] device, both as JSON. Returns the record, or nil if the job is not this worker's to run.
local worker = ARGV[5]
if get('state') == 'running' and texts['worker'] == worker then
  return redis.call('HGETALL', key) -- the answer was lost, and the worker repeats the call
end
if get('state') == 'queued' then apply_deadlines() end
if get('state') ~= 'queued' then return nil end
observe('wait|', now - get('queued_at'))
change('running', {'state', '"running"', 'attempt', tostring(get('attempt') + 1), 'started_at', json_number(now),
  'worker', worker, 'device', ARGV[6], 'phase', 'null', 'step', 'null', 'steps', 'null'})
return redis.call('HGETALL', key)
