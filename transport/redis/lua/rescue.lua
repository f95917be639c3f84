-- Rescues of records that a failover lost and their writers still have (rescue.py). The hash of a
-- rescue has the reports of the writers (rescue/report.py), '#leader', '#since', '#done', and
-- '#unknown' if the server did not know the writers. '#round' counts the rescues that ended on this
-- server: a former primary may take the writes again, and then lacks what another server got meanwhile.
local KEPT_SECONDS = 300
local DAY_SECONDS = 86400
local LEADS_MS = 1500

-- Whether the two memories lack a record that they would still have if it had been appended here. Each
-- is written for some seconds, and read for as long again.
local function is_unknown(memories, seconds, id, message)
  local at = tonumber(string.match(id, '^%d+'))
  if now_ms() - at >= seconds * 1000 then
    return false
  end
  for _, memory in ipairs(memories) do
    local memo = redis.pcall('HGET', memory, message) -- an error if somebody has overwritten it
    if type(memo) == 'string' and string.match(memo, '^%S+') == id then
      return false
    end
  end
  return true
end

-- KEYS stream, and the two memories; ARGV the seconds for which records are remembered; then the id and
-- the message id of each record that was appended, and the id under which it was remembered, or an
-- empty string. Returns a text with a digit for each: '1' if the record is gone. Each one is checked: a
-- record that is there does not prove that earlier ones are, since it may have been appended after the
-- failover.
local function tell_gone(keys, args)
  local stream, info, seconds = keys[1], stream_info(keys[1]), tonumber(args[1])
  local memories = {keys[2], keys[3]}
  local flags = {}
  for i = 2, #args, 3 do
    local id, message, remembered = unpack(args, i, i + 2)
    -- If any record was ever trimmed, those below the first one in the log count as trimmed, unless
    -- they never were in this log.
    local is_trimmed = info and info.added > info.length and not later(id, info.last)
      and not (info.first and later(id, info.first))
      and not (remembered ~= '' and is_unknown(memories, seconds, id, remembered))
    local is_there = is_trimmed or info and is_of(stream, id, message)
    flags[#flags + 1] = is_there and '0' or '1'
  end
  return table.concat(flags)
end

-- KEYS writers; ARGV member, ms for which a rescue waits for its report. Registers it as a writer.
-- Returns all writers with their times, since a promoted server may lack the latest ones.
local function write_on(keys, args)
  redis.call('ZADD', keys[1], digits(now_ms() + args[2]), args[1])
  redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', digits(now_ms() - KEPT_SECONDS * 1000))
  redis.call('EXPIRE', keys[1], DAY_SECONDS)
  return redis.call('ZRANGE', keys[1], 0, -1, 'WITHSCORES')
end

-- KEYS rescue. Returns 1 if the rescue has begun and is not over, else 0.
local function is_under_way(keys)
  return redis.call('EXISTS', keys[1]) - redis.call('HEXISTS', keys[1], '#done')
end

-- KEYS stream; ARGV the id of a lost record. Returns 1 if a later record is in the log, else 0. (The
-- stream's last id proves nothing: account_for() raises it.)
local function is_overtaken(keys, args)
  return #redis.pcall('XRANGE', keys[1], '(' .. args[1], '+', 'COUNT', 1)
end

-- KEYS rescue, writers; ARGV a field and its value; the round that the reporter has known to end here,
-- or '-'; then writers that it knows, each with its time. Returns 0 if the rescue is over. If the last
-- one that ended is the one that the reporter knows, this report begins the next.
local function report(keys, args)
  if redis.call('HEXISTS', keys[1], '#done') == 1 then
    if redis.call('HGET', keys[1], '#round') ~= args[3] then
      return 0
    end
    redis.call('HDEL', keys[1], '#done')
  end
  if redis.call('EXISTS', keys[2]) == 0 then
    redis.call('HSET', keys[1], '#unknown', 1)
  end
  redis.call('HSET', keys[1], args[1], args[2])
  redis.call('EXPIRE', keys[1], KEPT_SECONDS)
  for i = 4, #args, 2 do
    redis.call('ZADD', keys[2], 'GT', args[i + 1], args[i])
    redis.call('EXPIRE', keys[2], DAY_SECONDS)
  end
  return 1
end

-- KEYS rescue, writers; ARGV member, ms for which a writer's report is awaited, '1' to wait no longer.
-- Returns:
--   'done'    the rescue is over
--   'wait'    ask again
--   'report'  the member's report has expired (while the server refused writes): report again
--   'lead'    the member is the leader, and has to append the records of all reports
--   'alone'   the same, but other writers may have lost more: one that wrote lately has not reported,
--             or the server lacks the names of the writers
-- The times of writers are by the clock of the old server, so they are only compared with each other.
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

-- KEYS rescues, then accounts; ARGV the id of this call, '1' if the report of a process was missed, then
-- for each partition how many of its records were appended again. Counts them: in the accounts, and in a sorted set by the time, of a day. A call that is repeated changes nothing.
local function note_again(keys, args)
  local sum, now = 0, now_ms()
  for i = 3, #args do
    sum = sum + args[i]
  end
  if redis.call('ZADD', keys[1], 'NX', digits(now), args[1] .. ':' .. digits(sum)) == 0 then
    return 0
  end
  redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', digits(now - DAY_SECONDS * 1000))
  redis.call('EXPIRE', keys[1], DAY_SECONDS)
  for i = 3, #args do
    if args[2] == '1' then
      redis.call('HSET', keys[i - 1], 'uncounted', 1, 'lost_at', digits(now))
    end
    pair_off(keys[i - 1], 'again', tonumber(args[i]))
  end
  return 1
end

-- KEYS rescue; ARGV how many records were appended again, and the members whose reports were read. Ends
-- the rescue. Returns 0 if another member has reported meanwhile: then it is not over.
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
  local round = (redis.call('HGET', keys[1], '#round') or 0) + 1
  redis.call('DEL', keys[1])
  redis.call('HSET', keys[1], '#done', args[1], '#round', digits(round))
  redis.call('EXPIRE', keys[1], DAY_SECONDS)
  return 1
end

register('tell_gone', tell_gone, READS)
register('write_on', write_on, DRAINS)
register('is_under_way', is_under_way, READS)
register('is_overtaken', is_overtaken, READS)
register('report', report, DRAINS)
register('lead', lead, DRAINS)
register('note_again', note_again, DRAINS)
register('rescued', rescued, DRAINS)
