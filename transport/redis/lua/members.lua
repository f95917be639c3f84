-- The live members of a group, and the bell that makes them look at the owners of partitions.

-- A member sends a heartbeat at least once a second, however long its lease is. So if a member is
-- recorded to live for longer than LEAST_MS and our own lease, that was written before the clock was
-- set back, or the member has a longer lease and will send its next heartbeat in time. In both cases
-- its time may be shortened.
local LEAST_MS = 3000

-- Remove what somebody else put at a key of the group. Without the members no partition changes hands,
-- and nothing here is worth keeping: members write it anew each second.
local function clear_alien(key)
  if name_if_alien(key) then
    redis.call('UNLINK', key)
  end
end

-- KEYS members, bell; ARGV member, ms without a heartbeat after which it is gone. Returns the id of the
-- last ring, and the live members.
local function heartbeat(keys, args)
  clear_alien(keys[1])
  clear_alien(keys[2])
  local now = now_ms()
  local gone = redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', digits(now))
  local new = redis.call('ZADD', keys[1], digits(now + args[2]), args[1])
  local latest = digits(now + math.max(tonumber(args[2]), LEAST_MS))
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', keys[1], '(' .. latest, '+inf')) do
    redis.call('ZADD', keys[1], latest, member)
  end
  if gone + new > 0 then
    redis.call('XADD', keys[2], 'MAXLEN', 1, '*', 'member', args[1])
  end
  local rung = redis.call('XREVRANGE', keys[2], '+', '-', 'COUNT', 1)[1]
  return {rung and rung[1] or '0-0', redis.call('ZRANGE', keys[1], 0, -1)}
end

-- KEYS members, bell; ARGV member. Removes the member, and rings.
local function leave(keys, args)
  redis.call('ZREM', keys[1], args[1])
  redis.call('XADD', keys[2], 'MAXLEN', 1, '*', 'member', args[1])
  return 1
end

-- KEYS bell; ARGV member. Wakes every member to look at the owners of partitions.
local function ring(keys, args)
  redis.call('XADD', keys[1], 'MAXLEN', 1, '*', 'member', args[1])
  return 1
end

-- KEYS members, bell. Removes the keys of a group's members if none is alive; returns how many are.
local function disband(keys)
  redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', digits(now_ms()))
  local live = redis.call('ZCARD', keys[1])
  if live == 0 then
    redis.call('DEL', keys[1], keys[2])
  end
  return live
end

register('heartbeat', heartbeat, DRAINS)
register('leave', leave, DRAINS)
register('ring', ring, DRAINS)
register('disband', disband, DRAINS)
