-- ARGV[5] idempotency key or '', ARGV[6] seconds until it is canceled or '', ARGV[7] seconds within which it must begin
-- or '', ARGV[8..] the record's fields. Returns what became of it and the id of the job that is meant.
if redis.call('EXISTS', 'msd:gone:' .. name) == 1 then return {'gone', id} end
if texts['state'] then return {'exists', id} end
if ARGV[5] ~= '' then
  local idempotency_key = 'msd:key:' .. owner .. ':' .. ARGV[5]
  local known = redis.call('GET', idempotency_key)
  if known then return {'key_used', known} end
  redis.call('SET', idempotency_key, id)
end
set({unpack(ARGV, 8)})
set({'created_at', json_number(now), 'queued_at', json_number(now), 'version', '0'})
if ARGV[6] ~= '' then set({'cancel_at', json_number(now + tonumber(ARGV[6]))}) end
if ARGV[7] ~= '' then set({'start_before', json_number(now + tonumber(ARGV[7]))}) end
redis.call('ZADD', 'msd:jobs:' .. owner, json_number(now), id)
redis.call('SADD', 'msd:active:' .. get('model'), name)
change('queued', {})
return {'created', id}
