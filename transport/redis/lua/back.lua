-- A log that went back: a replica that was behind was promoted, or an older file was read. All data
-- of Redis went back together, so only the knowledge of a process from before shows it (last_seen.py).
-- A process passes five arguments:
--   added, tail, unread   the figures of its last look: records ever appended, the id of the last,
--                         and how many were after the position
--   last                  the last record that it knows of since then
--   may_be_unread         '1' if `last` may be unread, '0' if it is settled
-- The accounts keep which losses are counted: `back_upto`, the highest lost id; `back_lost`, how many
-- records were counted for the last time that the log went back; and `back_at`, when that began. All
-- processes report the same loss within seconds, each with its own number; the largest is right.
local SAME_MS = 60000

-- The number of records that are gone, of those that were there at the process's last look.
local function gone_since(stream, info, added, tail)
  local since, after = info.added - added, 0
  if info.first and later(info.first, tail) then
    after = info.length
  elseif info.first and later(info.last, tail) then
    after = count_after(stream, tail, COUNTED_MOST) or 0
  end
  return math.max(0, after - since)
end

-- How many records were already counted for this loss, and since when; nothing if none.
local function counted_before(accounts)
  local counted, at = unpack(redis.call('HMGET', accounts, 'back_lost', 'back_at'))
  if at and math.abs(now_ms() - at) < SAME_MS then
    return tonumber(counted), at
  end
end

-- Returns how many unread records were lost, as far as the process knows; nothing if the log
-- did not go back. Mostly the last record is there, and with it all records before it.
local function lost_of_last_seen(stream, accounts, args)
  local added, tail, unread, last, may_be_unread = unpack(args)
  local info, look = stream_info(stream), last_look(accounts)
  if info and not look.added and added ~= '' and not is_of_deleted(accounts, tail)
    and is_another({added = tonumber(added), tail = tail}, info) then
    return tonumber(unread) -- all data is gone, with the accounts
  end
  if last == '' or #redis.pcall('XRANGE', stream, last, last) > 0 then
    return nil
  end
  -- A deleted stream whose accounts are still there is counted elsewhere (accounts.lua).
  if not info or is_another(look, info) or is_of_deleted(accounts, last) then
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
local function lost_by_going_back(stream, accounts, args)
  local lost, last = lost_of_last_seen(stream, accounts, args), args[4]
  local upto = lost and redis.call('HGET', accounts, 'back_upto')
  if not lost or upto == last then
    return nil -- counted: account_for() set the stream's last id to it, so no record has it
  end
  local counted = counted_before(accounts)
  if counted then
    return math.max(0, lost - counted)
  end
  return (not upto or later(last, upto)) and lost or nil
end

-- Records that went missing and records that were appended again are counted by different processes,
-- in either order. Within a minute they are of one failover: as many as the smaller of the two numbers
-- were put back. What is left over of either is kept, with its time: missing, missing_at, again,
-- again_at. (Some of those that were appended again may have been settled before.)
local OTHER = {missing = 'again', again = 'missing'}

local function pair_off(accounts, field, count)
  local now = now_ms()
  local function left_over(of)
    local left, at = unpack(redis.call('HMGET', accounts, of, of .. '_at'))
    return at and math.abs(now - at) < SAME_MS and tonumber(left) or 0
  end
  local mine, theirs = left_over(field) + count, left_over(OTHER[field])
  local matched = math.min(mine, theirs)
  redis.call('HINCRBY', accounts, 'put_back', digits(matched))
  redis.call('HSET', accounts, field, digits(mine - matched), field .. '_at', digits(now),
    OTHER[field], digits(theirs - matched))
end

local function note(accounts, lost, last)
  local counted, at = counted_before(accounts)
  local upto = redis.call('HGET', accounts, 'back_upto')
  if last ~= '' and not (upto and later(upto, last)) then
    redis.call('HSET', accounts, 'back_upto', last)
  end
  redis.call('HSET', accounts, 'back_lost', digits((counted or 0) + lost),
    'back_at', at or digits(now_ms()))
  pair_off(accounts, 'missing', lost)
end

-- Count the lost records. Keep new records from getting their ids, which other logs may name.
local function account_for(stream, accounts, args)
  local lost, last = lost_by_going_back(stream, accounts, args), args[4]
  if not lost then
    return nil
  end
  count_lost(accounts, lost, last)
  note(accounts, lost, last)
  if later(last, stream_info(stream).last) then
    redis.call('XSETID', stream, last)
  end
  return lost
end

-- KEYS stream, accounts; ARGV the five above. Returns how many records are counted as lost, -1 if the
-- log did not go back.
local function went_back(keys, args)
  return account_for(keys[1], keys[2], args) or -1
end

-- KEYS stream, accounts; ARGV group, and the five above, or nothing. Returns:
--   the number of unread records (-1: unknown)
--   the id of the oldest unread record, and the position
--   the last id ever appended
--   the number of lost records
--   the server's time in ms
--   the number of records ever appended
--   how many more records are lost if the log went back (-1: it did not)
--   how many of the lost records were put back
--   when the number of lost records last rose, in ms; empty if it never did
--   1 if more may be lost, else 0
-- It writes nothing, so it also works on a full or read-only server.
local function inspect(keys, args)
  local stream, accounts, name = keys[1], keys[2], args[1]
  local info, group, look = stream_info(stream), group_info(stream, name), last_look(accounts)
  local now = digits(now_ms())
  local counted, put_back, lost_at, uncounted =
    unpack(redis.call('HMGET', accounts, 'lost', 'put_back', 'lost_at', 'uncounted'))
  counted = tonumber(counted or '0')
  local lost = counted
  if is_gone(look, info, group) then
    lost, look = lost + look.unread, {}
  end
  local unread, oldest, at, back = 0, '', position_of(look, group), -1
  if info then
    unread = unread_now(stream, accounts, look, info, at) or -1
    if unread >= 0 then
      lost = lost + lost_since(look, info, unread)
    end
    if unread ~= 0 then
      local following = redis.call('XRANGE', stream, '(' .. at, '+', 'COUNT', 1)[1]
      oldest = following and following[1] or ''
    end
    back = args[2] and lost_by_going_back(stream, accounts, {unpack(args, 2)}) or -1
  elseif redis.call('EXISTS', stream) == 1 then
    unread = -1 -- the key is no stream
  end
  return {unread, oldest, at, info and info.last or '', lost, now, info and info.added or 0, back,
    tonumber(put_back or '0'), lost > counted and now or lost_at or '', tonumber(uncounted or '0')}
end

register('inspect', inspect, READS)
register('went_back', went_back, DRAINS)
