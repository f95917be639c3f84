-- Accounts of a stream and a group: which records are there, and how many went missing. PostgreSQL has
-- the position up to which records are settled; here is the one that was published last.
--   at        the published position
--   number    the number of records through it
--   missing   records after it that are not in the stream
--   others    records that another program removed from the stream, when `missing` was counted
--   lost      records ever lost, without those of an end that went missing
--   end:<generation>    records lost at the end of a generation: a failover or a restored file
--   again:<generation>  records of that generation that were appended again
--   lost_at   when either number of lost records last rose, in ms
--   uncounted '1' if more may be gone: the position passed too many records to count them
--   doubt     an id: a record up to it that is no longer in the stream may be a lost one

-- The group by XINFO, or nil if there is none.
local function group_info(stream, name)
  local reply = xinfo('GROUPS', stream)
  if not reply then
    return nil
  end
  for _, flat in ipairs(reply) do
    local group = fields_of(flat)
    if group.name == name then
      return {position = group['last-delivered-id'], read = group['entries-read'] or nil}
    end
  end
  return nil
end

-- The number of records of a range; nil if counting takes too long. Redis can only count by reading, so
-- the number of records and their bytes are bounded.
local COUNTED_MOST, COUNTED_BYTES = 10 * BATCH, 32 * 1024 * 1024

local function count(stream, from, to)
  local found, bytes, size = 0, 0, 4
  while found < COUNTED_MOST and bytes < COUNTED_BYTES do
    local page = redis.call('XRANGE', stream, from, to, 'COUNT', size)
    found = found + #page
    if #page < size then
      return found
    end
    for _, entry in ipairs(page) do
      for _, text in ipairs(entry[2]) do
        bytes = bytes + #text
      end
    end
    from = '(' .. page[#page][1]
    local room = math.floor((COUNTED_BYTES - bytes) * found / (bytes + 1))
    size = math.max(1, math.min(4 * size, BATCH, room, COUNTED_MOST - found))
  end
  return nil
end

-- When counting a stream last took too long, in ms. It is not tried again for a while.
local crowded = {}
local CROWDED_MS = 1000

local function count_after(stream, at, last)
  local since = now_ms() - (crowded[stream] or 0)
  if since >= 0 and since < CROWDED_MS then
    return nil
  end
  local found = count(stream, '(' .. at, last or '+')
  crowded[stream] = not found and now_ms() or nil
  return found
end

-- The number of records through `id`; nil if it is unknown. Those of other programs have to be counted.
-- `known`, if given, is an earlier id, with its number.
local function number_through(it, id, known, number)
  if id == '0-0' then
    return 0
  end
  local found = dense_number(it.generations, id)
  if found then
    -- Records beyond the end of its generation were lost, and were counted as such.
    return math.min(found, number_at_next(it.generations, parts(id)) or it.all)
  end
  local between = number and not later(known, id) and count(it.stream, '(' .. known, id)
  if between then
    return number + between
  end
  local number_at, next_ms = number_at_next(it.generations, parts(id))
  local after = not it.info and 0 or count_after(it.stream, id, next_ms and '(' .. next_ms .. '-0')
  return after and (number_at or it.all) - after
end

-- Whether there is no record at `id`, whose generation is unknown, and it was not trimmed.
local function is_absent(it, id)
  local trims = redis.call('GET', '{' .. it.stream .. '}:trimmed')
  return not dense_number(it.generations, id) and not (trims and not later(id, string.match(trims, '^%S+')))
    and #redis.pcall('XRANGE', it.stream, id, id) == 0
end

-- Whether the record at `id`, whose generation is unknown, was lost with it.
local function is_unknown(it, id)
  local info = it.info
  if not is_absent(it, id) or not info or later(id, info.last) then
    return is_absent(it, id)
  end
  local is_first = true
  for ms in pairs(it.generations) do
    is_first = is_first and not (string.find(ms, '^%d+$') and larger(parts(id), ms))
  end
  -- Another program may have removed it.
  return it.others == '0' and (is_first or info.first and later(id, info.first))
end

-- The number of records of a generation that were lost with its end, if a process knew the record at
-- `id`. Those through `settled`, if it is of the same generation, are settled.
local function lost_end(it, id, settled)
  local ms, n = parts(id)
  local settled_ms, settled_n = parts(settled)
  local unsettled = settled_ms == ms and n - settled_n or n + 1
  local found = dense_number(it.generations, id)
  if found then
    return math.max(0, math.min(unsettled, found - (number_at_next(it.generations, ms) or it.all)))
  end
  return unsettled > 0 and is_unknown(it, id) and unsettled or 0
end

-- How many of the records after the position `at` are not in the stream; nil if that takes too long to
-- count.
local function missing_after(it, at, number, is_patient)
  local info, look = it.info, it.look
  local expected = number and it.all - number
  if not expected or not info or info.length == 0 or not later(info.last, at) then
    return expected
  end
  if later(info.first, at) then
    return math.max(0, expected - info.length)
  end
  if it.others == '0' then
    return 0
  end
  local known = tonumber(look.missing or nil)
  if known and look.others == it.others and (known == 0 and not later(look.at, at) or at == look.at) then
    return known
  end
  local found = is_patient and count(it.stream, '(' .. at, '+') or count_after(it.stream, at)
  return found and math.max(0, expected - found)
end

-- Figures of a stream and a group, without a write. `settled` is the position that the process knows;
-- `known` has the last record that it knows of each generation, and its last position there.
--   all      the number of records ever appended
--   at, number   the position, and the number of records through it (nil: unknown)
--   missing  the number of records after it that are not in the stream (nil: unknown)
--   unread   the number of records after it that are (nil: unknown)
--   new      how many records were lost since the last look
--   ends     by generation, how many records it lost at its end
local function figures(stream, accounts, name, settled, known)
  local it = {stream = stream, info = stream_info(stream), generations = generations_read(stream),
    look = fields_of(redis.call('HGETALL', accounts)), new = 0, ends = {}}
  local info, look = it.info, it.look
  if not info and redis.call('EXISTS', stream) == 1 then
    return nil
  end
  it.all = end_of(it.generations, info)
  for i = 1, info and 0 or #known, 2 do
    it.all = math.max(it.all, dense_number(it.generations, known[i]) or 0)
  end
  if info then
    local trims = redis.call('GET', '{' .. stream .. '}:trimmed')
    it.others = digits(info.added - info.length - (trims and string.match(trims, ' (%d+)$') or 0))
  end
  local is_first = not look.at and (settled == '' or not info)
  it.at = look.at or settled
  if is_first then
    local group = group_info(stream, name)
    it.at = group and group.position or '0-0'
  end
  local number = tonumber(look.number or nil)
  if info and later(it.at, info.last) and not dense_number(it.generations, it.at) then
    -- The position is in a stream that was deleted, or in a generation that was lost: it says nothing
    -- of the records that are there now.
    it.at = '0-0'
  elseif it.at ~= look.at or not number then
    number = number_through(it, it.at, look.at, number)
  end
  it.number = number or nil
  it.missing = missing_after(it, it.at, it.number)
  if it.missing then
    it.unread = it.all - it.number - it.missing
    if not is_first then
      it.new = math.max(0, it.missing - (look.missing or 0))
    end
  elseif it.number and look.missing then
    it.unread = math.max(0, it.all - it.number - look.missing)
  end
  for i = 1, info and #known or 0, 2 do
    local id, ms = known[i], parts(known[i])
    local lost = math.min(lost_end(it, id, known[i + 1]), lost_end(it, id, it.at))
    if lost > math.max(tonumber(look['end:' .. ms] or 0), it.ends[ms] or 0) then
      it.ends[ms] = lost
    end
  end
  return it
end

-- The total of lost records, and how many of those were appended again.
local function totals(it)
  local lost, again = (it.look.lost or 0) + it.new, 0
  for field, count in pairs(it.look) do
    local ms = string.match(field, '^end:(%d+)$')
    if ms and not it.ends[ms] then
      lost, again = lost + count, again + math.min(count, it.look['again:' .. ms] or 0)
    end
  end
  for ms, count in pairs(it.ends) do
    lost, again = lost + count, again + math.min(count, it.look['again:' .. ms] or 0)
  end
  return lost, again
end

-- From now on, a record up to the last one that is not in the stream does not count as settled.
local function doubt(it, accounts)
  local id = it.info and it.info.last or (it.generations.newest or '0') .. '-' .. LARGEST
  if not (it.look.doubt and later(it.look.doubt, id)) then
    redis.call('HSET', accounts, 'doubt', id)
  end
end

-- Counts what is newly missing after the position.
local function count_missing(it, accounts, missing)
  it.new = math.max(0, missing - (it.look.missing or 0))
  if it.new > 0 then
    redis.call('HSET', accounts, 'lost', digits((it.look.lost or 0) + it.new), 'lost_at', digits(now_ms()))
    doubt(it, accounts)
  end
end

local function keep(it, accounts)
  redis.call('HSET', accounts, 'at', it.at)
  if it.number then
    redis.call('HSET', accounts, 'number', digits(it.number))
  else
    redis.call('HDEL', accounts, 'number')
  end
  if it.missing then
    redis.call('HSET', accounts, 'missing', digits(it.missing), 'others', it.others or '')
  end
end

-- Counts the records lost since the last look, and keeps the figures.
local function look_now(stream, accounts, name, settled, known)
  local it = figures(stream, accounts, name, settled, known)
  if not it then
    error('WRONGTYPE ' .. stream .. ' is a ' .. redis.call('TYPE', stream).ok, 0)
  end
  if not it.info and not it.look.at then
    return it -- the log may have been removed
  end
  if not it.look.at then
    doubt(it, accounts)
  end
  if it.new > 0 then
    count_missing(it, accounts, it.missing)
  end
  for ms, lost in pairs(it.ends) do
    redis.call('HSET', accounts, 'end:' .. ms, digits(lost), 'lost_at', digits(now_ms()))
    doubt(it, accounts)
    if larger(ms, it.generations.newest or '0') then
      redis.call('HSET', generations_of(stream), 'newest', ms) -- later ones sort after it
      end_generation(stream)
    end
  end
  keep(it, accounts)
  if it.info then
    note_end(stream, it.generations, it.info)
  else
    redis.call('HSET', generations_of(stream), 'end', digits(it.all))
  end
  return it
end

-- Make the group show the position. Make it again if it is gone.
local function set_group(it, name)
  local group, read = group_info(it.stream, name), it.unread and it.info.added - it.unread
  if group and group.position == it.at and (not read or group.read == read) then
    return
  end
  local command = {'XGROUP', group and 'SETID' or 'CREATE', it.stream, name, it.at}
  if read and read >= 0 then
    command[6], command[7] = 'ENTRIESREAD', digits(read)
  end
  redis.call(unpack(command))
end

-- KEYS stream, accounts, generations; ARGV group. Makes the stream and the group if they are missing.
local function open(keys, args)
  local stream, accounts, name = keys[1], keys[2], args[1]
  local it = look_now(stream, accounts, name, '', {})
  if not it.info then
    redis.call('XGROUP', 'CREATE', stream, name, '0', 'MKSTREAM')
    end_generation(stream)
    it = look_now(stream, accounts, name, '', {})
  end
  set_group(it, name)
  return 1
end

-- KEYS stream, accounts, generations; ARGV group, and what a process knows: its position, and for each
-- generation the last record and the last position. Counts what went missing. Records after the last published position are so counted
-- even if the stream is deleted before the next publication.
local function look(keys, args)
  look_now(keys[1], keys[2], args[1], args[2], {unpack(args, 3)})
  return 1
end

-- KEYS and ARGV as those of `look`. Returns:
--   the number of unread records (-1: unknown)
--   the time of the append of the oldest of them, in ms; empty if there is none
--   the position
--   the last id ever appended
--   the number of lost records
--   how many of the lost records were put back
--   when the number of lost records last rose, in ms; empty if it never did
--   1 if more may be lost, else 0
--   the server's time in ms
--   the number of records ever appended
--   1 if a call of `look` has something to count, else 0
-- It writes nothing, so it also works on a full or read-only server.
local function inspect(keys, args)
  local it = figures(keys[1], keys[2], args[1], args[2], {unpack(args, 3)})
  local now = digits(now_ms())
  if not it then
    return {-1, '', '0-0', '', 0, 0, '', 0, now, 0, 0} -- the key is no stream
  end
  local lost, again = totals(it)
  local has_new = it.new > 0 or next(it.ends) ~= nil
  local oldest = it.info and it.unread ~= 0
    and redis.call('XRANGE', it.stream, '(' .. it.at, '+', 'COUNT', 1)[1]
  return {it.info and it.unread or it.info and -1 or 0, oldest and digits(time_of(oldest)) or '', it.at,
    it.info and it.info.last or '', lost, again, has_new and now or it.look.lost_at or '',
    tonumber(it.look.uncounted or '0'), now, it.all, (has_new or it.unread ~= 0) and 1 or 0}
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
register('inspect', inspect, READS)
register('forget', forget, DRAINS)
