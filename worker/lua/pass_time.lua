-- What the passing of time does to a job. Returns its state and 1 if its lifetime is over, or nil if it is gone.
if not texts['state'] then
  return nil
end
apply_deadlines()
local expires_at = get('expires_at')
return {get('state'), (expires_at and now >= expires_at) and 1 or 0}
