-- Reads, and questions about records.

-- Whether the record at `id` is that of `message`. In a log that went back (back.lua), there may be no
-- record at `id`, or another one.
local function is_of(stream, id, message)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  return entry and (fields_of(entry[2]).messageId or '') == message
end

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

-- Whether the record at an id is gone, and was not trimmed. If the stream lost it in a failover, a later
-- record may have been appended after lower ones that are new.
local function is_lacking(stream, trimmed, at)
  if at == '0-0' or #redis.call('XRANGE', stream, at, at) > 0 then
    return false
  end
  local info, gone = stream_info(stream), redis.call('GET', trimmed)
  local is_before_first = info and info.first and later(info.first, at)
  return not is_before_first and not (gone and not later(at, gone))
end

-- KEYS stream, trimmed; ARGV id. Returns 1 if the record at the id is gone, and was not trimmed, else 0.
local function lacks(keys, args)
  return is_lacking(keys[1], keys[2], args[1]) and 1 or 0
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
register('lacks', lacks, READS)
