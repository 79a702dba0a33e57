-- ARGV[5] idempotency key or '', ARGV[6] seconds until it is canceled or '', ARGV[7] seconds within which it must begin
-- or '', ARGV[8] how many texts the record's fields take; then these, and then commands that put the job into the queue,
-- each after the number of its words. Returns the outcome and the id of the job.
if redis.call('EXISTS', 'msd:gone:' .. name) == 1 then return {'gone', id} end
if texts['state'] then return {'exists', id} end
if ARGV[5] ~= '' then
  local known = redis.call('GET', 'msd:key:' .. owner .. ':' .. ARGV[5])
  -- A key may outlive its record, if somebody or an evicting Redis removed that alone: then it is free.
  if known and redis.call('EXISTS', 'msd:job:' .. owner .. ':' .. known) == 1 then return {'key_used', known} end
end
local last = 8 + tonumber(ARGV[8])
-- The line first: if Redis refuses it, nothing of the job is written.
local at = last + 1
while ARGV[at] do
  local words = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
if ARGV[5] ~= '' then redis.call('SET', 'msd:key:' .. owner .. ':' .. ARGV[5], id) end
set({unpack(ARGV, 9, last)})
set({'created_at', json_number(now), 'queued_at', json_number(now), 'version', '0'})
if ARGV[6] ~= '' then set({'cancel_at', json_number(now + tonumber(ARGV[6]))}) end
if ARGV[7] ~= '' then set({'start_before', json_number(now + tonumber(ARGV[7]))}) end
redis.call('ZADD', 'msd:jobs:' .. owner, json_number(now), id)
redis.call('SADD', 'msd:active:' .. get('model'), name)
change('queued', {})
return {'created', id}
