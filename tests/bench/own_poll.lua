-- B1's own side: moontide exec tests/bench/own_poll.lua URL COUNT INFLIGHT [CAFILE]. Prints the seconds it took.
--
-- Each poll is what the host does for a policy: a coroutine of its own with the limits of policies, in which the
-- policy's watch() asks for its URL with the ETag of last time and finds it unchanged.
local http, task, time = require "http", require "task", require "time"

local url, count, inflight, ca = ...
local left, unanswered = tonumber(count), tonumber(count)
local over = task.signal()

local options = { etag = '"bench"', ca = ca, timeout = 30 }
local function watch(app)
  local response = assert(http.get(app.url, options))
  if response.status == 304 then return nil, "unchanged" end
  return response.headers.etag, "changed"
end

local app = { url = url }
local LIMITS = { name = "watch", cpu = 5, memory = 64 << 20, detached = true }
local poll

local function next_poll()
  if left > 0 then
    left = left - 1
    task.start(LIMITS, poll)
  end
end

function poll()
  local key, reason = watch(app)
  if key or reason ~= "unchanged" then error("the server did not answer 304") end
  unanswered = unanswered - 1
  if unanswered == 0 then over:notify() end
  next_poll()
end

local began = time.monotonic()
for _ = 1, tonumber(inflight) do next_poll() end
over:wait()
print(("%.6f"):format(time.monotonic() - began))
