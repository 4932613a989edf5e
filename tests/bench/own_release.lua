-- B4's and B6's own side: moontide exec tests/bench/own_release.lua DIR RELEASES POLLS COMMAND [ARG]
--
-- A real engine with its durable journal in DIR, and a repository in memory whose head moves for each release. The
-- policy's run has four steps, each one child. Prints for every release the milliseconds from the poll that sees it
-- to the end of its run, as a JSON list. Then POLLS polls find nothing new.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: return-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local fs, hash, json, task, time = require "fs", require "hash", require "json", require "task", require "time"

local dir, releases, polls = ...
local command = { select(4, ...) }

local POLICY = [[
local proc, json = require "proc", require "json"
local command = json.decode(%q)

return policy {
  watch = function(place) return place:head() end,
  run = function()
    for _ = 1, 4 do assert(proc.check(proc.run(command))) end
  end,
}
]]
assert(fs.mkdir(dir .. "/scripts", { parents = true }))
assert(fs.write(dir .. "/scripts/four.lua", POLICY:format(json.encode(command))))

local commit, snapshot
local repository = {
  refs = function() return snapshot end,
  expire = function() end,
  head = function() return { commit = commit } end,
  tags = function() return {} end,
  compare = function() return { status = "ahead" } end,
}

local environment = {
  name = "staging", app = "web", policy = "four", rollback = false, accept = "major", watch_for = 0, notify = {},
  target = { kind = "command" }, verify = {},
}
local app = {
  name = "web", follows = "git", source = { url = "http://git.invalid/web.git" }, branch = "main",
  image = "registry.invalid/web",
  dockerfile = "Dockerfile", context = ".", build = { args = {}, timeout = 60 }, poll = 3600,
  environment_list = { environment }, environments = { staging = environment },
}
local config = {
  file = "bench", dir = dir, poll = 3600, state = dir .. "/state", scripts = dir .. "/scripts", registries = {},
  credentials = {}, github = { api = "https://api.github.com" }, builder = { kind = "auto", env = {} }, notify = {},
  retention = { runs = 500, days = 90 }, apps = { web = app }, app_list = { app },
}

local ended = task.signal()
local engine = assert(require("engine").open {
  config = config, load = function() return config end,
  world = {
    repository = function() return repository end,
    target = function() return { current = function() return nil end } end, -- at first sight nothing runs
  },
  on_event = function(event)
    if event.event == "run" and event.phase == "end" and event.state then -- it is in the journal
      assert(event.state == "done", event.text)
      ended:notify()
    end
  end,
})

local took = {}
for i = 0, tonumber(releases) do -- the first is first sight, and does not count
  commit, snapshot = hash.sha256(tostring(i)):sub(1, 40), {}
  local began = time.monotonic()
  assert(#assert(engine:poll("web")).changes == 1)
  assert(ended:wait(60), "the run does not end")
  took[i] = (time.monotonic() - began) * 1e3
end
took[0] = nil
for _ = 1, tonumber(polls) do assert(#assert(engine:poll("web")).changes == 0) end
print(json.encode(json.array(took)))
