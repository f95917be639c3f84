-- A log that went back: a replica that was behind was promoted, or an older file was read. All data
-- of Redis went back together, so only the knowledge of a process from before shows it (last_seen.py).
-- A process passes five arguments:
--   added, tail, unread   the figures of its last look: records ever appended, the id of the last,
--                         and how many were not acknowledged
--   last                  the last record that it knows of since then
--   may_be_unread         '1' if `last` may be unread, '0' if it is acknowledged
-- The lease keeps which losses are counted: `back_upto`, the highest lost id; `back_lost`, how many
-- records were counted for the last time that the log went back; and `back_at`, when that began. All
-- processes report the same loss within seconds, each with its own number; the largest is right.
local SAME_MS = 60000

-- The number of records that are gone, of those that were there at the process's last look.
local function gone_since(stream, info, added, tail)
  local since, after = info.added - added, 0
  if info.first and later(info.first, tail) then
    after = info.length
  elseif info.first and later(info.last, tail) then
    after = count_between(stream, tail, '+') or 0
  end
  return math.max(0, after - since)
end

-- How many records were already counted for this loss, and since when; nothing if none.
local function counted_before(lease)
  local counted, at = unpack(redis.call('HMGET', lease, 'back_lost', 'back_at'))
  if at and math.abs(now_ms() - at) < SAME_MS then
    return tonumber(counted), at
  end
end

-- Returns how many unacknowledged records were lost, as far as the process knows; nothing if the log
-- did not go back. Mostly the last record is there, and with it all records before it.
local function lost_of_last_seen(stream, lease, args)
  local added, tail, unread, last, may_be_unread = unpack(args)
  if last == '' or #redis.pcall('XRANGE', stream, last, last) > 0 then
    return nil
  end
  local info = stream_info(stream)
  -- A deleted stream whose lease is still there is counted elsewhere (accounts.lua).
  if not info or is_another(lease, info) or is_of_deleted(lease, last) then
    return nil
  end
  -- The record may only have been trimmed. A stream that has all its records was never trimmed.
  local is_trimmed = info.added > info.length and not later(last, info.last) and not (
    info.first and later(last, info.first) and later(last, info.deleted))
  if is_trimmed and (added == '' or info.first and not later(info.first, tail)) then
    return nil
  end
  local gone = added ~= '' and gone_since(stream, info, added, tail) or 0
  if is_trimmed and gone == 0 then
    return nil
  end
  if may_be_unread == '1' and (added == '' or later(last, tail)) then
    return math.min(gone, tonumber(unread)) + 1
  end
  -- New records with ids below those of lost ones (the clock is behind) hide some of the loss: at
  -- least the last record is gone.
  return math.min(math.max(gone, 1), tonumber(unread))
end

-- The same, without the records that are already counted.
local function lost_by_going_back(stream, lease, args)
  local lost, last = lost_of_last_seen(stream, lease, args), args[4]
  local upto = lost and redis.call('HGET', lease, 'back_upto')
  if not lost or upto == last then
    return nil -- counted: account_for() set the stream's last id to it, so no record has it
  end
  local counted = counted_before(lease)
  if counted then
    return math.max(0, lost - counted)
  end
  return (not upto or later(last, upto)) and lost or nil
end

-- Records that went missing and records that were appended again are counted by different processes,
-- in either order. Within a minute they are of one failover: as many as the smaller of the two numbers
-- were put back. What is left over of either is kept, with its time: missing, missing_at, again,
-- again_at. (Some of those that were appended again may have been acknowledged before.)
local OTHER = {missing = 'again', again = 'missing'}

local function pair_off(lease, field, count)
  local now = now_ms()
  local function left_over(of)
    local left, at = unpack(redis.call('HMGET', lease, of, of .. '_at'))
    return at and math.abs(now - at) < SAME_MS and tonumber(left) or 0
  end
  local mine, theirs = left_over(field) + count, left_over(OTHER[field])
  local matched = math.min(mine, theirs)
  redis.call('HINCRBY', lease, 'put_back', digits(matched))
  redis.call('HSET', lease, field, digits(mine - matched), field .. '_at', digits(now),
    OTHER[field], digits(theirs - matched))
end

local function note(lease, lost, last)
  local counted, at = counted_before(lease)
  local upto = redis.call('HGET', lease, 'back_upto')
  if last ~= '' and not (upto and later(upto, last)) then
    redis.call('HSET', lease, 'back_upto', last)
  end
  redis.call('HSET', lease, 'back_lost', digits((counted or 0) + lost),
    'back_at', at or digits(now_ms()))
  pair_off(lease, 'missing', lost)
end

-- Count the lost records. Keep new records from getting their ids, which other logs may name. End the
-- owner's claim, which was given records that are gone, by raising the epoch: the reply says the
-- same, but may be lost.
local function account_for(stream, lease, args)
  local lost, last = lost_by_going_back(stream, lease, args), args[4]
  if not lost then
    return nil
  end
  local is_first = counted_before(lease) == nil
  count_lost(lease, lost, last)
  note(lease, lost, last)
  -- Only once: a second report of the same loss need not end the next claim as well.
  if (is_first or lost > 0) and redis.call('HEXISTS', lease, 'epoch') == 1 then
    redis.call('HINCRBY', lease, 'epoch', 1)
  end
  if later(last, stream_info(stream).last) then
    redis.call('XSETID', stream, last)
  end
  return lost
end

-- KEYS stream, lease; ARGV the five above. Returns how many records are counted as lost, -1 if the
-- log did not go back.
local function went_back(keys, args)
  return account_for(keys[1], keys[2], args) or -1
end

-- KEYS stream, lease; ARGV group, and the five above, or nothing. Returns:
--   the number of undelivered records (-1: unknown), and of pending ones
--   the id of the oldest unacknowledged record, and the id through which all are acknowledged
--   the last id ever appended
--   the owner
--   the number of lost records
--   the server's time in ms
--   the number of records ever appended
--   how many more records are lost if the log went back (-1: it did not)
--   the last acknowledged id
--   how many of the lost records were put back
--   when the number of lost records last rose, in ms; empty if it never did
--   1 if more may be lost, else 0
-- It writes nothing, so it also works on a full or read-only server.
local function inspect(keys, args)
  local stream, lease, name = keys[1], keys[2], args[1]
  local info, group = stream_info(stream), group_info(stream, name)
  local now = now_ms()
  local owner = owner_now(lease, now)
  local counted, put_back, lost_at, uncounted =
    unpack(redis.call('HMGET', lease, 'lost', 'put_back', 'lost_at', 'uncounted'))
  local lost = tonumber(counted or '0')
  local function of_losses()
    local is_new = lost > tonumber(counted or '0')
    return tonumber(put_back or '0'), is_new and digits(now) or lost_at or '', tonumber(uncounted or '0')
  end
  if not group then
    lost = lost + lost_with_stream(lease, info)
  end
  if not info then
    local left = redis.call('EXISTS', stream) == 0 and 0 or -1 -- unknown if the key is no stream
    return {left, 0, '', '', '', owner, lost, digits(now), 0, -1, '', of_losses()}
  end
  group = group or {position = '0-0', pending = 0, unopened = true}
  local left = undelivered(stream, info, group, lease)
  if left and not group.unopened then
    lost = lost + lost_since(lease, info, left + group.pending)
  end
  local floor, oldest = group.position, ''
  if group.pending > 0 then
    oldest = redis.call('XPENDING', stream, name)[2]
    local before = redis.call('XREVRANGE', stream, '(' .. oldest, '-', 'COUNT', 1)[1]
    floor = before and before[1] or '0-0'
  elseif left ~= 0 then
    local following = redis.call('XRANGE', stream, '(' .. group.position, '+', 'COUNT', 1)[1]
    oldest = following and following[1] or ''
  end
  local back = args[2] and lost_by_going_back(stream, lease, {unpack(args, 2)}) or -1
  return {left or -1, group.pending, oldest, floor, info.last, owner, lost, digits(now), info.added,
    back, redis.call('HGET', lease, 'through') or '', of_losses()}
end

-- KEYS stream, lease; ARGV group. A look at a partition without an owner; an owner looks with each
-- renewal. So unread records are counted even if the stream is deleted meanwhile.
local function look_unowned(keys, args)
  if owner_now(keys[2], now_ms()) == '' then
    look(keys[1], keys[2], args[1])
  end
  return 1
end

register('inspect', inspect, READS)
register('went_back', went_back, DRAINS)
register('look_unowned', look_unowned, DRAINS)
