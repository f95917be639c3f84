-- The calls of a partition's owner: read, acknowledge, trim. A former owner is refused.

-- KEYS stream, lease; ARGV group, epoch. Makes the stream and the group again if they are gone.
local function reopen(keys, args)
  if not owns(keys[2], args[2]) then
    return fenced()
  end
  return open_group(keys[1], keys[2], args[1]) and 1 or 0
end

-- KEYS stream; ARGV group. Returns the id up to which the group was given all records, or an empty
-- string.
local function position(keys, args)
  local group = group_info(keys[1], args[1])
  return group and group.position or ''
end

-- KEYS stream, lease; ARGV group, epoch, consumer, count, after, and '>' or nothing. Reads like the
-- transaction in inbox.py, on a full server, which refuses transactions.
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

-- Adds to the lease's `acked` and advances its `through`, whose values now are `acked` and `last`. The
-- caller reads the lease once, and this writes it once: it runs 20 times a second for each partition.
local function note_acked(lease, acked, last, count, through)
  if last and not later(through, last) then
    through = last
  end
  redis.call('HSET', lease, 'acked', digits(tonumber(acked or 0) + count), 'through', through)
end

-- KEYS stream, lease; ARGV group, epoch, consumer, through, and the ids up to `through` that the
-- owner knows of. Acknowledges these in one go, and then any other records that are pending up to
-- `through` for the partition's consumer. Records of another consumer of the group (another program,
-- or a person) were never given to the owner: they stay pending until they are (see `strays`).
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

-- Whether the record at `id` is that of `message`. In a log that went back (back.lua), there may be no
-- record at `id`, or another one.
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

-- Acknowledges records that were handed over: the owner's process appended them, and the group never
-- reads them. KEYS each stream and its lease; ARGV group; then for each stream the owner's epoch, the
-- group's position, the id of the last record to acknowledge, its message id, and the number of
-- records. Returns for each stream an empty string, or an error.
local function pass(keys, args)
  local out = {}
  for i = 1, #keys / 2 do
    local stream, lease = keys[2 * i - 1], keys[2 * i]
    local _, answer = pcall(pass_one, stream, lease, args[1], unpack(args, 5 * i - 3, 5 * i + 1))
    out[i] = text_of(answer, {stream, lease}) -- an error fails this stream alone
  end
  return out
end

-- KEYS stream, lease; ARGV group, and the id through which every record is settled. Makes the group show
-- that position, and returns how many records it passed (below 0 if the position went back). Losses are
-- counted first, with the figures of the position before.
local function show(keys, args)
  local stream, lease, group, through = keys[1], keys[2], args[1], args[2]
  open_group(stream, lease, group)
  look(stream, lease, group)
  local info, before = stream_info(stream), group_info(stream, group)
  local passed = before.read and not later(before.position, through)
    and count_between(stream, before.position, through)
  if passed then
    redis.call('XGROUP', 'SETID', stream, group, through, 'ENTRIESREAD', digits(before.read + passed))
  else
    redis.call('XGROUP', 'SETID', stream, group, through)
  end
  local ids
  repeat -- records that a program has read as a member of the group
    ids = {}
    for i, entry in ipairs(redis.call('XPENDING', stream, group, '-', through, BATCH)) do
      ids[i] = entry[1]
    end
    if #ids > 0 then
      redis.call('XACK', stream, group, unpack(ids))
    end
  until #ids < BATCH
  local after = group_info(stream, group)
  local left = undelivered(stream, info, after, lease)
  local unread, acked = unpack(redis.call('HMGET', lease, 'unread', 'acked'))
  local settled = left and unread - left - after.pending or 0
  redis.call('HSET', lease, 'acked', digits(tonumber(acked or 0) + settled), 'through', through)
  look(stream, lease, group)
  return settled
end

-- KEYS stream; ARGV group, consumer. Returns how many records are pending for other consumers of the
-- group. The owner gets them only when the partition is taken again.
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

-- KEYS stream, lease; ARGV group, epoch, ids of records that are pending but no longer in the log.
-- Counts them as lost and acknowledges them: otherwise they would be delivered without a body for
-- ever.
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

-- Records after which a call to trim ends. One XTRIM removes 100 times stream-node-max-entries at most,
-- which are as many by default.
local TRIMMED_ENOUGH = 10000

-- KEYS stream, trimmed; ARGV an id below which there are more acknowledged records than the limit, and
-- seconds of retention. Trims records that every group has acknowledged and that are past either
-- bound. Notes the last record that may have been trimmed, and how many ever were.
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
    local needed = group['last-delivered-id'] -- this record stays too, though it need not
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
  local removed, more = 0, nil
  repeat
    more = redis.call('XTRIM', stream, 'MINID', '~', limit)
    removed = removed + more
  until more == 0 or removed >= TRIMMED_ENOUGH
  if removed > 0 then
    local before = string.match(redis.call('GET', keys[2]) or '', ' (%d+)$') or 0
    redis.call('SET', keys[2], last[1] .. ' ' .. digits(before + removed))
  end
  return removed
end

-- KEYS stream, trimmed; ARGV id. Returns 1 if no record after the id was trimmed, 0 if one was or it is
-- unknown (an earlier release did not note it).
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

-- KEYS stream; ARGV XRANGE or XREVRANGE, the first and the last id, and the most records and the most
-- bytes to return. The record that reaches the limit of bytes is the last one.
local PAGE = 16
-- Ranges that begin beyond the last or the first id there is. They are empty, but the server calls them
-- invalid.
local EMPTY = {XRANGE = '(18446744073709551615-18446744073709551615', XREVRANGE = '(0-0'}

local function range(keys, args)
  local command, from, to, count, bytes = unpack(args)
  local found, left = {}, tonumber(bytes)
  count = tonumber(count)
  while #found < count and from ~= EMPTY[command] do
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
register('show', show, DRAINS)
register('strays', strays, READS)
register('gone', gone, DRAINS)
register('trim', trim, DRAINS)
register('reaches', reaches, READS)
