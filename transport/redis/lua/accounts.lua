-- Accounts of a stream: which records are there, and how many went missing. They are fields of the
-- lease's hash.
--
-- The findings of the last look:
--   added    records ever appended to the stream
--   tail     the id of the last one
--   unread   records that were not acknowledged
--   seen     the value of `acked`
--   at       the group's position
--   read     records up to that position
--   others   records that somebody else removed from the stream, when `unread` was last certain
-- Totals and marks:
--   acked    records ever acknowledged
--   lost     records ever lost
--   lost_at  when `lost` last rose, in ms
--   put_back records of `lost` that were appended again (back.lua)
--   uncounted  '1' if a rescue missed the report of a process, so that more than `lost` may be gone
--   through  the last acknowledged record; the group's position is beyond it if unread records were
--            removed
--   doubt    an id: a record up to it that is no longer in the log may be a lost one
--   anew     when the stream was made anew after somebody deleted it, as an id
--   before   `tail` of the deleted stream, by the last look at it

-- The time of the last look at each lease, in ms, since this library was loaded, which happens when
-- the server reads its data or becomes a primary. Before the first look, Redis' own count of the
-- records that a group has read can't be trusted: 7.0 saves and replicates the position without it.
local looked = {}

-- The stream by XINFO, or nil if there is none.
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

-- The group by XINFO, or nil if there is none.
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

-- The number of records after `position` up to `last`; nil if counting would take too long. Redis can
-- only count by reading, so both the number of records and their bytes are bounded.
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

-- The number of records after the group's position, by Redis' own count. Where the server may have
-- forgotten that count, it is computed: the few records read since the last look are counted.
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

-- When counting the records of a lease last took too long, in ms. It is not tried again for a while.
local crowded = {}
local CROWDED_MS = 1000

local function count_unread(stream, group, lease)
  local since = now_ms() - (crowded[lease] or 0)
  if since >= 0 and since < CROWDED_MS then
    return nil
  end
  local count = count_between(stream, group.position, '+')
  crowded[lease] = not count and now_ms() or nil
  return count
end

-- The number of records that left the stream, without those that we trimmed.
local function removed_by_others(stream, info)
  local trims = redis.call('GET', '{' .. stream .. '}:trimmed')
  local ours = trims and string.match(trims, ' (%d+)$') or 0
  return digits(info.added - info.length - ours)
end

-- The number of records after the group's position, and whether it is certain; nil if counting would
-- take too long. Redis' own count is nil if a record ahead of the position was deleted. Up to Redis
-- 7.4 and Valkey 8.0 it goes on including records that were removed there, after the group has read
-- past them. So it is certain only if nobody else removed records since the last certain count.
local function undelivered(stream, info, group, lease)
  if info.length == 0 or not later(info.last, group.position) then
    return 0, true
  end
  if later(info.first, group.position) then
    return info.length, true
  end
  local own = own_lag(stream, info, group, lease)
  if own and redis.call('HGET', lease, 'others') == removed_by_others(stream, info) then
    return own, true
  end
  local count = count_unread(stream, group, lease)
  return count or own, count ~= nil
end

-- The last look: the number of records ever appended, the id of the last, and how many of them are
-- still not acknowledged now. Nothing if there was no look.
local function last_look(lease)
  local added, tail, unread, seen, acked =
    unpack(redis.call('HMGET', lease, 'added', 'tail', 'unread', 'seen', 'acked'))
  if added then
    return tonumber(added), tail, unread - (tonumber(acked or '0') - seen)
  end
end

-- Whether the stream was made anew since the last look: fewer records were ever appended to it, or its
-- last id is lower, or it holds more records after the old last id than were appended since.
local function is_another(lease, info)
  local added, tail = last_look(lease)
  if not added then
    return false
  end
  local since = info.added - added
  return since < 0 or later(tail, info.last)
    or info.length > since and later(info.first, tail)
end

-- The number of records that left the log unread since the last look: they were unread then or
-- appended since, and are neither acknowledged nor in the log. If the stream was deleted, this is the
-- number of records that were unread at the last look.
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

-- From now on, a record appended before now that is not in the log does not count as stored.
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

local function add_lost(lease, count)
  redis.call('HINCRBY', lease, 'lost', digits(count))
  redis.call('HSET', lease, 'lost_at', digits(now_ms()))
end

local function count_lost(lease, count, last)
  add_lost(lease, count)
  doubt(lease, last)
end

-- Count the records lost since the last look, and keep the new figures.
local function look(stream, lease, name)
  local info, group = stream_info(stream), group_info(stream, name)
  if not info or not group then
    return
  end
  local left, is_certain = undelivered(stream, info, group, lease)
  if not left then
    return
  end
  local read = digits(info.added - left)
  if group.read ~= info.added - left then
    -- Correct Redis' own count: records ahead of the position were removed.
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
  if is_certain then
    redis.call('HSET', lease, 'others', removed_by_others(stream, info))
  end
  looked[lease] = now_ms()
end

-- A look, but at most ten times a second: an owner passes records twenty times a second, and a look
-- costs more than the rest of that call.
local LOOK_MS = 100

local function look_at_times(stream, lease, name)
  local since = now_ms() - (looked[lease] or 0)
  if since >= LOOK_MS or since < 0 then
    look(stream, lease, name)
  end
end

-- The number of unread records of a deleted stream, for a group that was deleted with it.
local function lost_with_stream(lease, info)
  local added, tail, unread = last_look(lease)
  if not added then
    return 0
  end
  if info and info.first and not later(info.first, tail) then
    return 0 -- the stream is the same; only its group was destroyed
  end
  return math.max(0, unread)
end

-- If the stream was deleted, mark which ids are its ids. (The caller counts its unread records.)
local function note_anew(lease, info)
  local added, tail = last_look(lease)
  if added and (not info or is_another(lease, info)) then
    redis.call('HSET', lease, 'anew', digits(now_ms()) .. '-' .. LAST_SEQUENCE, 'before', tail)
  end
end

-- Whether a record belonged to a stream that was deleted since. (If its id is ahead of the clock, it is
-- recognised only if it was the last one: records of the new stream may have ids up to it.)
local function is_of_deleted(lease, id)
  local anew, before = unpack(redis.call('HMGET', lease, 'anew', 'before'))
  return anew and (id == before or not later(id, anew))
end

-- Make the group if it is missing, at the beginning of the log. Returns whether it was made.
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
    add_lost(lease, lost)
  end
  doubt(lease, info and info.last)
  note_anew(lease, info)
  redis.call('HDEL', lease, 'added', 'unread', 'tail', 'seen', 'at', 'read', 'others')
  look(stream, lease, name)
  return true
end

-- KEYS stream, lease; ARGV group. Opening twice changes nothing.
local function open(keys, args)
  return open_group(keys[1], keys[2], args[1]) and 1 or 0
end

register('open', open, DRAINS)
