-- Published positions: those that PostgreSQL keeps, shown as a group's; and trimming below them.

-- The number of records that are counted ahead of a position, before those that it passed are. Mostly
-- few are ahead, however many it passed. (If `unread` is not certain, lost records hide in it: then they
-- must not count as passed.)
local NEAR = BATCH

-- Moves a position with `unread` records after it from `at` to `through`, or nearer to it if there are
-- too many records in between to count them in one call. Returns the new position, the number of
-- records after it, and whether it is that of `through`.
local function move(stream, last, at, through, unread, is_certain)
  local ahead = through == last and 0 or count_after(stream, through, NEAR)
  if ahead and is_certain then
    return through, ahead, true
  end
  if later(through, at) then
    local passed, reached = count(stream, 'XRANGE', '(' .. at, through, COUNTED_MOST)
    return reached or through, math.max(0, unread - passed), not reached
  end
  local passed, reached = count(stream, 'XREVRANGE', at, '(' .. through, COUNTED_MOST)
  if reached then
    return reached, unread + passed - 1, false
  end
  return through, unread + passed, true
end

-- Acknowledge what another program has read as a member of the group, through `at`.
local function settle_pending(stream, name, at)
  local ids
  repeat
    ids = {}
    for i, entry in ipairs(redis.call('XPENDING', stream, name, '-', at, BATCH)) do
      ids[i] = entry[1]
    end
    if #ids > 0 then
      redis.call('XACK', stream, name, unpack(ids))
    end
  until #ids < BATCH
end

-- KEYS stream, accounts, trimmed; ARGV group, the id through which every record is settled, and the five
-- arguments of back.lua. Makes the group show that position. Losses are counted first, with the figures
-- of the position before. A missing stream is not made: its log may have been removed. Returns nothing
-- then. A position whose record the stream lost changes nothing: it says nothing of the records that
-- came since. Returns:
--   1 if the call has to be repeated to reach the given position, else 0
--   how many records are after the new position (-1: unknown)
--   the number of records ever appended, and the id of the last
--   how many are lost if the log went back (-1: it did not)
local function show(keys, args)
  local stream, accounts, name, through = keys[1], keys[2], args[1], args[2]
  local lost = account_for(stream, accounts, {unpack(args, 3)})
  local info, at, before, is_certain = look_now(stream, accounts, name)
  if not info then
    return false
  end
  local unread, is_there = before, true
  if at ~= through and not is_lacking(stream, keys[3], through) then
    if before then
      at, unread, is_there = move(stream, info.last, at, through, before, is_certain)
      keep(accounts, info, at, unread)
    else
      at = through
      redis.call('HSET', accounts, 'at', at)
    end
  end
  set_group(stream, name, info, at, unread)
  settle_pending(stream, name, at)
  return {is_there and 0 or 1, unread or -1, info.added, info.last, lost or -1}
end

-- Records after which a call to trim ends. One XTRIM removes 100 times stream-node-max-entries at most,
-- which are as many by default.
local TRIMMED_ENOUGH = 10000

local function xtrim(stream, removed, ...)
  local more
  repeat
    more = removed < TRIMMED_ENOUGH and redis.call('XTRIM', stream, ...) or 0
    removed = removed + more
  until more == 0
  return removed
end

local function minus_one(number)
  local head, digit, zeros = string.match(number, '^(%d*)([1-9])(0*)$')
  local text = head .. (digit - 1) .. string.rep('9', #zeros)
  return string.match(text, '^0*(%d+)$')
end

local function id_before(id)
  local ms, sequence = string.match(id, '^(%d+)-(%d+)$')
  if string.match(sequence, '[1-9]') then
    return ms .. '-' .. minus_one(sequence)
  end
  return minus_one(ms) .. '-18446744073709551615'
end

-- KEYS stream, accounts, trimmed; ARGV group, seconds of retention, and the most settled records that
-- stay. Trims records that the published position and every other group have passed and that are past
-- either bound. Notes the id before the first record that stays, and how many were ever trimmed.
local function trim(keys, args)
  local stream, name, seconds, records = keys[1], unpack(args)
  local info, groups, look = stream_info(stream), redis.pcall('XINFO', 'GROUPS', stream), last_look(keys[2])
  if not info or not look.at then
    return 0
  end
  local limit = digits(now_ms() - seconds * 1000) .. '-0'
  if later(limit, look.at) then
    limit = look.at -- this record stays too, though it need not
  end
  local kept = look.added and records + look.unread + info.added - look.added
  for _, flat in ipairs(groups) do
    local other = fields_of(flat)
    local needed = other['last-delivered-id']
    if other.pending > 0 then
      needed = redis.call('XPENDING', stream, other.name)[2]
    end
    if other.name ~= name and later(look.at, needed) then -- another program may have moved our group
      if later(limit, needed) then
        limit = needed
      end
      local after, reached = count(stream, 'XRANGE', needed, '+', COUNTED_MOST)
      kept = kept and not reached and math.max(kept, after)
    end
  end
  local removed = xtrim(stream, 0, 'MINID', '~', limit)
  if kept then
    removed = xtrim(stream, removed, 'MAXLEN', '~', digits(kept))
  end
  if removed > 0 then
    local before = string.match(redis.call('GET', keys[3]) or '', ' (%d+)$') or 0
    local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    redis.call('SET', keys[3], (first and id_before(first[1]) or info.last) .. ' ' .. digits(before + removed))
  end
  return removed
end

register('show', show, DRAINS)
register('trim', trim, DRAINS)
