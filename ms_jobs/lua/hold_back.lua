-- Whether a worker may start the entry that it took. Stands alone, without the beginning of the others.
--
-- KEYS[1] the queue, KEYS[2] RQ's list of taken entries, KEYS[3] the jobs that run, KEYS[4] those about to, by when that is over.
-- ARGV[1] the entry, ARGV[2] its job, ARGV[3] how many of an owner may run at once, ARGV[4] seconds within which it starts.
-- Returns 1: it may. 0: it is back in the queue, behind another that may. -1: it is back at the head, and no other may.
local entry, name, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)

local at_once, counted = {}, {[name] = true}
for _, jobs in ipairs({redis.call('SMEMBERS', KEYS[3]), redis.call('ZRANGE', KEYS[4], 0, -1)}) do
  for _, other in ipairs(jobs) do
    local whose = other:match('^[^:]*')
    if not counted[other] then at_once[whose] = (at_once[whose] or 0) + 1 end
    counted[other] = true
  end
end
local function is_free(whose) return (at_once[whose] or 0) < most end
-- As in create.lua.
local function is_cutout(other) return other:sub(-74):find('^_cutout%-%x+_0$') end

if is_free(name:match('^[^:]*')) then
  redis.call('ZADD', KEYS[4], now + tonumber(ARGV[4]), name)
  return 1
end
-- If a housekeeper has put it back already, once is enough.
if redis.call('LREM', KEYS[2], 1, entry) == 0 then return -1 end
for _, other in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if is_cutout(other) or is_free(other:match('^[^_]*')) then
    redis.call('LREM', KEYS[1], 1, other)
    redis.call('LPUSH', KEYS[1], entry, other)
    return 0
  end
end
redis.call('LPUSH', KEYS[1], entry)
return -1
