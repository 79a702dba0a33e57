-- Applies passed deadlines to a job. Returns its state and 1 if its lifetime is over, or nil if it is gone.
if not texts['state'] then
  return nil
end
apply_deadlines()
if get('state') == 'queued' then
  -- Who wrote when it is due may have another lifetime in its settings: what is not due must not stay ahead of what is.
  write_though_full()
  redis.call('ZADD', 'msd:due:' .. get('model'), json_number(next_due()), name)
end
local expires_at = get('expires_at')
return {get('state'), (expires_at and now >= expires_at) and 1 or 0}
