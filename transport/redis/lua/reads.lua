-- Reads, and questions about records.

-- KEYS stream, trimmed; ARGV id. Returns 1 if no record after the id was trimmed, 0 if one was or it is
-- unknown.
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

-- Whether records that were not there when the record at `id` was read may be before it: its generation
-- was lost, and the clock of the server that was promoted is behind.
local function is_before_new(it, id)
  local info = it.info
  return info and is_absent(it, id) and (later(id, info.last) or info.first and later(id, info.first))
end

-- KEYS stream, accounts, generations; ARGV id. Returns 1 if new records may be before it, else 0.
local function is_lost(keys, args)
  local it = figures(keys[1], keys[2], '', '', {})
  return it and is_before_new(it, args[1]) and 1 or 0
end

-- The id of the first record that was appended at `time` (in ms) or later; `last` if there is none
-- before it. It halves the ids in between, and uses that times mostly rise with them. Where ids are
-- too large for numbers it returns the first record of the stream.
local MOST_DIGITS = 15

local function first_since(stream, time, last)
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if not first or not later(last, first[1]) then
    return last
  end
  local low, high, found = first[1], last, last
  if time_of(first) >= time or #parts(low) > MOST_DIGITS or #parts(high) > MOST_DIGITS then
    return low
  end
  while true do
    local low_ms, low_n = parts(low)
    local high_ms, high_n = parts(high)
    local middle = low_ms .. '-' .. digits(math.floor((low_n + high_n) / 2))
    if high_ms ~= low_ms then
      middle = digits(math.ceil((low_ms + high_ms) / 2)) .. '-0'
    elseif middle == low then
      return found
    end
    local entry
    if middle ~= high then
      entry = redis.call('XRANGE', stream, middle, '(' .. high, 'COUNT', 1)[1]
    else
      entry = redis.call('XREVRANGE', stream, '(' .. high, '(' .. low, 'COUNT', 1)[1]
      if not entry or time_of(entry) < time then
        return found
      end
      middle = entry[1]
    end
    if entry and time_of(entry) < time then
      low = entry[1]
    else
      found = entry and entry[1] or found
      high = middle
    end
  end
end

-- KEYS stream; ARGV a time in ms. Returns the id of the first record that was appended then or later, or
-- an earlier one; nothing if the last record was appended before.
local function since(keys, args)
  local info = stream_info(keys[1])
  local found = info and first_since(keys[1], tonumber(args[1]), info.last)
  local entry = found and redis.call('XRANGE', keys[1], found, found)[1]
  return entry and (found ~= info.last or time_of(entry) >= tonumber(args[1])) and found or false
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

register('range', range, READS)
register('reaches', reaches, READS)
register('is_lost', is_lost, READS)
register('since', since, READS)
