-- What an owner does with its records, refused to whoever is owner no more.

-- KEYS stream, lease; ARGV group, epoch. For an owner that found its stream or group gone.
local function reopen(keys, args)
  if not owns(keys[2], args[2]) then
    return fenced()
  end
  return open_group(keys[1], keys[2], args[1]) and 1 or 0
end

-- KEYS stream; ARGV group. Returns the id up to which the group was given everything, or an empty
-- string.
local function position(keys, args)
  local group = group_info(keys[1], args[1])
  return group and group.position or ''
end

-- KEYS stream, lease; ARGV group, epoch, consumer, count, after, and '>' or nothing. The same as
-- the transaction in inbox.py, for a full server, which takes no transactions.
local function read(keys, args)
  local stream, lease = keys[1], keys[2]
  local group, epoch, consumer, count, after, new = unpack(args)
  if not owns(lease, epoch) then
    return fenced()
  end
  local out = {epoch}
  for i, id in ipairs({after, new}) do
    local reply = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count,
      'STREAMS', stream, id)
    if reply and reply.err then
      return reply
    end
    out[i + 1] = reply
  end
  return out
end

-- `acked` and `last` are what the lease has of both now. One read and one write of it, since each
-- partition that is worked on comes here 20 times a second.
local function note_acked(lease, acked, last, count, through)
  if last and not later(through, last) then
    through = last
  end
  redis.call('HSET', lease, 'acked', digits(tonumber(acked or 0) + count), 'through', through)
end

-- KEYS stream, lease; ARGV group, epoch, consumer, through, and the ids up to `through` that the
-- owner knows of. Those are acknowledged in one go; what else the partition's consumer has pending
-- up to `through` is looked for. What another consumer of the group has (another program's, or one
-- used by hand) was never given to the owner: it stays pending until it is (see `strays`).
local function ack(keys, args)
  local stream, lease = keys[1], keys[2]
  local group, epoch, consumer, through = unpack(args, 1, 4)
  if not owns(lease, epoch) then
    return fenced()
  end
  local total = 0
  for first = 5, #args, BATCH do
    local last = math.min(first + BATCH - 1, #args)
    total = total + redis.call('XACK', stream, group, unpack(args, first, last))
  end
  local summary = redis.pcall('XPENDING', stream, group)
  if summary.err then
    return summary
  end
  if summary[1] > 0 and not later(summary[2], through) then
    repeat
      local ids = {}
      local page = redis.call('XPENDING', stream, group, '-', through, BATCH, consumer)
      for i, entry in ipairs(page) do
        ids[i] = entry[1]
      end
      if #ids > 0 then
        total = total + redis.call('XACK', stream, group, unpack(ids))
      end
    until #ids < BATCH
  end
  local acked, last = unpack(redis.call('HMGET', lease, 'acked', 'through'))
  note_acked(lease, acked, last, total, through)
  look(stream, lease, group)
  return total
end

-- Whether the record at `id` is the one of that message. In a log that went back (back.lua), nothing or
-- another record may be there.
local function is_of(stream, id, message)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  return entry and (fields_of(entry[2]).messageId or '') == message
end

local function pass_one(stream, lease, group, epoch, from, through, message, count)
  local owner, acked, last = unpack(redis.call('HMGET', lease, 'epoch', 'acked', 'through'))
  if owner ~= epoch then
    return 'FENCED this epoch does not own the partition'
  end
  local info = group_info(stream, group)
  if not info or info.position ~= from then
    return 'MOVED the group is not where its owner left it'
  end
  if not is_of(stream, through, message) then
    return 'MOVED the log is not the one that its owner appended to'
  end
  if info.read then
    redis.call('XGROUP', 'SETID', stream, group, through, 'ENTRIESREAD', digits(info.read + count))
  else
    redis.call('XGROUP', 'SETID', stream, group, through)
  end
  note_acked(lease, acked, last, count, through)
  look_at_times(stream, lease, group)
  return ''
end

-- KEYS streams and their leases, in turn; ARGV group; then for each stream its owner's epoch, the id up
-- to which the group was given everything, and the id, the message id and the number of records up to
-- which the owner is done: it appended these itself, and the group is never given them. Returns for
-- each an empty string, or why not.
local function pass(keys, args)
  local out = {}
  for i = 1, #keys / 2 do
    local _, answer = pcall(pass_one, keys[2 * i - 1], keys[2 * i], args[1],
      unpack(args, 5 * i - 3, 5 * i + 1))
    out[i] = type(answer) == 'table' and answer.err or tostring(answer) -- of this stream alone
  end
  return out
end

-- KEYS stream; ARGV group, consumer. Returns how many records other consumers of the group have
-- pending. The owner is not given them until the partition is taken anew.
local function strays(keys, args)
  local stream, group, consumer = keys[1], args[1], args[2]
  local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
  local total = 0
  if not consumers.err then
    for _, flat in ipairs(consumers) do
      local other = fields_of(flat)
      if other.name ~= consumer then
        total = total + other.pending
      end
    end
  end
  return total
end

-- KEYS stream, lease; ARGV group, epoch, ids. Records that are pending and no longer in the log:
-- count them as lost, and let them go, or they would be delivered without a body for ever.
local function gone(keys, args)
  local stream, lease = keys[1], keys[2]
  local group, epoch = unpack(args, 1, 2)
  if not owns(lease, epoch) then
    return fenced()
  end
  for first = 3, #args, BATCH do
    local last = math.min(first + BATCH - 1, #args)
    local count = redis.call('XACK', stream, group, unpack(args, first, last))
    count_lost(lease, count, args[last])
    redis.call('HINCRBY', lease, 'acked', count)
  end
  return 1
end

-- KEYS stream, trimmed; ARGV id below which there are more acknowledged records than are to be kept,
-- and seconds for which they are kept. Trims what is acknowledged by every group and past either, and
-- notes the last record that may have gone: Redis itself remembers only how many did.
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
  if limit == '0-0' then
    return 0
  end
  local last = redis.call('XREVRANGE', stream, '(' .. limit, '-', 'COUNT', 1)[1]
  local removed = redis.call('XTRIM', stream, 'MINID', '~', limit)
  if removed > 0 then
    redis.call('SET', keys[2], last[1])
  end
  return removed
end

-- KEYS stream, trimmed; ARGV id. Returns 1 if no record after it was trimmed, 0 where one was or that
-- is not known (a release before this one noted nothing).
local function reaches(keys, args)
  local stream, after = keys[1], args[1]
  if after ~= '0-0' and #redis.call('XRANGE', stream, after, after) > 0 then
    return 1
  end
  local info = stream_info(stream)
  if not info or info.added == info.length then
    return 1
  end
  local gone = redis.call('GET', keys[2])
  return gone and not later(gone, after) and 1 or 0
end

-- KEYS stream; ARGV XRANGE or XREVRANGE, where to begin and to end, and how many records and how many
-- bytes of them to return at most. The record that passes these bytes is the last.
local PAGE = 16

local function range(keys, args)
  local command, from, to, count, bytes = unpack(args)
  local found, left = {}, tonumber(bytes)
  count = tonumber(count)
  while #found < count do
    local asked = math.min(PAGE, count - #found)
    local page = redis.pcall(command, keys[1], from, to, 'COUNT', asked)
    if page.err then
      return page
    end
    for _, entry in ipairs(page) do
      found[#found + 1] = entry
      for _, text in ipairs(entry[2]) do
        left = left - #text
      end
      if left <= 0 then
        return found
      end
    end
    if #page < asked then
      return found
    end
    from = '(' .. page[#page][1]
  end
  return found
end

register('reopen', reopen, DRAINS)
register('position', position, READS)
register('read', read, DRAINS)
register('range', range, READS)
register('ack', ack, DRAINS)
register('pass', pass, DRAINS)
register('strays', strays, READS)
register('gone', gone, DRAINS)
register('trim', trim, DRAINS)
register('reaches', reaches, READS)
