-- A connection waits for a job no longer. ARGV[5] digest of what it sent, ARGV[6] 'answered' or 'lost', ARGV[7] seconds within
-- which another may join; then a job that nobody waits for is canceled.
local state = get('state')
write_though_full()
redis.call('ZREMRANGEBYSCORE', 'msd:twins:' .. owner .. ':' .. ARGV[5], '-inf', json_number(now - tonumber(ARGV[7])))
redis.call('ZREM', 'msd:twins:' .. owner .. ':' .. ARGV[5], id)
if not state then return end
local waiting = math.max((get('waiting') or 0) - 1, 0)
set({'waiting', tostring(waiting)})
if ARGV[6] == 'answered' then set({'answered', 'true'}) end
local place = waiting > 0 and '+inf' or json_number(now)
redis.call('ZADD', 'msd:twins:' .. owner .. ':' .. ARGV[5], place, id)
redis.call('EXPIRE', 'msd:twins:' .. owner .. ':' .. ARGV[5], math.ceil(lifetime))
if waiting == 0 and ARGV[6] == 'lost' and (state == 'queued' or state == 'running') and not get('cancel_requested') then
  set({'cancel_at', json_number(now + tonumber(ARGV[7]))})
  redis.call('ZADD', 'msd:due:' .. get('model'), json_number(next_due()), name)
end
