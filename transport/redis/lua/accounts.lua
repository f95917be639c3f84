-- What is there, and what went missing. A lease's hash keeps what the last look found: `added`
-- (records ever appended to the stream), `tail` (the id of the last), `unread` (records not
-- acknowledged then), `seen` (what `acked` was), and `at` and `read` (the group's position, and the
-- records up to it); and counts what was `acked` and `lost` in all. `through` is the last record that
-- was acknowledged: the group's place is beyond it where records were removed unread. `doubt` is an id: a record up to
-- it that is in the log no more may be one of the lost. `anew` is when the stream was made anew after
-- somebody deleted it, as an id, and `before` the last look's `tail` of the one that was deleted.

-- When the last look at a lease was taken, in ms, since this library was loaded, which is when the server read its
-- data or became a primary. Until then Redis' own count of what a group has read is not to be
-- believed: 7.0 writes and replicates the position without the count.
local looked = {}

-- The stream as XINFO tells it, or nil where there is none.
local function stream_info(stream)
  local reply = redis.pcall('XINFO', 'STREAM', stream)
  if reply.err then
    return nil
  end
  local info = fields_of(reply)
  return {
    length = info.length,
    added = info['entries-added'],
    last = info['last-generated-id'],
    deleted = info['max-deleted-entry-id'],
    first = info['first-entry'] and info['first-entry'][1] or nil,
  }
end

-- The group as XINFO tells it, or nil where there is none.
local function group_info(stream, name)
  local reply = redis.pcall('XINFO', 'GROUPS', stream)
  if reply.err then
    return nil
  end
  for _, flat in ipairs(reply) do
    local group = fields_of(flat)
    if group.name == name then
      return {
        pending = group.pending,
        position = group['last-delivered-id'],
        read = group['entries-read'] or nil,
        lag = group.lag or nil,
      }
    end
  end
  return nil
end

-- Records after `position` up to `last`, counted; nil where that would take too long. Redis has no way
-- to count without reading: so not only how many, but also how many bytes of them are bounded.
local COUNTED_MOST, COUNTED_BYTES = 10 * BATCH, 32 * 1024 * 1024

local function count_between(stream, position, last)
  local count, bytes, size = 0, 0, 4
  while count < COUNTED_MOST and bytes < COUNTED_BYTES do
    local page = redis.call('XRANGE', stream, '(' .. position, last, 'COUNT', size)
    count = count + #page
    if #page < size then
      return count
    end
    for _, entry in ipairs(page) do
      for _, text in ipairs(entry[2]) do
        bytes = bytes + #text
      end
    end
    position = page[#page][1]
    local room = math.floor((COUNTED_BYTES - bytes) * count / (bytes + 1))
    size = math.max(1, math.min(4 * size, BATCH, room, COUNTED_MOST - count))
  end
  return nil
end

-- Records after the group's position as Redis' own count tells it, and that count set right first
-- where the server may have forgotten it: what was read since the last look is counted, and is few.
local function own_lag(stream, info, group, lease)
  if group.lag and not looked[lease] then
    local at, read = unpack(redis.call('HMGET', lease, 'at', 'read'))
    local since = at and not later(at, group.position)
      and count_between(stream, at, group.position)
    if since then
      return math.max(0, info.added - read - since)
    end
  end
  return group.lag
end

-- Records after the group's position; nil where it would take too long to count them. Redis itself
-- says nil when a record ahead of the position was deleted, and 7.0 goes on counting records that
-- were trimmed there, so its word is taken only where counting can't be avoided otherwise.
local function undelivered(stream, info, group, lease)
  if info.length == 0 or not later(info.last, group.position) then
    return 0
  end
  if later(info.first, group.position) then
    return info.length
  end
  return own_lag(stream, info, group, lease) or count_between(stream, group.position, '+')
end

-- The last look: records appended, the last of them, records of them not acknowledged up to now.
-- Nothing where there was no look.
local function last_look(lease)
  local added, tail, unread, seen, acked =
    unpack(redis.call('HMGET', lease, 'added', 'tail', 'unread', 'seen', 'acked'))
  if added then
    return tonumber(added), tail, unread - (tonumber(acked or '0') - seen)
  end
end

-- Whether the stream was made anew since the last look: fewer records were ever appended to it, its
-- last id is below that of then, or it holds more records after that than were appended since.
local function is_another(lease, info)
  local added, tail = last_look(lease)
  if not added then
    return false
  end
  local since = info.added - added
  return since < 0 or later(tail, info.last)
    or info.length > since and later(info.first, tail)
end

-- Records that left the log unread since the last look: unread then or appended since, and neither
-- acknowledged nor there any more. Of a stream that was deleted we know what was unread then.
local function lost_since(lease, info, unread)
  local added, _, before = last_look(lease)
  if not added then
    return 0
  end
  if is_another(lease, info) then
    return math.max(0, before)
  end
  return math.max(0, before + info.added - added - unread)
end

-- Nothing that was appended up to now is known to be a row only because it left the log.
local function doubt(lease, last)
  local id = digits(now_ms()) .. '-' .. LAST_SEQUENCE
  local tail, before = unpack(redis.call('HMGET', lease, 'tail', 'doubt'))
  for _, other in ipairs({last or false, tail, before}) do
    if other and later(other, id) then
      id = other
    end
  end
  redis.call('HSET', lease, 'doubt', id)
end

local function count_lost(lease, count, last)
  redis.call('HINCRBY', lease, 'lost', digits(count))
  doubt(lease, last)
end

-- Count what was lost since the last look, and remember what is there to lose.
local function look(stream, lease, name)
  local info, group = stream_info(stream), group_info(stream, name)
  local left = info and group and undelivered(stream, info, group, lease)
  if not left then
    return
  end
  local read = digits(info.added - left)
  if group.read ~= info.added - left then
    -- Set Redis's own count right, where records ahead of the position were removed.
    redis.call('XGROUP', 'SETID', stream, name, group.position, 'ENTRIESREAD', read)
  end
  local unread = left + group.pending
  local lost = lost_since(lease, info, unread)
  if lost > 0 then
    count_lost(lease, lost, info.last)
  elseif is_another(lease, info) then
    doubt(lease, info.last)
  end
  redis.call('HSET', lease, 'added', digits(info.added), 'unread', digits(unread),
    'tail', info.last, 'seen', redis.call('HGET', lease, 'acked') or '0',
    'at', group.position, 'read', read)
  looked[lease] = now_ms()
end

-- A look, where an owner passes records ten or twenty times a second: it costs more than the rest.
local LOOK_MS = 100

local function look_at_times(stream, lease, name)
  local since = now_ms() - (looked[lease] or 0)
  if since >= LOOK_MS or since < 0 then
    look(stream, lease, name)
  end
end

-- The unread records that went with a deleted stream, for a group that went with it.
local function lost_with_stream(lease, info)
  local added, tail, unread = last_look(lease)
  if not added then
    return 0
  end
  if info and info.first and not later(info.first, tail) then
    return 0 -- the stream is the same one; only its group was destroyed
  end
  return math.max(0, unread)
end

-- Keep which ids are those of a stream that was deleted. What it held unread is counted here.
local function note_anew(lease, info)
  local added, tail = last_look(lease)
  if added and (not info or is_another(lease, info)) then
    redis.call('HSET', lease, 'anew', digits(now_ms()) .. '-' .. LAST_SEQUENCE, 'before', tail)
  end
end

-- Whether a record was of a stream that was deleted since. (One with an id ahead of the clock is told
-- if it was the last: no record of the new stream may have to be above it.)
local function is_of_deleted(lease, id)
  local anew, before = unpack(redis.call('HMGET', lease, 'anew', 'before'))
  return anew and (id == before or not later(id, anew))
end

-- Make the group at the beginning of what the log holds. True if it had to be made.
local function open_group(stream, lease, name)
  local info = stream_info(stream)
  local removed = info and digits(info.added - info.length) or '0'
  local made = redis.pcall('XGROUP', 'CREATE', stream, name, '0', 'MKSTREAM',
    'ENTRIESREAD', removed)
  if made.err then
    return false
  end
  local lost = lost_with_stream(lease, info)
  if lost > 0 then
    redis.call('HINCRBY', lease, 'lost', digits(lost))
  end
  doubt(lease, info and info.last)
  note_anew(lease, info)
  redis.call('HDEL', lease, 'added', 'unread', 'tail', 'seen', 'at', 'read')
  look(stream, lease, name)
  return true
end

-- KEYS stream, lease; ARGV group. Opening twice changes nothing.
local function open(keys, args)
  return open_group(keys[1], keys[2], args[1]) and 1 or 0
end

register('open', open, DRAINS)
