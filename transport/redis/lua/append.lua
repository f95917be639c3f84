-- KEYS the two memories (below), then each record's stream, then in a cluster the lease, so that a
-- server that has only a part of the slot's keys refuses the call before it begins; ARGV seconds to
-- remember (0: not), the five field names of nearly every record, the value of the last, the name of a
-- traced one's sixth, the group that works on the records, and their number; then the ids of all; then per record what to remember of
-- it, its shape and its values: '' and key, body and correlation id, 't' and with them the sixth's,
-- '+' with the number of values behind those of '' (a copy's, with their names) and all of them, or how
-- many fields follow and the fields. (A third fewer arguments: each costs both sides at every
-- step.)
-- The records of one call may be of several streams (never in a cluster: other slots).
-- Check, append, remember, in this order: cut off in the middle it leaves records that are not
-- remembered (the row settles that), never a memory without its record (which would be a loss).
local FIRST_ID = 11
local PLUS = 43 -- '+'

-- What is remembered is in two hashes that take turns. Each is written for as long as a record is to
-- be remembered, and read for as long again; its time to live says how far it is. So no record has
-- a key, or a time, of its own: one command remembers a call's records, and one forgets a turn's.
-- Its field `seconds` says for how long that was to be, so that a server's clock that is set back
-- does not have it written to for as much longer.
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
  local one = time_left(call, memories[1], seconds * 3000)
  local other = time_left(call, memories[2], seconds * 3000)
  local fresh = seconds * 2000
  if one > fresh or other > fresh then
    return one > other and memories[1] or memories[2]
  end
  local older = one < other and memories[1] or memories[2]
  call('UNLINK', older)
  return older, true
end

local function remember(call, memories, seconds, memos)
  local memory, is_new = being_written(call, memories, seconds)
  call('HSET', memory, unpack(memos))
  if is_new then
    -- Unlinked after two thirds of this, unless nothing is appended any more.
    call('EXPIRE', memory, seconds * 3)
    call('HSET', memory, 'seconds', seconds)
  end
end

-- What is to be known of a stream to tell whether a record that left it is a row: the group, up to
-- which id there is `doubt`, and whether the log is `whole`, so that nothing left it unread. Found once
-- in a call: to count what is unread may take reading it. (Where the log is on one server, the lease is
-- a key that the caller does not declare.)
local function account_of(accounts, stream, name)
  local account = accounts[stream]
  if not account then
    local info, group = stream_info(stream), group_info(stream, name)
    local lease = '{' .. stream .. '}:lease:' .. name
    account = {group = group, doubt = redis.call('HGET', lease, 'doubt') or nil}
    local left = group and undelivered(stream, info, group, lease)
    account.whole = left and not is_another(lease, info)
      and lost_since(lease, info, left + group.pending) == 0
    accounts[stream] = account
  end
  return account
end

-- Whether the record at `offset` is in the log, or left it after `name` acknowledged it. Only such a
-- record may be answered for: of any other it is not known that there is a row. Asked for repeats
-- only, so it costs nothing for what is new.
local function is_accounted_for(accounts, stream, name, offset)
  if #redis.pcall('XRANGE', stream, offset, offset) > 0 then
    return true
  end
  local account = account_of(accounts, stream, name)
  local group, doubt = account.group, account.doubt
  return account.whole and not later(offset, group.position)
    and not (doubt and not later(offset, doubt))
    and #redis.call('XPENDING', stream, name, offset, offset, 1) == 0
end

-- What is remembered of a record, from what the two memories have, where it may be answered.
local function answerable(accounts, stream, group, one, other)
  for _, memo in ipairs({one or other, one and other}) do
    if memo and is_accounted_for(accounts, stream, group, string.match(memo, '^%S+')) then
      return memo
    end
  end
  return nil
end

-- The id of the last record that `append_after` added to each stream, by database. `last_of` asks for
-- what stands after it, which is mostly nothing: to hand Lua a record costs the server three times as
-- much. Any id would do there, so a server may forget these, or have some of a log that is gone.
local last_added = {}

-- The id of the last record of the stream, or `known` where no record is after it.
local function last_of(stream, known)
  local last = redis.pcall('XREVRANGE', stream, '+', '(' .. known, 'COUNT', 1)
  return last[1] and last[1][1] or known
end

-- `added`, if any, has an id for each stream. Then the answer for the first record that is appended to
-- each says after which id it is the next one ('before<id').
local function append(keys, args, added)
  local call = redis.pcall
  local seconds, key, body, message, correlation, kind, ours, parent, group, count =
    unpack(args, 1, FIRST_ID - 1)
  local is_remembered = seconds ~= '0'
  count = tonumber(count)
  local at = FIRST_ID + count
  local one, other, memos_by_id, memos, out, accounts, begun = {}, {}, {}, {}, {}, {}, {}
  if is_remembered then
    one = call('HMGET', keys[1], unpack(args, FIRST_ID, at - 1))
    other = call('HMGET', keys[2], unpack(args, FIRST_ID, at - 1))
  end
  for i = 1, count do
    local stream, id = keys[2 + i], args[FIRST_ID + i - 1]
    local memo, shape, first = args[at], args[at + 1], at + 2
    local known = memos_by_id[id]
    if not known and (one[i] or other[i]) then
      known = answerable(accounts, stream, group, one[i], other[i])
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
      local before = added and not begun[stream] and last_of(stream, added[stream] or '0-0')
      if shape == '' then
        offset = call('XADD', stream, '*', key, args[first], body, args[first + 1],
          message, id, correlation, args[first + 2], kind, ours)
      elseif shape == 't' then
        offset = call('XADD', stream, '*', key, args[first], body, args[first + 1],
          message, id, correlation, args[first + 2], kind, ours, parent, args[first + 3])
      elseif has_more then
        offset = call('XADD', stream, '*', key, args[first], body, args[first + 1],
          message, id, correlation, args[first + 2], kind, ours, unpack(args, first + 3, at - 1))
      else
        offset = call('XADD', stream, '*', unpack(args, first, at - 1))
      end
      if type(offset) == 'table' then
        out[i] = '!' .. offset.err
      else
        out[i] = offset
        if added then
          added[stream] = offset
          if before then
            out[i] = before .. '<' .. offset
            begun[stream] = true
          end
        end
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
  return out
end

-- KEYS as those of `append`; ARGV the group and the ids. Returns what is
-- remembered of each, or nothing.
local function recall(keys, args)
  local group, out, accounts = args[1], {}, {}
  local one = redis.call('HMGET', keys[1], unpack(args, 2))
  local other = redis.call('HMGET', keys[2], unpack(args, 2))
  for i = 1, #args - 1 do
    local known = (one[i] or other[i])
      and answerable(accounts, keys[2 + i], group, one[i], other[i])
    out[i] = known or false
  end
  return out
end

-- The same, for a process that works on some of the streams: it may go on without reading where
-- nothing came in between. The last of ARGV is the database: streams of others have the same names.
local function append_after(keys, args)
  local database = args[#args]
  last_added[database] = last_added[database] or {}
  return append(keys, args, last_added[database])
end

register('append', append, {})
register('append_after', append_after, {})
-- Dead letters are appended on a full server too: the partition that has one could otherwise not go
-- on, and going on is what makes room.
register('set_aside', append, DRAINS)
register('recall', recall, READS)
