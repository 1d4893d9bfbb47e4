-- What wrk sends, and what it tells at its end as one line of JSON.
--
--   PATH [FIRST LAST]            GET; {id} in the path is drawn out of the range
--   paced MS PATH                GET, with a rest of so many milliseconds after each answer
--   repeat FIRST LAST            POST /api/esims/activate for orders drawn out of the range
--   activate FIRST LAST [STEP]   the same for one order after the other; none twice
--   once FIRST LAST [STEP]       the same, and it ends with the last answer instead of the time
--
-- The secret of the key comes from the environment.

local kind, path, first_id, last_id, step
local is_asked = false

next_id = 0  -- global: `done` reads it from outside

function setup(thread)
  the_thread = thread
end

-- Only where they are needed: each of these two makes wrk slower.

local function end_with_the_last()
  local wanted, begun, answered = math.floor((last_id - first_id) / step) + 1, 0, 0
  local ffi = require("ffi")
  ffi.cdef("int getpid(void); int kill(int, int);")
  delay = function()
    begun = begun + 1
    return begun > wanted and 3600000 or 0
  end
  response = function()
    answered = answered + 1
    if answered < wanted then return end
    wrk.thread:stop()
    ffi.C.kill(ffi.C.getpid(), 2)  -- as Ctrl-C does it: wrk's main thread sleeps until its time is over
  end
end

local function rest(ms)
  delay = function() return ms end
end

function init(args)
  local given = { path = 2, paced = 4, ["repeat"] = 2, activate = 2, once = 2 }
  kind = given[args[1]] and args[1] or "path"
  path = kind == "paced" and args[3] or args[1]
  first_id, last_id = tonumber(args[given[kind]] or 0), tonumber(args[given[kind] + 1] or 0)
  step = tonumber(args[4] or 1) or 1
  next_id = first_id
  math.randomseed(os.time())  -- other ids in each run: those of the last one lie in memory
  wrk.headers["Authorization"] = "Bearer " .. (os.getenv("BENCH_KEY") or "")
  if kind ~= "path" and kind ~= "paced" then
    wrk.method, wrk.path = "POST", "/api/esims/activate"
    wrk.headers["Content-Type"] = "application/json"
  end
  if kind == "once" then end_with_the_last() end
  if kind == "paced" then rest(tonumber(args[2])) end
end

function request()
  if kind == "path" and last_id > 0 then
    return wrk.format("GET", (path:gsub("{id}", tostring(math.random(first_id, last_id)))))
  elseif kind == "path" or kind == "paced" then
    return wrk.format("GET", path)
  elseif kind == "repeat" then
    return wrk.format("POST", nil, nil, '{"order_id":' .. math.random(first_id, last_id) .. "}")
  end
  if not is_asked then  -- wrk's own first look at what a request is like; it isn't sent
    is_asked = true
    return wrk.format("POST", nil, nil, '{"order_id":0}')
  end
  local id = next_id
  next_id = id + step
  -- Past the end an answer with an error, so that nobody takes the figures for those of activations.
  return wrk.format("POST", nil, nil, '{"order_id":' .. (id > last_id and 0 or id) .. "}")
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"us":%d,"p50_us":%d,"p99_us":%d,"max_us":%d,"not_ok":%d,"cut":%d,"next_id":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    e.status, e.connect + e.read + e.write + e.timeout, the_thread:get("next_id")))
end
