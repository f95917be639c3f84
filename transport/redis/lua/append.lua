-- KEYS per record its stream and the key under which it is to be remembered; ARGV seconds to
-- remember (0: not), the five field names of nearly every record, the value of the last, and the
-- name of a traced one's sixth; then per record what to remember of it, its shape and its values:
-- '' and those of the first four fields, 't' and with them the sixth's, or how many fields follow
-- and the fields. (A third fewer arguments: each costs both sides at every step.)
-- The records of one call may be of several streams (never in a cluster: other slots).
-- Check, append, remember, in this order: cut off in the middle it leaves a record that is not
-- remembered (the row settles that), never a memory without its record (which would be a loss).
local function append(keys, args)
  local call = redis.pcall
  local seconds, key, body, message, correlation, kind, ours, parent = unpack(args, 1, 8)
  local remember = seconds ~= '0'
  local memories, known, out = {}, {}, {}
  if remember then
    for i = 2, #keys, 2 do
      memories[i / 2] = keys[i]
    end
    known = call('MGET', unpack(memories))
  end
  local at, i = 9, 1
  while at < #args do
    local stream, memory = keys[2 * i - 1], keys[2 * i]
    local shape, last = args[at + 1], at + 5
    if shape == 't' then
      last = at + 6
    elseif shape ~= '' then
      last = at + 1 + tonumber(shape)
    end
    local before = known[i] or known[memory]
    if before then
      out[i] = '=' .. before
    else
      local id
      if shape == '' then
        id = call('XADD', stream, '*', key, args[at + 2], body, args[at + 3],
          message, args[at + 4], correlation, args[at + 5], kind, ours)
      elseif shape == 't' then
        id = call('XADD', stream, '*', key, args[at + 2], body, args[at + 3],
          message, args[at + 4], correlation, args[at + 5], kind, ours, parent, args[last])
      else
        id = call('XADD', stream, '*', unpack(args, at + 2, last))
      end
      if type(id) == 'table' then
        out[i] = '!' .. id.err
      else
        out[i] = id
        if remember then
          local memo = id .. ' ' .. args[at]
          call('SET', memory, memo, 'EX', seconds)
          known[memory] = memo -- for another record of the same id in this call
        end
      end
    end
    at = last + 1
    i = i + 1
  end
  return out
end

register('append', append, {})
