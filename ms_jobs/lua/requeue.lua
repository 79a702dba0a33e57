-- ARGV[5] attempt, ARGV[6] event: 'handed_back' does not count as an attempt, every other does; ARGV[7] most attempts,
-- ARGV[8] the error, as JSON, of a job that has had them. Returns the new state, or nil if the attempt is not the latest.
-- 'abandoned' comes from other processes, so nil also if the worker's heartbeat still reports the job.
if get('state') == 'queued' and get('attempt') == tonumber(ARGV[5]) then
  return 'queued' -- the answer was lost, and the caller repeats the call
end
if not is_run_by(ARGV[5]) then return nil end
if ARGV[6] == 'abandoned' and get('worker') then
  local beat = redis.call('GET', 'msd:worker:' .. get('worker'))
  local told = beat and cjson.decode(beat) or {}
  if told['job_id'] == id and told['state'] ~= 'failed' and told['state'] ~= 'defunct' then return nil end
end
local handed_back = get('handed_back')
if ARGV[6] == 'handed_back' then handed_back = handed_back + 1 end
if get('cancel_requested') then
  finish('canceled', {})
elseif get('attempt') - handed_back >= tonumber(ARGV[7]) then
  count(ARGV[6])
  finish('failed', {'error', ARGV[8]})
else
  redis.call('DEL', 'msd:preview:' .. name)
  change(ARGV[6], {'state', '"queued"', 'queued_at', json_number(now), 'handed_back', tostring(handed_back),
    'started_at', 'null', 'phase', 'null', 'step', 'null', 'steps', 'null', 'worker', 'null', 'references', '[]'})
end
return get('state')
