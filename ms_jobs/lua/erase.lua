-- ARGV[5] why ('' leaves no mark), ARGV[6] seconds for which the mark is kept, ARGV[7] '1' to erase only a job past its
-- lifetime, ARGV[8] the mark. Returns the record as it was, or nil if nothing was erased.
if #flat == 0 then return nil end
-- A damaged record must go, too.
local function readable(field, kind)
  local is_json, value = pcall(get, field)
  return is_json and type(value) == kind and value or nil
end
local expires_at = readable('expires_at', 'number')
if ARGV[7] == '1' and not (expires_at and now >= expires_at) then return nil end
local model, idempotency_key = readable('model', 'string'), readable('idempotency_key', 'string')
redis.call('DEL', key, 'msd:events:' .. name, 'msd:progress:' .. name, 'msd:preview:' .. name)
redis.call('ZREM', 'msd:jobs:' .. owner, id)
if idempotency_key then redis.call('DEL', 'msd:key:' .. owner .. ':' .. idempotency_key) end
if model then
  redis.call('SREM', 'msd:active:' .. model, name)
  redis.call('SREM', 'msd:running:' .. model, name)
  redis.call('ZREM', 'msd:due:' .. model, name)
end
if ARGV[5] ~= '' then
  redis.call('SET', 'msd:gone:' .. name, ARGV[8], 'EX', ARGV[6])
  if model then count('erased_' .. ARGV[5]) end
end
return flat
