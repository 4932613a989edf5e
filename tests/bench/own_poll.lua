-- B1's own side: moontide exec tests/bench/own_poll.lua URL COUNT INFLIGHT [CAFILE]. Prints the seconds it took.
--
-- Each poll is what the engine does for a place: a task that asks a compiled policy, in the policies' environment,
-- with their limits and their deadline. The policy asks for its URL with the ETag of last time: unchanged.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local policy, task, time = require "policy.load", require "task", require "time"

local POLICY = [[
local http = require "http"

return policy {
  watch = function(place)
    local answer = assert((place.server.get or http.get)(place.server.url, place.server.options))
    if answer.status == 304 then return nil, "unchanged" end
    return { key = answer.headers.etag }
  end,
  run = function() end,
}
]]

local url, count, inflight, ca = ...
local compiled = assert(policy.compile("bench", POLICY, "bench.lua"))
local place = {
  app = "bench", environment = "", world = { module = require },
  server = { url = url, options = { etag = '"bench"', ca = ca, timeout = 30 } },
}
if ca then place.server.get = require("http").get end -- a watch names no files: here it is the program that trusts them
place.face = place -- what a policy sees of its place
local left, unanswered = tonumber(count), tonumber(count)
local over = task.signal()
local OPTIONS = { name = "poll", detached = true }
local poll

local function next_poll()
  if left > 0 then
    left = left - 1
    task.start(OPTIONS, poll)
  end
end

function poll()
  local change, reason = policy.ask(compiled, place, 60)
  if change or reason ~= "unchanged" then error("the server did not answer 304: " .. tostring(reason)) end
  unanswered = unanswered - 1
  if unanswered == 0 then over:notify() end
  next_poll()
end

local began = time.monotonic()
for _ = 1, tonumber(inflight) do next_poll() end
over:wait()
print(("%.6f"):format(time.monotonic() - began))
