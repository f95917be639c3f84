-- Leases: who owns a partition. The epoch is the fence: it rises with every owner, and a call with an
-- old epoch is refused. `until` only says when another member may take over, and `length` how far
-- ahead that was when it was written. If `until` is further ahead than that, it was written before
-- the server's clock was set back (or by another server); the lease then runs for `length` from the
-- moment at which this is noticed.

-- Move records that are pending for other consumers of the group (another program, or a person) to
-- our consumer, so that one list has all records to deliver again, in the order of ids.
local function gather(stream, group, consumer)
  for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local other = fields_of(flat)
    if other.name ~= consumer and other.pending > 0 then
      local cursor = '0-0'
      repeat
        cursor = redis.call('XAUTOCLAIM', stream, group, consumer, 0, cursor,
          'COUNT', BATCH, 'JUSTID')[1]
      until cursor == '0-0'
      return
    end
  end
end

local function hold(lease, now, lease_ms)
  redis.call('HSET', lease, 'until', digits(now + lease_ms), 'length', lease_ms)
end

-- KEYS stream, lease; ARGV group, consumer, member, lease ms, the number of unread records that the
-- member last knew of, and the last record that it knew of. The number counts as lost if the server
-- has lost all its data, and the lease with it. Returns the epoch, and the id up to which all records
-- were delivered; nothing if another member has the lease.
local function take(keys, args)
  local stream, lease = keys[1], keys[2]
  local group, consumer, member, lease_ms, unread, last = unpack(args)
  local now = now_ms()
  local owner, until_ms, epoch, length =
    unpack(redis.call('HMGET', lease, 'owner', 'until', 'epoch', 'length'))
  if owner and owner ~= member and tonumber(until_ms) > now then
    length = tonumber(length or lease_ms)
    if until_ms - now > length then
      hold(lease, now, length)
    end
    return nil
  end
  local kind = redis.call('TYPE', stream).ok
  if kind ~= 'stream' and kind ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. stream .. ' is a ' .. kind)
  end
  if not epoch and unread ~= '0' then
    count_lost(lease, unread)
    note(lease, tonumber(unread), last)
  end
  epoch = digits(math.max((tonumber(epoch) or 0) + 1, now))
  redis.call('HSET', lease, 'owner', member, 'epoch', epoch)
  hold(lease, now, lease_ms)
  open_group(stream, lease, group)
  gather(stream, group, consumer)
  look(stream, lease, group)
  return {epoch, group_info(stream, group).position}
end

-- KEYS stream, lease; ARGV group, epoch, lease ms, and the five arguments of back.lua. Returns how many
-- records are unread, how many were ever appended, the id of the last, and how many were lost if the
-- log went back (-1: it did not).
local function renew(keys, args)
  local stream, lease = keys[1], keys[2]
  local group, epoch, lease_ms = unpack(args)
  if not owns(lease, epoch) then
    return fenced()
  end
  hold(lease, now_ms(), lease_ms)
  local lost = account_for(stream, lease, {unpack(args, 4)})
  look(stream, lease, group)
  local unread, added, tail = unpack(redis.call('HMGET', lease, 'unread', 'added', 'tail'))
  return {tonumber(unread or '0'), tonumber(added or '0'), tail or '', lost or -1}
end

-- KEYS lease; ARGV epoch, and a number that the new epoch has to exceed. Returns the new epoch.
local function raise_epoch(keys, args)
  if not owns(keys[1], args[1]) then
    return fenced()
  end
  local epoch = digits(math.max(tonumber(args[1]), tonumber(args[2])) + 1)
  redis.call('HSET', keys[1], 'epoch', epoch)
  return epoch
end

local function give_up(lease, epoch)
  redis.call('HDEL', lease, 'owner', 'until', 'length')
  redis.call('HSET', lease, 'epoch', digits(tonumber(epoch) + 1))
end

-- KEYS lease; ARGV epoch. Gives up the lease. Later calls with this epoch are refused.
local function release(keys, args)
  if not owns(keys[1], args[1]) then
    return fenced()
  end
  give_up(keys[1], args[1])
  return 1
end

-- KEYS lease; ARGV member. Gives up the lease if the member has it, even if the member does not know:
-- the reply to its `take` may have been lost.
local function vacate(keys, args)
  local owner, epoch = unpack(redis.call('HMGET', keys[1], 'owner', 'epoch'))
  if owner == args[1] then
    give_up(keys[1], epoch)
  end
  return 1
end

-- KEYS lease. Returns the owner of the partition, or an empty string.
local function owner(keys)
  return owner_now(keys[1], now_ms())
end

-- KEYS stream, lease; ARGV group. Removes the group's position in the stream, and its lease.
local function forget(keys, args)
  if redis.call('EXISTS', keys[1]) == 1 then
    redis.call('XGROUP', 'DESTROY', keys[1], args[1])
  end
  redis.call('DEL', keys[2])
  return 1
end

register('take', take, DRAINS)
register('renew', renew, DRAINS)
register('raise_epoch', raise_epoch, DRAINS)
register('release', release, DRAINS)
register('vacate', vacate, DRAINS)
register('owner', owner, READS)
register('forget', forget, DRAINS)
