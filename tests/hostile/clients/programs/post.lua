-- wrk: each thread posts messages with keys of its own and writes down the ids that it was given.
local started = 0

function setup(thread)
  started = started + 1
  thread:set("number", started)
end

function init(arguments)
  sent = 0
  ids = io.open(arguments[1] .. "/" .. number, "w")
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
end

function request()
  sent = sent + 1
  local body = '{"conversationId":"wrk-%d","senderId":"wrk","clientMessageId":"%d-%d",'
    .. '"content":"from wrk","contentType":"text"}'
  return wrk.format(nil, nil, nil, body:format(number, number, sent))
end

function response(status, headers, body)
  ids:write(status, " ", body:match('"messageId":"([^"]+)"') or "-", "\n")
  ids:flush()
end

function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    '{"requests":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}',
    summary.requests, errors.connect, errors.read, errors.write, errors.status, errors.timeout
  ))
end
