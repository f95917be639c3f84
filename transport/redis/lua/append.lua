-- Append: check for repeats, append, remember, in this order. A call that is cut off leaves records
-- that are not remembered, whose repeats the row recognises. It never leaves a memory without its
-- record, which would be a loss.
--
-- KEYS the two memories (below); the stream of each record; in a cluster also the accounts and the
-- generations, so that a server that has only some of the slot's keys refuses the call before it begins.
-- ARGV seconds to remember (0: don't); the five field names of nearly every record; the value of the
-- fifth; the name of the sixth field, of traced records; the group; the number of the database, since
-- streams of several databases may have one name; the number of records;
-- the message ids of all records; then for each record its memo, its shape, and the values of that
-- shape:
--   ''       key, body, correlation id
--   't'      those of '', and the value of the sixth field
--   '+<n>'   those of '', and n more values: names and values of further fields (copies have them)
--   '<n>'    n values: names and values of all fields
-- The shapes save a third of the arguments, each of which costs both sides at every step.
-- The records of one call may be of several streams; not in a cluster, where these have other slots.
local FIRST_ID = 12
local PLUS = 43 -- '+'

-- The memories are two hashes that take turns. Each is written for as long as a record is remembered,
-- and then only read for as long again; its time to live says which. So no record has a key, or a
-- time, of its own: one command remembers all records of a call, and one forgets all records of a
-- turn. The field `seconds` keeps that length, so that a hash is not written for longer after the
-- server's clock was set back.
local function time_left(call, memory, longest)
  local left = call('PTTL', memory)
  if left <= longest then
    return left
  end
  local seconds = tonumber(call('HGET', memory, 'seconds') or 0)
  if seconds > 0 and left > seconds * 3000 then
    left = seconds * 3000
    call('PEXPIRE', memory, left)
  end
  return left
end

local function being_written(call, memories, seconds)
  local fresh = seconds * 2000
  local one = time_left(call, memories[1], seconds * 3000)
  local other = one <= fresh and time_left(call, memories[2], seconds * 3000)
  if one > fresh or other > fresh then
    return one > fresh and memories[1] or memories[2]
  end
  local older = one < other and memories[1] or memories[2]
  call('UNLINK', older)
  return older, true
end

local function remember(call, memories, seconds, memos)
  local memory, is_new = being_written(call, memories, seconds)
  call('HSET', memory, unpack(memos))
  if is_new then
    -- The hash is unlinked after two thirds of this time, or expires if nothing more is appended.
    call('EXPIRE', memory, seconds * 3)
    call('HSET', memory, 'seconds', seconds)
  end
end

-- The facts about a stream that decide whether a record that left it was settled: the published
-- position, the id up to which there is `doubt`, and whether the log is `whole` (nothing left it
-- unread). They are found once in a call, since counting unread records may mean reading them.
-- (Without a cluster, accounts and generations are keys that the caller does not declare.)
local function facts_of(facts, stream, name)
  local known = facts[stream]
  if not known then
    local it = figures(stream, '{' .. stream .. '}:accounts:' .. name, name, '', {})
    known = it and {at = it.at, doubt = it.look.doubt, whole = it.info and it.missing and it.new == 0}
      or {}
    facts[stream] = known
  end
  return known
end

-- Whether the record at `offset` is in the log, or left it after the position of the group `name` had
-- passed it. A repeat of any other record is appended, since there may be no row. This runs only for
-- repeats, so new records don't pay for it.
local function is_accounted_for(facts, stream, name, offset)
  if #redis.pcall('XRANGE', stream, offset, offset) > 0 then
    return true
  end
  local known = facts_of(facts, stream, name)
  return known.whole and not later(offset, known.at)
    and not (known.doubt and not later(offset, known.doubt))
end

-- The memo of a record, from one of the two memories, if a repeat may be answered with it; else nil.
local function answerable(facts, stream, group, one, other)
  for _, memo in ipairs({one or other, one and other}) do
    if memo and is_accounted_for(facts, stream, group, string.match(memo, '^%S+')) then
      return memo
    end
  end
  return nil
end

-- Returns for each record its new id, '=' and the memo of a repeat, or '!' and an error; and then the
-- time of the append, in ms.
local function append(keys, args)
  local call, clock = redis.pcall, redis.call('TIME')
  local time = clock[1] .. string.sub(clock[2] + 1000000, 2, 4)
  local seconds, key, body, message, correlation, kind, ours, parent, group, database, count =
    unpack(args, 1, FIRST_ID - 1)
  local is_remembered = seconds ~= '0'
  local streams = lives_in(database)
  count = tonumber(count)
  local at = FIRST_ID + count
  local one, other, memos_by_id, memos, out, facts = {}, {}, {}, {}, {}, {}
  if is_remembered then
    one = call('HMGET', keys[1], unpack(args, FIRST_ID, at - 1))
    other = call('HMGET', keys[2], unpack(args, FIRST_ID, at - 1))
  end
  for i = 1, count do
    local stream, id = keys[2 + i], args[FIRST_ID + i - 1]
    local memo, shape, first = args[at], args[at + 1], at + 2
    local known = memos_by_id[id]
    if not known and (one[i] or other[i]) then
      known = answerable(facts, stream, group, one[i], other[i])
      if not known then
        call('HDEL', keys[1], id)
        call('HDEL', keys[2], id)
      end
    end
    local offset
    local has_more = false
    if shape == '' then
      at = first + 3
    elseif shape == 't' then
      at = first + 4
    elseif string.byte(shape) == PLUS then
      has_more = true
      at = first + 3 + tonumber(string.sub(shape, 2))
    else
      at = first + tonumber(shape)
    end
    if known then
      out[i] = '=' .. known
    else
      local log, again = streams[stream] or {}, false
      repeat
        local n, before = log.n, again
        again = false
        if n then
          -- Only the first id of a call is given in full: the others follow it.
          local own = (log.call == facts or log.is_highest) and log.next or log.ms .. '-' .. n + 1
          if shape == '' then
            offset = call('XADD', stream, 'NOMKSTREAM', own, APPENDED_AT, time, key, args[first],
              body, args[first + 1], message, id, correlation, args[first + 2], kind, ours)
          elseif shape == 't' then
            offset = call('XADD', stream, 'NOMKSTREAM', own, APPENDED_AT, time, key, args[first],
              body, args[first + 1], message, id, correlation, args[first + 2], kind, ours,
              parent, args[first + 3])
          elseif has_more then
            offset = call('XADD', stream, 'NOMKSTREAM', own, APPENDED_AT, time, key, args[first],
              body, args[first + 1], message, id, correlation, args[first + 2], kind, ours,
              unpack(args, first + 3, at - 1))
          else
            offset = call('XADD', stream, 'NOMKSTREAM', own, APPENDED_AT, time,
              unpack(args, first, at - 1))
          end
        end
        if n and offset and not offset.err then -- the methods of a text have no such name
          log.n, log.call = n + 1, facts
        elseif not before and not (n and offset and not is_stale(offset)) then
          offset = begin_in(streams, stream, group)
          log, again = streams[stream], not offset
        end
      until not again
      if not offset or offset.err then
        out[i] = '!' .. text_of(offset or {err = 'ERR the stream is missing'}, {stream})
      else
        out[i] = offset
        if is_remembered then
          memo = offset .. ' ' .. memo
          memos[#memos + 1] = id
          memos[#memos + 1] = memo
          memos_by_id[id] = memo -- for another record of the same id in this call
        end
      end
    end
  end
  if #memos > 0 then
    remember(call, keys, seconds, memos)
  end
  out[count + 1] = time
  return out
end

-- KEYS as those of `append`; ARGV group, message ids. Returns the memo of each, or nothing.
local function recall(keys, args)
  local group, out, facts = args[1], {}, {}
  local one = redis.call('HMGET', keys[1], unpack(args, 2))
  local other = redis.call('HMGET', keys[2], unpack(args, 2))
  for i = 1, #args - 1 do
    local known = (one[i] or other[i])
      and answerable(facts, keys[2 + i], group, one[i], other[i])
    out[i] = known or false
  end
  return out
end

-- KEYS a key of its own; ARGV ms to live. A write that a full server takes as well, and that goes before
-- WAIT: the answer to a repeat writes nothing.
local function mark(keys, args)
  redis.call('SET', keys[1], '1', 'PX', args[1])
  return 1
end

register('append', append, {})
-- Dead letters are appended even on a full server. Otherwise their partition could not go on, and only
-- that makes room.
register('set_aside', append, DRAINS)
register('mark', mark, DRAINS)
register('recall', recall, READS)
