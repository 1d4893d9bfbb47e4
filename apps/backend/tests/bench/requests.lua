-- What wrk sends, and what it tells at its end as one line of JSON.
--
--   look PATH [FIRST LAST]   GET; {id} in the path is drawn out of the range
--   paced MS PATH            GET, with a rest of so many milliseconds after each answer
--   repeat FIRST LAST        POST /api/esims/activate for orders drawn out of the range
--   activate FIRST LAST      the same for one order after the other; none twice
--   once FIRST LAST          the same, and it ends with the last answer instead of the time
--
-- The secret of the key comes from the environment.

local ids = { look = 3, ["repeat"] = 2, activate = 2, once = 2 }
local kind, path, first_id, last_id
local is_asked = false

next_id = 0  -- global: `done` reads it from outside

function setup(thread)
  the_thread = thread
end

function init(args)
  kind = args[1]
  path = kind == "look" and args[2] or args[3]
  local at = ids[kind]
  first_id, last_id = tonumber(at and args[at] or 0), tonumber(at and args[at + 1] or 0)
  next_id = first_id
  wrk.headers["Authorization"] = "Bearer " .. (os.getenv("BENCH_KEY") or "")
  if kind ~= "look" and kind ~= "paced" then
    wrk.method, wrk.path = "POST", "/api/esims/activate"
    wrk.headers["Content-Type"] = "application/json"
  end
  math.randomseed(1)
  -- Only where they are needed: each of them makes wrk slower.
  if kind == "once" then
    local wanted, begun, answered = last_id - first_id + 1, 0, 0
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
  elseif kind == "paced" then
    local rest = tonumber(args[2])
    delay = function() return rest end
  end
end

function request()
  if kind == "look" and last_id > 0 then
    return wrk.format("GET", (path:gsub("{id}", tostring(math.random(first_id, last_id)))))
  elseif kind == "look" or kind == "paced" then
    return wrk.format("GET", path)
  elseif kind == "repeat" then
    return wrk.format("POST", nil, nil, '{"order_id":' .. math.random(first_id, last_id) .. "}")
  end
  if not is_asked then  -- wrk's own first look at what a request is like; it isn't sent
    is_asked = true
    return wrk.format("POST", nil, nil, '{"order_id":0}')
  end
  local id = next_id
  next_id = id + 1
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
