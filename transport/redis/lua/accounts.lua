-- Accounts of a stream and a group: which records are there, and how many went missing. PostgreSQL has
-- the position up to which records are settled; here is the one that was published last.
--
-- The position, and the findings of the last look:
--   at       the published position
--   added    records ever appended to the stream
--   tail     the id of the last one
--   unread   records after the position
--   others   records that another program removed from the stream, when `unread` was last certain
-- Totals and marks:
--   lost     records ever lost
--   lost_at  when `lost` last rose, in ms
--   put_back records of `lost` that were appended again (back.lua)
--   uncounted  '1' if a rescue missed the report of a process, so that more than `lost` may be gone
--   doubt    an id: a record up to it that is no longer in the log may be a lost one
--   anew     when the stream was found to be another one after a deletion, as an id
--   before   `tail` of the deleted stream, by the last look at it

-- The answer to XINFO, or nil if there is no such key. Other errors are raised, like that of a missing
-- right.
local function xinfo(kind, stream)
  local reply = redis.pcall('XINFO', kind, stream)
  if not reply.err then
    return reply
  end
  return redis.call('EXISTS', stream) == 1 and redis.call('XINFO', kind, stream) or nil
end

-- The stream by XINFO, or nil if there is none.
local function stream_info(stream)
  local reply = xinfo('STREAM', stream)
  if not reply then
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
  local reply = xinfo('GROUPS', stream)
  if not reply then
    return nil
  end
  for _, flat in ipairs(reply) do
    local group = fields_of(flat)
    if group.name == name then
      return {
        pending = group.pending,
        position = group['last-delivered-id'],
        read = group['entries-read'] or nil,
      }
    end
  end
  return nil
end

-- Counts the records of a range of XRANGE or XREVRANGE. Redis can only count by reading, so the number
-- of records and their bytes are bounded. Returns the count, and the id of the last record counted if
-- there may be more.
local COUNTED_MOST, COUNTED_BYTES = 10 * BATCH, 32 * 1024 * 1024

local function count(stream, command, from, to, most)
  local found, bytes, size, reached = 0, 0, 4, nil
  while found < most and bytes < COUNTED_BYTES do
    local page = redis.call(command, stream, from, to, 'COUNT', size)
    found = found + #page
    if #page < size then
      return found
    end
    for _, entry in ipairs(page) do
      for _, text in ipairs(entry[2]) do
        bytes = bytes + #text
      end
    end
    reached = page[#page][1]
    from = '(' .. reached
    local room = math.floor((COUNTED_BYTES - bytes) * found / (bytes + 1))
    size = math.max(1, math.min(4 * size, BATCH, room, most - found))
  end
  return found, reached
end

-- The number of records after `position`; nil if counting takes too long.
local function count_after(stream, position, most)
  local found, reached = count(stream, 'XRANGE', '(' .. position, '+', most)
  return not reached and found or nil
end

-- The published position and the last look, each without values if there is none.
local function last_look(accounts)
  local at, added, tail, unread, others =
    unpack(redis.call('HMGET', accounts, 'at', 'added', 'tail', 'unread', 'others'))
  return {
    at = at or nil,
    added = tonumber(added or nil),
    tail = tail or nil,
    unread = tonumber(unread or nil),
    others = others or nil,
  }
end

-- The position. Another program may move the group or delete it: that changes nothing here.
local function position_of(look, group)
  return look.at or group and group.position or '0-0'
end

-- Whether the stream was made again since the last look: fewer records were ever appended to it, or its
-- last id is lower, or it holds more records after the old last id than were appended since.
local function is_another(look, info)
  if not look.added then
    return false
  end
  local since = info.added - look.added
  return since < 0 or later(look.tail, info.last)
    or info.length > since and later(info.first, look.tail)
end

-- Whether the stream that was looked at is gone. If its group is gone too, the stream is the same only
-- if it has a record from that time.
local function is_gone(look, info, group)
  if not look.added then
    return false
  end
  return not info or is_another(look, info)
    or not group and (not info.first or later(info.first, look.tail))
end

-- The number of records that left the stream, without those that Crossfade trimmed.
local function removed_by_others(stream, info)
  local trims = redis.call('GET', '{' .. stream .. '}:trimmed')
  local trimmed = trims and string.match(trims, ' (%d+)$') or 0
  return digits(info.added - info.length - trimmed)
end

-- When counting the unread records of a stream last took too long, in ms. It is not tried again for a
-- while.
local crowded = {}
local CROWDED_MS = 1000

local function count_unread(stream, accounts, at)
  local since = now_ms() - (crowded[accounts] or 0)
  if since >= 0 and since < CROWDED_MS then
    return nil
  end
  local found = count_after(stream, at, COUNTED_MOST)
  crowded[accounts] = not found and now_ms() or nil
  return found
end

-- The number of records after the position, and whether it is certain; nil if it is unknown. The number
-- of the last look, and what was appended since, is certain unless another program removed records.
local function unread_now(stream, accounts, look, info, at)
  if info.length == 0 or not later(info.last, at) then
    return 0, true
  end
  if later(info.first, at) then
    return info.length, true
  end
  local known = look.added and look.unread + info.added - look.added
  if known and look.others == removed_by_others(stream, info) then
    return known, true
  end
  local found = count_unread(stream, accounts, at)
  return found or known or nil, found ~= nil
end

-- The number of records that left the log unread since the last look: they were unread then or
-- appended since, and are neither before the position nor in the log.
local function lost_since(look, info, unread)
  return look.added and math.max(0, look.unread + info.added - look.added - unread) or 0
end

-- From now on, a record appended before now that is not in the log does not count as stored.
local function doubt(accounts, last)
  local id = digits(now_ms()) .. '-' .. LAST_SEQUENCE
  local tail, before = unpack(redis.call('HMGET', accounts, 'tail', 'doubt'))
  for _, other in ipairs({last or false, tail, before}) do
    if other and later(other, id) then
      id = other
    end
  end
  redis.call('HSET', accounts, 'doubt', id)
end

local function count_lost(accounts, lost, last)
  redis.call('HINCRBY', accounts, 'lost', digits(lost))
  redis.call('HSET', accounts, 'lost_at', digits(now_ms()))
  doubt(accounts, last)
end

-- Count the records that were unread when a stream was deleted, and mark which ids are its ids.
local function count_deleted(accounts, look, last)
  if look.unread > 0 then
    count_lost(accounts, look.unread, last)
  end
  redis.call('HSET', accounts, 'anew', digits(now_ms()) .. '-' .. LAST_SEQUENCE, 'before', look.tail)
  redis.call('HDEL', accounts, 'at', 'added', 'tail', 'unread', 'others')
end

-- Whether a record belonged to a stream that was deleted since. (If its id is ahead of the clock, it is
-- recognised only if it was the last one: records of the new stream may have ids up to it.)
local function is_of_deleted(accounts, id)
  local anew, before = unpack(redis.call('HMGET', accounts, 'anew', 'before'))
  return anew and (id == before or not later(id, anew))
end

local function keep(accounts, info, at, unread)
  redis.call('HSET', accounts, 'at', at, 'added', digits(info.added), 'tail', info.last,
    'unread', digits(unread))
end

-- Count the records lost since the last look, and keep the new figures. Returns the stream, the
-- position, the number of records after it, and whether that is certain; nil is unknown.
local function look_now(stream, accounts, name)
  local info, group, look = stream_info(stream), group_info(stream, name), last_look(accounts)
  if is_gone(look, info, group) then
    count_deleted(accounts, look, info and info.last)
    look = {}
  end
  if not info then
    local kind = redis.call('TYPE', stream).ok
    if kind ~= 'none' then
      error('WRONGTYPE ' .. stream .. ' is a ' .. kind, 0)
    end
    return nil
  end
  if not look.added then
    doubt(accounts, info.last)
  end
  local at = position_of(look, group)
  local unread, is_certain = unread_now(stream, accounts, look, info, at)
  if unread then
    local lost = lost_since(look, info, unread)
    if lost > 0 then
      count_lost(accounts, lost, info.last)
    end
    keep(accounts, info, at, unread)
    if is_certain then
      redis.call('HSET', accounts, 'others', removed_by_others(stream, info))
    end
  end
  return info, at, unread, is_certain
end

-- Make the group show a position, after which there are `unread` records. Make it again if it is gone.
local function set_group(stream, name, info, at, unread)
  local group, read = group_info(stream, name), unread and info.added - unread
  if group and group.position == at and (not read or group.read == read) then
    return
  end
  local command = {'XGROUP', group and 'SETID' or 'CREATE', stream, name, at}
  if read then
    command[6], command[7] = 'ENTRIESREAD', digits(read)
  end
  redis.call(unpack(command))
end

-- KEYS stream, accounts; ARGV group. Makes the stream and the group if they are missing.
local function open(keys, args)
  local stream, accounts, name = keys[1], keys[2], args[1]
  local info, at, unread = look_now(stream, accounts, name)
  if not info then
    redis.call('XGROUP', 'CREATE', stream, name, '0', 'MKSTREAM')
    info, at, unread = look_now(stream, accounts, name)
  end
  set_group(stream, name, info, at, unread)
  return 1
end

-- KEYS stream, accounts; ARGV group. A look at a partition whose position may not be published now. So
-- its unread records are counted even if the stream is deleted before the next one.
local function look(keys, args)
  look_now(keys[1], keys[2], args[1])
  return 1
end

-- KEYS stream, accounts; ARGV group. Removes the group from the stream, and its accounts.
local function forget(keys, args)
  if redis.call('EXISTS', keys[1]) == 1 then
    redis.call('XGROUP', 'DESTROY', keys[1], args[1])
  end
  redis.call('DEL', keys[2])
  return 1
end

register('open', open, DRAINS)
register('look', look, DRAINS)
register('forget', forget, DRAINS)
