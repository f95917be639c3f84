-- What must be decided where the data is. Loaded by functions.py, which puts the library's header
-- and PREFIX (a digest of this text) in front: old and new versions can run side by side.
--
-- One call touches one partition: all its keys carry the stream's name as their hash tag, so they
-- share a slot in a cluster. Nothing here blocks. Scripts do not roll back, so every function does
-- its writes in the order that leaves a harmless state wherever it is cut off.

local BATCH = 1000 -- Lua's stack bounds how many values unpack() can pass on

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function digits(number)
  return string.format('%.0f', number)
end

local function fields_of(flat)
  local named = {}
  for i = 1, #flat, 2 do
    named[flat[i]] = flat[i + 1]
  end
  return named
end

local function later(a, b)
  local a_ms, a_seq = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_seq = string.match(b, '(%d+)-(%d+)')
  a_ms, b_ms = tonumber(a_ms), tonumber(b_ms)
  if a_ms ~= b_ms then
    return a_ms > b_ms
  end
  return tonumber(a_seq) > tonumber(b_seq)
end

local function fenced()
  return redis.error_reply('FENCED this epoch does not own the partition')
end

local function owns(lease, epoch)
  return redis.call('HGET', lease, 'epoch') == epoch
end

-- The stream as XINFO tells it, or nil where there is none.
local function stream_info(stream)
  local reply = redis.pcall('XINFO', 'STREAM', stream)
  if reply.err then
    return nil
  end
  local info = fields_of(reply)
  info.first = info['first-entry'] and info['first-entry'][1] or nil
  return info
end

local function group_info(stream, group)
  local reply = redis.pcall('XINFO', 'GROUPS', stream)
  if reply.err then
    return nil
  end
  for _, flat in ipairs(reply) do
    local info = fields_of(flat)
    if info.name == group then
      return info
    end
  end
  return nil
end

-- Records after the group's position, counted; nil where that would take too long. Redis itself
-- says nil when a record ahead of the position was deleted, and 7.0 goes on counting records that
-- were trimmed there, so its word is taken only where neither can have happened.
local function undelivered(stream, info, group)
  local position = group['last-delivered-id']
  if info.length == 0 or not later(info['last-generated-id'], position) then
    return 0
  end
  if later(info.first, position) then
    return info.length
  end
  if group.lag then
    return group.lag
  end
  local count = 0
  while count < 10 * BATCH do
    local page = redis.call('XRANGE', stream, '(' .. position, '+', 'COUNT', BATCH)
    count = count + #page
    if #page < BATCH then
      return count
    end
    position = page[#page][1]
  end
  return nil
end

-- Records that left the log between the group's position and now, unread. Zero where unknown.
local function missing(info, group, left)
  local read = group['entries-read']
  if not read or not left then
    return 0
  end
  return math.max(0, info['entries-added'] - read - left)
end

-- The unread records that went with a stream which was deleted: known only from our own last look.
local function unread_at_last_look(info, lease)
  local tail, unread = unpack(redis.call('HMGET', lease, 'tail', 'unread'))
  if not tail or not unread then
    return 0
  end
  if info and info.first and not later(info.first, tail) then
    return 0 -- the stream is the same one; only its group was destroyed
  end
  return tonumber(unread)
end

-- Count what was lost since the last look, and remember what is there to lose. Returns the
-- group's position: the id up to which everything has been delivered.
local function look(stream, lease, group_name)
  local info, group = stream_info(stream), group_info(stream, group_name)
  if not info or not group then
    return
  end
  local left = undelivered(stream, info, group)
  local lost = missing(info, group, left)
  if left and info['entries-added'] - (group['entries-read'] or -1) ~= left then
    redis.call('XGROUP', 'SETID', stream, group_name, group['last-delivered-id'],
      'ENTRIESREAD', digits(info['entries-added'] - left))
  end
  if lost > 0 then
    redis.call('HINCRBY', lease, 'lost', digits(lost))
  end
  local unread, tail = digits((left or 0) + group.pending), info['last-generated-id']
  local seen = redis.call('HMGET', lease, 'unread', 'tail')
  if seen[1] ~= unread or seen[2] ~= tail then
    redis.call('HSET', lease, 'unread', unread, 'tail', tail)
  end
  return group['last-delivered-id']
end

-- Make the group at the beginning of what the log holds. True if it had to be made.
local function open_group(stream, lease, group)
  local info = stream_info(stream)
  local removed = info and digits(info['entries-added'] - info.length) or '0'
  local made = redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM',
    'ENTRIESREAD', removed)
  if made.err then
    return false
  end
  local lost = unread_at_last_look(info, lease)
  if lost > 0 then
    redis.call('HINCRBY', lease, 'lost', digits(lost))
    redis.call('HSET', lease, 'unread', '0')
  end
  return true
end

-- KEYS stream, lease; ARGV group. Opening twice changes nothing.
local function open(keys, args)
  return open_group(keys[1], keys[2], args[1]) and 1 or 0
end

-- KEYS stream, then one key per record where it is to be remembered; ARGV seconds to remember
-- (0: not), then per record what to remember of it, how many fields follow, and the fields.
-- Check, append, remember, in this order: cut off in the middle it leaves a record that is not
-- remembered (the row settles that), never a memory without its record (which would be a loss).
local function append(keys, args)
  local stream, seconds = keys[1], args[1]
  local remember = seconds ~= '0'
  local out, at, i = {}, 2, 1
  while at < #args do
    local first = at + 2
    local last = at + 1 + tonumber(args[at + 1])
    local known = remember and redis.pcall('GET', keys[i + 1])
    if type(known) == 'string' then
      out[i] = '=' .. known
    else
      local id = redis.pcall('XADD', stream, '*', unpack(args, first, last))
      if type(id) == 'table' then
        out[i] = '!' .. id.err
      else
        out[i] = id
        if remember then
          redis.pcall('SET', keys[i + 1], id .. ' ' .. args[at], 'EX', seconds)
        end
      end
    end
    at = last + 1
    i = i + 1
  end
  return out
end

-- Hand what other consumers of the group left unacknowledged (another program's, or one used by
-- hand) to ours, so that one list in id order holds everything to be delivered again.
local function gather(stream, lease, group, consumer)
  for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local other = fields_of(flat)
    if other.name ~= consumer and other.pending > 0 then
      local cursor = '0-0'
      repeat
        local reply = redis.call('XAUTOCLAIM', stream, group, consumer, 0, cursor,
          'COUNT', BATCH, 'JUSTID')
        cursor = reply[1]
        if #reply[3] > 0 then
          redis.call('HINCRBY', lease, 'lost', #reply[3])
        end
      until cursor == '0-0'
      return
    end
  end
end

-- KEYS stream, lease; ARGV group, consumer, member, lease ms, records known to be unread when the
-- log lost its data (a claim's own memory, worth having when the lease went with the stream).
-- Returns the epoch, or 0 where another member's lease runs.
local function take(keys, args)
  local stream, lease = keys[1], keys[2]
  local group, consumer, member, lease_ms, unread = unpack(args)
  local now = now_ms()
  local owner, until_ms, epoch = unpack(redis.call('HMGET', lease, 'owner', 'until', 'epoch'))
  if owner and owner ~= member and tonumber(until_ms) > now then
    return '0'
  end
  if not epoch and unread ~= '0' then
    redis.call('HINCRBY', lease, 'lost', unread)
  end
  epoch = digits(math.max((tonumber(epoch) or 0) + 1, now))
  redis.call('HSET', lease, 'owner', member, 'until', digits(now + lease_ms), 'epoch', epoch)
  open_group(stream, lease, group)
  gather(stream, lease, group, consumer)
  look(stream, lease, group)
  return epoch
end

-- KEYS stream, lease; ARGV group, epoch, lease ms. Returns how many records are unread.
local function renew(keys, args)
  local stream, lease = keys[1], keys[2]
  local group, epoch, lease_ms = unpack(args)
  if not owns(lease, epoch) then
    return fenced()
  end
  redis.call('HSET', lease, 'until', digits(now_ms() + lease_ms))
  look(stream, lease, group)
  return tonumber(redis.call('HGET', lease, 'unread') or '0')
end

local function give_up(lease, epoch)
  redis.call('HDEL', lease, 'owner', 'until')
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

-- Entries whose body is gone were removed unread: count them, acknowledge them, drop them.
local function present(stream, lease, group, entries)
  local kept, gone = {}, {}
  for _, entry in ipairs(entries) do
    if entry[2] then
      kept[#kept + 1] = entry
    else
      gone[#gone + 1] = entry[1]
    end
  end
  if #gone > 0 then
    redis.call('XACK', stream, group, unpack(gone))
    redis.call('HINCRBY', lease, 'lost', #gone)
  end
  return kept
end

local function delivery_counts(stream, group, consumer, entries)
  local counts = {}
  local first, last = entries[1][1], entries[#entries][1]
  local pending = redis.call('XPENDING', stream, group, first, last, #entries, consumer)
  for i, entry in ipairs(pending) do
    counts[i] = entry[4]
  end
  return counts
end

-- KEYS stream, lease; ARGV group, consumer, epoch, count, after.
-- What was delivered to the partition's consumer after `after` comes first, whoever received it
-- or failed to; only when there is no such record is anything new delivered. So a lost reply, a
-- cancelled call, or one that the server got to late can make no record be passed over.
-- Returns the entries, and for those delivered before, how often; where there are none, the id up
-- to which the group has been given everything.
local function read(keys, args)
  local stream, lease = keys[1], keys[2]
  local group, consumer, epoch, count, after = unpack(args)
  if not owns(lease, epoch) then
    return fenced()
  end
  count = math.min(tonumber(count), BATCH)
  repeat
    local reply = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count,
      'STREAMS', stream, after)
    if reply and reply.err then
      if string.sub(reply.err, 1, 7) == 'NOGROUP' and open_group(stream, lease, group) then
        return redis.error_reply('TOPICMISSING ' .. stream .. ' or its group ' .. group
          .. ' was removed; it is recreated at the beginning')
      end
      return reply
    end
    local entries = reply and reply[1][2] or {}
    if #entries > 0 then
      after = entries[#entries][1]
      entries = present(stream, lease, group, entries)
      if #entries > 0 then
        return {entries, delivery_counts(stream, group, consumer, entries)}
      end
    else
      local position = look(stream, lease, group)
      local fresh = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count,
        'STREAMS', stream, '>')
      return fresh and {fresh[1][2]} or position
    end
  until false
end

-- KEYS stream, lease; ARGV group, epoch, through. Returns how many records it acknowledged.
local function ack(keys, args)
  local stream, lease = keys[1], keys[2]
  local group, epoch, through = unpack(args)
  if not owns(lease, epoch) then
    return fenced()
  end
  local total = 0
  repeat
    local pending = redis.pcall('XPENDING', stream, group, '-', through, BATCH)
    if pending.err then
      return pending
    end
    local ids = {}
    for i, entry in ipairs(pending) do
      ids[i] = entry[1]
    end
    if #ids > 0 then
      redis.call('XACK', stream, group, unpack(ids))
    end
    total = total + #ids
  until #ids < BATCH
  local unread = tonumber(redis.call('HGET', lease, 'unread') or '0')
  if unread > 0 and total > 0 then
    redis.call('HSET', lease, 'unread', digits(math.max(0, unread - total)))
  end
  return total
end

-- KEYS stream; ARGV id below which there are more acknowledged records than are to be kept, and
-- seconds for which they are kept. Trims what is acknowledged by every group and past either.
local function trim(keys, args)
  local stream, crowded, seconds = keys[1], args[1], args[2]
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if groups.err or #groups == 0 then
    return 0
  end
  local limit = digits(now_ms() - seconds * 1000) .. '-0'
  if later(crowded, limit) then
    limit = crowded
  end
  for _, flat in ipairs(groups) do
    local group = fields_of(flat)
    local needed = group['last-delivered-id'] -- kept itself: one record more than need be
    if group.pending > 0 then
      needed = redis.call('XPENDING', stream, group.name)[2]
    end
    if later(limit, needed) then
      limit = needed
    end
  end
  return redis.call('XTRIM', stream, 'MINID', '~', limit)
end

-- KEYS stream, lease; ARGV group. Writes nothing, so it answers on a full or read-only server.
local function inspect(keys, args)
  local stream, lease, name = keys[1], keys[2], args[1]
  local info, group = stream_info(stream), group_info(stream, name)
  local owner, until_ms, lost = unpack(redis.call('HMGET', lease, 'owner', 'until', 'lost'))
  local now = now_ms()
  if not owner or tonumber(until_ms) <= now then
    owner = ''
  end
  lost = tonumber(lost or '0')
  if not group then
    lost = lost + unread_at_last_look(info, lease)
  end
  if not info then
    return {0, 0, '', '', '', owner, lost, digits(now)}
  end
  group = group or {['last-delivered-id'] = '0-0', pending = 0}
  local position = group['last-delivered-id']
  local left = undelivered(stream, info, group)
  lost = lost + missing(info, group, left)
  local floor, oldest = position, ''
  if group.pending > 0 then
    oldest = redis.call('XPENDING', stream, name)[2]
    local before = redis.call('XREVRANGE', stream, '(' .. oldest, '-', 'COUNT', 1)[1]
    floor = before and before[1] or '0-0'
  elseif left ~= 0 then
    local next_one = redis.call('XRANGE', stream, '(' .. position, '+', 'COUNT', 1)[1]
    oldest = next_one and next_one[1] or ''
  end
  return {left or -1, group.pending, oldest, floor, info['last-generated-id'], owner, lost,
    digits(now)}
end

-- KEYS lease. Returns who owns the partition now, or an empty string.
local function owner(keys)
  local member, until_ms = unpack(redis.call('HMGET', keys[1], 'owner', 'until'))
  return member and tonumber(until_ms) > now_ms() and member or ''
end

-- KEYS members, bell; ARGV member, ms after which silence means gone. Returns the id of the last
-- ring, and the live members.
local function heartbeat(keys, args)
  local now = now_ms()
  local gone = redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', digits(now))
  local new = redis.call('ZADD', keys[1], digits(now + args[2]), args[1])
  if gone + new > 0 then
    redis.call('XADD', keys[2], 'MAXLEN', 1, '*', 'member', args[1])
  end
  local rung = redis.call('XREVRANGE', keys[2], '+', '-', 'COUNT', 1)[1]
  return {rung and rung[1] or '0-0', redis.call('ZRANGE', keys[1], 0, -1)}
end

-- KEYS members, bell; ARGV member.
local function leave(keys, args)
  redis.call('ZREM', keys[1], args[1])
  redis.call('XADD', keys[2], 'MAXLEN', 1, '*', 'member', args[1])
  return 1
end

-- KEYS bell; ARGV member. Wakes every member to look at who owns what.
local function ring(keys, args)
  redis.call('XADD', keys[1], 'MAXLEN', 1, '*', 'member', args[1])
  return 1
end

-- A full server refuses `append` before it starts, and nothing else: workers must be able to read
-- and acknowledge, which is what makes room.
local DRAINS = {'allow-oom'}

local function register(name, callback, flags)
  redis.register_function{function_name = PREFIX .. name, callback = callback, flags = flags}
end

register('append', append, {})
register('inspect', inspect, {'no-writes'})
register('owner', owner, {'no-writes'})
register('open', open, DRAINS)
register('take', take, DRAINS)
register('renew', renew, DRAINS)
register('release', release, DRAINS)
register('vacate', vacate, DRAINS)
register('read', read, DRAINS)
register('ack', ack, DRAINS)
register('trim', trim, DRAINS)
register('heartbeat', heartbeat, DRAINS)
register('leave', leave, DRAINS)
register('ring', ring, DRAINS)
