-- The ids of a stream's records: `<generation>-<n>`. Within a generation n is dense, so records are
-- counted by subtraction. A generation begins with the first append to a stream in the life of each
-- server, since a server that was restarted or promoted may have lost the end of the stream; and after
-- each record that another program added. So no id is ever used twice.
--
-- The hash {<stream>}:generations:
--   <generation>  the number of records that were appended to the stream before it. Of those that follow
--                 records of other programs, one in a thousand records is kept, and the newest
--   newest        the newest generation
--   mark          the newest one that is kept
--   life          the replication id of the server that began it
--   end           the number of records ever appended, at the last look
--   shift         the part of this number that Redis does not count, since the stream was deleted

local function generations_of(stream)
  return '{' .. stream .. '}:generations'
end

-- The answer to XINFO, or nil if there is no such key. Other errors are raised, like that of a missing
-- right; a key of another type is no stream.
local function xinfo(kind, stream)
  local reply = redis.pcall('XINFO', kind, stream)
  if not reply.err then
    return reply
  end
  if string.find(reply.err, 'no such key', 1, true) or string.find(reply.err, 'WRONGTYPE', 1, true) then
    return nil
  end
  redis.call('XINFO', kind, stream)
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
    first = info['first-entry'] and info['first-entry'][1] or nil,
  }
end

local function generations_read(stream)
  return fields_of(redis.call('HGETALL', generations_of(stream)))
end

-- The number of the record at an id, counted from 1 over all generations; nil for a foreign record.
local function dense_number(generations, id)
  local ms, n = parts(id)
  local before = generations[ms]
  return before and before + n + 1
end

-- The number of records ever appended. The stream was deleted, and made again by another program, if
-- Redis counts fewer than there were.
local function end_of(generations, info)
  local known = tonumber(generations['end'] or 0)
  local found = info and dense_number(generations, info.last)
  if found or not info then
    return found or known
  end
  found = info.added + (generations.shift or 0)
  return found < known and known + info.added or found
end

-- The number of records before the generation that follows that of `ms`, and that generation; nil if it
-- is the newest.
local function number_at_next(generations, ms)
  local next_ms
  for it in pairs(generations) do
    if string.find(it, '^%d+$') and larger(it, ms) and not (next_ms and larger(it, next_ms)) then
      next_ms = it
    end
  end
  return next_ms and tonumber(generations[next_ms]), next_ms
end

local function note_end(stream, generations, info)
  local count = end_of(generations, info)
  local shift = digits(count - (info and info.added or 0))
  if generations['end'] ~= digits(count) or (generations.shift or '0') ~= shift then
    redis.call('HSET', generations_of(stream), 'end', digits(count), 'shift', shift)
  end
  return count
end

-- Forget generations that ended before `id`, but not the latest of these: they show which records were
-- lost with their end.
local KEPT_GENERATIONS = 100

local function forget_generations(it, id)
  local old = {}
  for ms in pairs(it.generations) do
    old[#old + 1] = string.find(ms, '^%d+$') and larger(parts(id), ms) and ms or nil
  end
  table.sort(old, function(a, b) return larger(b, a) end)
  if #old > KEPT_GENERATIONS then
    redis.call('HDEL', generations_of(it.stream), unpack(old, 1, math.min(#old - KEPT_GENERATIONS, BATCH)))
  end
end

-- The replication id, which changes when the server is restarted or promoted; '' if the user may not
-- ask for it.
local function life_of_server()
  local told = redis.pcall('INFO', 'replication')
  return type(told) == 'string' and string.match(told, 'master_replid:(%x+)') or ''
end

-- By database and stream: the newest generation, and the n of its last record (nil: it is over). A server
-- that was restarted or promoted, or has loaded this library again, has none.
local lives = {}

-- Begins a generation. If another library of Crossfade (of another release, or before it was loaded
-- again) began the newest one in this server's life, that one is continued.
local function begin(stream, group, known)
  local info, generations = stream_info(stream), generations_read(stream)
  local last_ms, last_n = parts(info and info.last or '0-0')
  local newest, life = generations.newest or '0', life_of_server()
  if life ~= '' and life == generations.life and last_ms == newest then
    return {ms = newest, n = tonumber(last_n), next = newest .. '-*'}
  end
  if last_ms == LARGEST then
    return {ms = LARGEST, n = 0, next = LARGEST .. '-*', is_highest = true}
  end
  local ms = digits(now_ms())
  for _, other in ipairs({last_ms, newest, known and known.ms or '0'}) do
    if other ~= LARGEST and not larger(ms, other) then
      ms = plus_one(other)
    end
  end
  if not info then
    redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
  end
  local before, mark = note_end(stream, generations, info), generations.mark
  if life ~= generations.life or not (mark and generations[newest]) then
    mark = ms
  elseif generations[newest] - generations[mark] >= BATCH then
    mark = newest
  elseif newest ~= mark then
    redis.call('HDEL', generations_of(stream), newest)
  end
  redis.call('HSET', generations_of(stream), ms, digits(before), 'newest', ms, 'life', life, 'mark', mark)
  return {ms = ms, n = -1, next = ms .. '-*'}
end

-- Another generation begins with the next append: the stream was made again.
local function end_generation(stream)
  for _, streams in pairs(lives) do
    if streams[stream] then
      streams[stream].n = nil
    end
  end
end

-- The streams of a database, and their newest generations.
local function lives_in(database)
  local streams = lives[database]
  if not streams then
    streams = {}
    lives[database] = streams
  end
  return streams
end

-- Whether an XADD failed for its id: the stream is missing, or has an id that is as high.
local function is_stale(reply)
  return not reply or reply.err and string.find(reply.err, 'equal or smaller', 1, true)
end

-- `begin`, with the generation among those of its database. Returns an error, or nothing.
local function begin_in(streams, stream, group)
  local is_begun, found = pcall(begin, stream, group, streams[stream])
  if not is_begun then
    return type(found) == 'table' and found or {err = tostring(found)}
  end
  streams[stream] = found
end
