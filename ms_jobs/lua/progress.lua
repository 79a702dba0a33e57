-- ARGV[5] attempt, ARGV[6] preview or '', ARGV[7] most entries kept, ARGV[8..] fields. Returns what the worker is to do.
if not is_run_by(ARGV[5]) then return 'taken' end
apply_deadlines()
set({unpack(ARGV, 8)})
local entry = 'progress'
if ARGV[6] ~= '' then
  redis.call('SET', 'msd:preview:' .. name, ARGV[6])
  entry = 'preview'
end
append('msd:progress:' .. name, 'MAXLEN', ARGV[7], grow_version() .. '-0', 'event', entry,
  'phase', texts['phase'] or 'null', 'step', texts['step'] or 'null', 'steps', texts['steps'] or 'null')
return get('cancel_requested') and 'cancel' or 'continue'
