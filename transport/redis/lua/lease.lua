-- Who owns a partition. An epoch is the fence: it rises with every owner, and nothing that carries
-- an old one counts. `until` only says when another member may take over, and `length` how far ahead
-- of the moment it was written: one that is further ahead than that was written before the server's
-- clock was set back (or by another server's), and counts for one more lease from when it is seen.

-- Hand what other consumers of the group left unacknowledged (another program's, or one used by
-- hand) to ours, so that one list in id order holds everything to be delivered again.
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

-- KEYS stream, lease; ARGV group, consumer, member, lease ms, how many unread records the member last
-- knew of, which counts where the lease went with all the server's data, and the last it knew of.
-- Returns the epoch and the id up to which all was delivered, or nothing where another member's
-- lease runs.
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

-- KEYS stream, lease; ARGV group, epoch, lease ms, and what the owner knows of the stream (back.lua).
-- Returns how many records are unread, how many were ever appended, the id of the last, how many
-- were lost if the log went back (-1: it did not).
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

-- KEYS lease; ARGV epoch, and one that the owner's has to be above. Returns the owner's new epoch.
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

-- KEYS lease; ARGV epoch. The epoch is spent: nothing that still carries it counts.
local function release(keys, args)
  if not owns(keys[1], args[1]) then
    return fenced()
  end
  give_up(keys[1], args[1])
  return 1
end

-- KEYS lease; ARGV member. Releases what the member has, known to it or not: the reply to a `take`
-- may have been lost.
local function vacate(keys, args)
  local owner, epoch = unpack(redis.call('HMGET', keys[1], 'owner', 'epoch'))
  if owner == args[1] then
    give_up(keys[1], epoch)
  end
  return 1
end

-- KEYS lease. Returns who owns the partition now, or an empty string.
local function owner(keys)
  return owner_now(keys[1], now_ms())
end

-- KEYS stream, lease; ARGV group. Forgets how far the group is in the stream, and its owner.
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
