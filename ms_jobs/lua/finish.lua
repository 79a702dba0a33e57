-- ARGV[5] attempt, ARGV[6] state, ARGV[7..] fields. A promised cancel is kept wherever else the job was to go.
-- Returns the state it ended in, or nil if it is not this attempt's to end.
if not is_run_by(ARGV[5]) then return nil end
if get('cancel_requested') or ARGV[6] == 'canceled' then
  finish('canceled', {})
else
  finish(ARGV[6], {unpack(ARGV, 7)})
end
return get('state')
