-- Helpers of all functions of the library. functions.py joins the files of this folder, in an order
-- that it names, and puts the library's header and PREFIX (a digest of their text) in front. So
-- processes of two releases can share a server.
--
-- One call touches one partition; `append`, `append_after` and `recall` may touch several, but not in
-- a cluster. A partition's keys have the stream's name as their hash tag, so they share a
-- slot. No function blocks. Functions do not roll back, so each does its writes in an order that
-- leaves a harmless state wherever it is cut off.

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

-- Compared as text: an id has two numbers below 2^64, and Lua's numbers are exact only up to 2^53.
local function larger(a, b)
  if #a ~= #b then
    return #a > #b
  end
  return a > b
end

local function later(a, b)
  local a_ms, a_seq = string.match(a, '^0*(%d+)-0*(%d+)')
  local b_ms, b_seq = string.match(b, '^0*(%d+)-0*(%d+)')
  if a_ms ~= b_ms then
    return larger(a_ms, b_ms)
  end
  return larger(a_seq, b_seq)
end

local LARGEST = '18446744073709551615' -- 2^64 - 1, of both numbers of an id

-- Each record that Crossfade appends begins with this field: the time of its append, in ms.
local APPENDED_AT = 'appendedAt'

local function plus_one(number)
  local head, digit, nines = string.match('0' .. number, '^(%d*)([0-8])(9*)$')
  local text = head .. (digit + 1) .. string.rep('0', #nines)
  return string.match(text, '^0*(%d+)$')
end

local function minus_one(number)
  local head, digit, zeros = string.match(number, '^(%d*)([1-9])(0*)$')
  local text = head .. (digit - 1) .. string.rep('9', #zeros)
  return string.match(text, '^0*(%d+)$')
end

local function parts(id)
  return string.match(id, '^(%d+)-(%d+)$')
end

local function id_before(id)
  local ms, sequence = parts(id)
  if string.match(sequence, '[1-9]') then
    return ms .. '-' .. minus_one(sequence)
  end
  return minus_one(ms) .. '-' .. LARGEST
end

-- The time of the append of an entry, in ms. A foreign entry has it in its id.
local function time_of(entry)
  local fields = entry[2]
  local ms = parts(entry[1])
  return fields[1] == APPENDED_AT and tonumber(fields[2]) or tonumber(ms)
end

-- A full server refuses functions without one of these flags. Only appends have none: positions must be
-- published and records trimmed on a full server, since that makes room.
local DRAINS = {'allow-oom'}
local READS = {'no-writes'}

-- The type of a side key, by the word after its hash tag. Every other key is a stream, or is only set.
local TYPES = {accounts = 'hash', generations = 'hash', memory = 'hash', rescues = 'zset',
  trimmed = 'string', stream = 'stream'}

local function name_if_alien(key)
  local kind = redis.call('TYPE', key).ok
  local wanted = TYPES[string.match(key, '^{.*}:(%a+)') or 'stream']
  if wanted and kind ~= wanted and kind ~= 'none' then
    return 'WRONGTYPE ' .. key .. ' is a ' .. kind
  end
end

-- The text of an error. If it says that some key is of another type, the text names the key:
-- somebody who has to guess may delete a stream with all its records instead.
local function text_of(reason, keys)
  local text = type(reason) == 'table' and reason.err or tostring(reason)
  if not string.find(text, 'WRONGTYPE', 1, true) then
    return text
  end
  for _, key in ipairs(keys) do
    local is_stream = string.sub(key, 1, 1) ~= '{'
    local alien = name_if_alien(key)
      or is_stream and (name_if_alien('{' .. key .. '}:trimmed')
        or name_if_alien('{' .. key .. '}:generations'))
    if alien then
      return alien
    end
  end
  return text
end

local function register(name, callback, flags)
  local function told(keys, args)
    local is_done, answer = pcall(callback, keys, args)
    local reason = not is_done and answer or type(answer) == 'table' and answer.err
    if reason then
      local text = text_of(reason, keys)
      if string.find(text, '^WRONGTYPE') then
        return redis.error_reply(text)
      end
    end
    if not is_done then
      error(answer, 0)
    end
    return answer
  end
  redis.register_function{function_name = PREFIX .. name, callback = told, flags = flags}
end
