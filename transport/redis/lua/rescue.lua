-- Rescues of records that a failover lost and their processes still have (rescue.py).
local DAY_SECONDS = 86400

-- KEYS stream, accounts, generations; ARGV the ids of records that were appended. Returns a text with a
-- digit for each: '1' if the record is gone.
local function tell_gone(keys, args)
  local it = figures(keys[1], keys[2], '', '', {})
  local flags = {}
  for i, id in ipairs(args) do
    flags[i] = it and lost_end(it, id, '0-0') > 0 and '1' or '0'
  end
  return table.concat(flags)
end

-- KEYS rescues, then accounts; ARGV the id of this call, then for each accounts a generation, and how
-- many of its records were appended again. Counts them: in the accounts, and in a sorted set by the
-- time, of a day. A call that is repeated changes nothing.
local function note_again(keys, args)
  local sum, now = 0, now_ms()
  for i = 3, #args, 2 do
    sum = sum + args[i]
  end
  if redis.call('ZADD', keys[1], 'NX', digits(now), args[1] .. ':' .. digits(sum)) == 0 then
    return 0
  end
  redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', digits(now - DAY_SECONDS * 1000))
  redis.call('EXPIRE', keys[1], DAY_SECONDS)
  for i = 2, #keys do
    redis.call('HINCRBY', keys[i], 'again:' .. args[2 * i - 2], args[2 * i - 1])
  end
  return 1
end

register('tell_gone', tell_gone, READS)
register('note_again', note_again, DRAINS)
