-- Returns the result.
local state = get('state')
if not state then return 'unknown' end
local fields = {'cancel_requested', 'true', 'cancel_requested_at', json_number(now)}
if state == 'queued' then finish('canceled', fields) end
if get('state') == 'canceled' then return 'canceled' end
if state ~= 'running' then return 'ended' end
if not get('cancel_requested') then
  write_though_full()
  change('cancel_requested', fields)
end
return 'requested'
