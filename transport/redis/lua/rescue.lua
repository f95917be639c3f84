-- What a failover lost and those who appended it still have (rescue.py). The hash of a rescue has what
-- each writer reported (rescue/report.py), and '#leader', '#since' and '#done', and '#unknown' where the
-- server did not know who wrote.
local KEPT_SECONDS = 300
local DAY_SECONDS = 86400
local LEADS_MS = 1500

-- KEYS stream; ARGV ids and the message ids of records that were appended. Returns a text of a digit
-- for each: '1' if it is gone. One that is there says nothing of others: what lies behind it may have
-- been appended since.
local function tell_gone(keys, args)
  local stream, info = keys[1], stream_info(keys[1])
  local flags = {}
  for i = 1, #args, 2 do
    local id = args[i]
    -- What is below the first record there is, was trimmed, where anything ever was.
    local is_trimmed = info and info.added > info.length and not later(id, info.last)
      and not (info.first and later(id, info.first))
    local is_there = is_trimmed or info and is_of(stream, id, args[i + 1])
    flags[#flags + 1] = is_there and '0' or '1'
  end
  return table.concat(flags)
end

-- KEYS writers; ARGV member, ms for which it is awaited. Returns all of them with their times: a server
-- that is promoted may lack the last ones.
local function write_on(keys, args)
  redis.call('ZADD', keys[1], digits(now_ms() + args[2]), args[1])
  redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', digits(now_ms() - KEPT_SECONDS * 1000))
  redis.call('EXPIRE', keys[1], DAY_SECONDS)
  return redis.call('ZRANGE', keys[1], 0, -1, 'WITHSCORES')
end

-- KEYS rescue. Returns whether it has begun and is not over.
local function is_under_way(keys)
  return redis.call('EXISTS', keys[1]) - redis.call('HEXISTS', keys[1], '#done')
end

-- KEYS stream; ARGV the id of a record that is gone. Returns whether a later one was appended.
local function is_overtaken(keys, args)
  local info = stream_info(keys[1])
  return info and later(info.last, args[1]) and 1 or 0
end

-- KEYS rescue, writers; ARGV a field and its value; then writers that the reporter knew of, each with
-- its time. Returns 0 if the rescue is over.
local function report(keys, args)
  if redis.call('HEXISTS', keys[1], '#done') == 1 then
    return 0
  end
  if redis.call('EXISTS', keys[2]) == 0 then
    redis.call('HSET', keys[1], '#unknown', 1)
  end
  redis.call('HSET', keys[1], args[1], args[2])
  redis.call('EXPIRE', keys[1], KEPT_SECONDS)
  for i = 3, #args, 2 do
    redis.call('ZADD', keys[2], 'GT', args[i + 1], args[i])
    redis.call('EXPIRE', keys[2], DAY_SECONDS)
  end
  return 1
end

-- KEYS rescue, writers; ARGV member, ms for which a writer is awaited, '1' to wait for nobody. Returns
-- 'done', 'wait', 'report' where the member's report is there no more (it expires while the server
-- refuses writes), or 'lead' for the one that is to append what all reported, 'alone' if others may have
-- more: one that wrote lately has not reported, or the server lacks the tail with their names. Who was alive is told by
-- the clock of the server that they wrote to, so their times are compared with each other's.
local function lead(keys, args)
  local rescue, writers = keys[1], keys[2]
  local member, ms, is_late = unpack(args)
  if redis.call('HEXISTS', rescue, '#done') == 1 then
    return 'done'
  end
  if redis.call('HEXISTS', rescue, member) == 0 then
    return 'report'
  end
  local newest = redis.call('ZREVRANGE', writers, 0, 0, 'WITHSCORES')[2]
  local is_complete = newest and redis.call('HEXISTS', rescue, '#unknown') == 0 or false
  if newest then
    local alive = redis.call('ZRANGEBYSCORE', writers, '(' .. digits(newest - ms), '+inf')
    for _, writer in ipairs(alive) do
      is_complete = is_complete and redis.call('HEXISTS', rescue, writer) == 1
    end
  end
  if not is_complete and is_late ~= '1' then
    return 'wait'
  end
  local leader, since = unpack(redis.call('HMGET', rescue, '#leader', '#since'))
  local now = now_ms()
  if leader and leader ~= member and math.abs(now - since) < LEADS_MS then
    return 'wait'
  end
  redis.call('HSET', rescue, '#leader', member, '#since', digits(now))
  redis.call('EXPIRE', rescue, KEPT_SECONDS)
  return is_complete and 'lead' or 'alone'
end

-- KEYS rescue; ARGV how many records were appended again, and the members whose reports were read.
-- Returns 0 where another one has reported meanwhile: then it is not over.
local function rescued(keys, args)
  local read = {}
  for i = 2, #args do
    read[args[i]] = true
  end
  for _, field in ipairs(redis.call('HKEYS', keys[1])) do
    if not read[field] and not string.find(field, '^#') and not string.find(field, '.', 1, true) then
      return 0
    end
  end
  redis.call('DEL', keys[1])
  redis.call('HSET', keys[1], '#done', args[1])
  redis.call('EXPIRE', keys[1], DAY_SECONDS)
  return 1
end

register('tell_gone', tell_gone, READS)
register('write_on', write_on, DRAINS)
register('is_under_way', is_under_way, READS)
register('is_overtaken', is_overtaken, READS)
register('report', report, DRAINS)
register('lead', lead, DRAINS)
register('rescued', rescued, DRAINS)
