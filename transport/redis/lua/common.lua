-- What every function of the library needs. functions.py joins these files, in the order it names,
-- and puts the library's header and PREFIX (a digest of their text) in front, so that processes of
-- two releases can share a server.
--
-- One call touches one partition (only `append` may touch several): its keys carry the stream's name
-- as their hash tag, so they share a slot in a cluster. Nothing here blocks. Scripts do not roll
-- back, so every function does its writes in the order that leaves a harmless state wherever it is
-- cut off.

local BATCH = 1000 -- Lua's stack bounds how many values unpack() can pass on

local LAST_SEQUENCE = '9007199254740991' -- that a Lua number can tell from its neighbours

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

-- Compared as text: an id has two numbers up to 2^64, and Lua's are exact up to 2^53 only.
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

local function fenced()
  return redis.error_reply('FENCED this epoch does not own the partition')
end

local function owns(lease, epoch)
  return redis.call('HGET', lease, 'epoch') == epoch
end

-- The member that holds a lease, or an empty string. No lease ends further ahead than it is long,
-- but for a clock that was set back. NTP sets clocks back by milliseconds all the time: that much
-- makes no owner look dead.
local STEPPED_MS = 1000

local function owner_now(lease, now)
  local owner, until_ms, length = unpack(redis.call('HMGET', lease, 'owner', 'until', 'length'))
  local left = owner and until_ms - now or 0
  return left > 0 and left <= tonumber(length or left) + STEPPED_MS and owner or ''
end

-- A full server refuses what has no such flag before it begins. Only appending is refused: workers
-- must be able to read and acknowledge, which is what makes room.
local DRAINS = {'allow-oom'}
local READS = {'no-writes'}

local function register(name, callback, flags)
  redis.register_function{function_name = PREFIX .. name, callback = callback, flags = flags}
end
