-- Published positions: those that PostgreSQL keeps, shown as a group's; and trimming below them.

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

-- Moves the position to `through`. What is missing before it was lost unread, and is counted first.
local function move(it, accounts, through)
  local number = number_through(it, through, it.at, it.number)
  local missing = missing_after(it, through, number, true)
  if not it.missing and missing and it.number and later(through, it.at) then
    local between = count(it.stream, '(' .. it.at, through)
    if between then
      count_missing(it, accounts, number - it.number - between + missing)
    else
      redis.call('HSET', accounts, 'uncounted', 1)
    end
  end
  it.at, it.number, it.missing = through, number or nil, missing or nil
  it.unread = missing and it.all - number - missing
  keep(it, accounts)
end

-- KEYS stream, accounts, trimmed, generations; ARGV group, the id through which every record is
-- settled, and what the process knows of each generation, as in `look`. Makes the group show that position. Losses are
-- counted first, with the position before. A missing stream is not made: its log may have been removed.
-- Returns how many records are newly known to be lost at the end of a generation; nothing if there is
-- no stream.
local function show(keys, args)
  local stream, accounts, name, through = keys[1], keys[2], args[1], args[2]
  local it = look_now(stream, accounts, name, through, {unpack(args, 3)})
  if not it.info then
    return false
  end
  -- A position in a generation that was lost says nothing of new records.
  if it.at ~= through and not is_before_new(it, through) then
    move(it, accounts, through)
  end
  set_group(it, name)
  settle_pending(stream, name, it.at)
  local lost = 0
  for ms, count in pairs(it.ends) do
    lost = lost + count - (it.look['end:' .. ms] or 0)
  end
  return lost
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

-- KEYS stream, accounts, trimmed, generations; ARGV group, seconds of retention, and the most settled
-- records that stay. Trims records that the published position and every other group have passed and
-- that are past either bound. Notes the id before the first record that stays, and how many were ever
-- trimmed.
local function trim(keys, args)
  local stream, name, seconds, records = keys[1], unpack(args)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  local it = figures(stream, keys[2], name, '', {})
  if not it or not it.info or not it.look.at then
    return 0
  end
  local limit = first_since(stream, now_ms() - seconds * 1000, it.at) -- it stays, though it need not
  local kept = it.unread and records + it.unread
  for _, flat in ipairs(groups) do
    local other = fields_of(flat)
    local needed = other['last-delivered-id']
    if other.pending > 0 then
      needed = redis.call('XPENDING', stream, other.name)[2]
    end
    if other.name ~= name and later(it.at, needed) then -- another program may have moved our group
      if later(limit, needed) then
        limit = needed
      end
      local after = count(stream, needed, '+')
      kept = kept and after and math.max(kept, after)
    end
  end
  local removed = xtrim(stream, 0, 'MINID', '~', limit)
  if kept then
    removed = xtrim(stream, removed, 'MAXLEN', '~', digits(kept))
  end
  if removed > 0 then
    local before = string.match(redis.call('GET', keys[3]) or '', ' (%d+)$') or 0
    local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    forget_generations(it, first and first[1] or it.at)
    redis.call('SET', keys[3], (first and id_before(first[1]) or it.info.last) .. ' ' .. digits(before + removed))
  end
  return removed
end

register('show', show, DRAINS)
register('trim', trim, DRAINS)
