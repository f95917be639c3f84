-- KEYS per record its stream and the key under which it is to be remembered; ARGV seconds to
-- remember (0: not), then per record what to remember of it, how many fields follow, and the
-- fields. The records of one call may be of several streams (never in a cluster: other slots).
-- Check, append, remember, in this order: cut off in the middle it leaves a record that is not
-- remembered (the row settles that), never a memory without its record (which would be a loss).
local function append(keys, args)
  local seconds = args[1]
  local remember = seconds ~= '0'
  local out, at, i = {}, 2, 1
  while at < #args do
    local first = at + 2
    local last = at + 1 + tonumber(args[at + 1])
    local stream, memory = keys[2 * i - 1], keys[2 * i]
    local known = remember and redis.pcall('GET', memory)
    if type(known) == 'string' then
      out[i] = '=' .. known
    else
      local id = redis.pcall('XADD', stream, '*', unpack(args, first, last))
      if type(id) == 'table' then
        out[i] = '!' .. id.err
      else
        out[i] = id
        if remember then
          redis.pcall('SET', memory, id .. ' ' .. args[at], 'EX', seconds)
        end
      end
    end
    at = last + 1
    i = i + 1
  end
  return out
end

register('append', append, {})
