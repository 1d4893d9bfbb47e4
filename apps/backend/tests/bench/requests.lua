-- What wrk sends, and what it tells at its end as one line of JSON.
--
--   PATH                 GET of the same address again and again; {id} in it is drawn out of the range, where one is given
--   activate FIRST LAST  POST /api/esims/activate, one order after the other; none twice
--   once FIRST LAST      the same, and it ends with the last answer instead of the time
--
-- The secret of the key comes from the environment.

local kind, next_id, last_id, path, answered
local answers_wanted = nil

function init(args)
  wrk.headers["Authorization"] = "Bearer " .. (os.getenv("BENCH_KEY") or "")
  if args[1] == "activate" or args[1] == "once" then
    kind = args[1]
    next_id, last_id = tonumber(args[2]), tonumber(args[3])
    wrk.method, wrk.path = "POST", "/api/esims/activate"
    wrk.headers["Content-Type"] = "application/json"
  else
    kind, path = "look", args[1]
    next_id, last_id = tonumber(args[2] or 0), tonumber(args[3] or 0)
  end
  math.randomseed(1)
  if kind == "once" then
    answered = 0
    response = function()
      answered = answered + 1
      if answered > last_id - first_id then wrk.thread:stop() end
    end
    first_id = next_id
  end
end

function request()
  if kind == "look" then
    if last_id == 0 then return wrk.format("GET", path) end
    return wrk.format("GET", (path:gsub("{id}", tostring(math.random(next_id, last_id)))))
  end
  local id = next_id
  next_id = id + 1
  if id > last_id then  -- none is left: this connection only waits for the others
    return wrk.format("GET", "/healthz")
  end
  return wrk.format("POST", nil, nil, '{"order_id":' .. id .. "}")
end

function delay()
  if kind == "once" and next_id > last_id then return 3600000 end
  return 0
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"us":%d,"p50_us":%d,"p99_us":%d,"max_us":%d,"not_ok":%d,"cut":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    e.status, e.connect + e.read + e.write + e.timeout))
end
