-- KEYS per record its stream and the key under which it is to be remembered; ARGV seconds to
-- remember (0: not), the five field names of nearly every record and the value of the last, then
-- per record what to remember of it and either '' and the values of the first four, or how many
-- fields follow and the fields. (A third fewer arguments: each costs both sides at every step.)
-- The records of one call may be of several streams (never in a cluster: other slots).
-- Check, append, remember, in this order: cut off in the middle it leaves a record that is not
-- remembered (the row settles that), never a memory without its record (which would be a loss).
local function append(keys, args)
  local call = redis.pcall
  local seconds, key, body, message, correlation, kind, ours = unpack(args, 1, 7)
  local remember = seconds ~= '0'
  local memories, known, out = {}, {}, {}
  if remember then
    for i = 2, #keys, 2 do
      memories[i / 2] = keys[i]
    end
    known = call('MGET', unpack(memories))
  end
  local at, i = 8, 1
  while at < #args do
    local stream, memory = keys[2 * i - 1], keys[2 * i]
    local shape, last = args[at + 1], at + 5
    if shape ~= '' then
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
