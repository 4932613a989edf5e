-- B11's own side: moontide exec tests/bench/own_reload.lua APPS FORM. Prints, as JSON, how many seconds each reload
-- took, and the longest time in milliseconds of processor time that the loop was kept meanwhile.
--
-- A host polls so many apps, whose repositories are in memory; FORM is how its configuration is written, lua or yaml.
-- Beside it a task gets a turn each time the loop comes round, and looks how much processor time has gone since then.
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local fs, json = require "fs", require "json"
local sys, task, time = require "base.sys", require "task", require "time"
local count, form = assert(tonumber((...))), select(2, ...) or "lua"

local POLICY <const> = [[
return policy { -- %d
  watch = function(place)
    place:head()
    return nil, "nothing is wanted here"
  end,
  run = function() end,
}
]]

local folder <close> = assert(fs.temp_dir())
local dir = folder.path
local path = dir .. "/moontide." .. form
assert(fs.mkdir(dir .. "/scripts"))

local function write(file, text) assert(fs.write(file, text, { sync = false })) end

local APP <const> = {
  lua = "  app%05d = { source = '/srv/%d.git', image = 'r.invalid/app%d', branch = '%s', environments = { "
    .. "staging = { policy = 'look', rollback = false, target = { kind = 'docker' } } } },",
  yaml = "  app%05d: { source: /srv/%d.git, image: r.invalid/app%d, branch: %s, environments: { "
    .. "staging: { policy: look, rollback: false, target: { kind: docker } } } }",
}

-- Long configurations are computed: a text has at most a megabyte.
local COMPUTED <const> = [[
local apps = {}
for i = 1, %d do
  apps[("app%%05d"):format(i)] = {
    source = ("/srv/%%d.git"):format(i), image = ("r.invalid/app%%d"):format(i), branch = i == 7 and "%s" or "%s",
    environments = { staging = { policy = "look", rollback = false, target = { kind = "docker" } } },
  }
end
return { poll = "60s", state = "state", scripts = "scripts", retention = { runs = %d }, apps = apps }
]]

local function configure(seventh, others, runs)
  if form == "lua" then return write(path, COMPUTED:format(count, seventh, others, runs)) end
  local lines = { "poll: 60s", "state: state", "scripts: scripts", ("retention: { runs: %d }"):format(runs), "apps:" }
  for i = 1, count do
    lines[#lines + 1] = APP[form]:format(i, i, i, i == 7 and seventh or others)
  end
  return write(path, table.concat(lines, "\n") .. "\n")
end

local snapshot = require("sources.git.refs").snapshot({ main = ("a"):rep(40) }, {})
local function repository()
  local function nothing() end
  return {
    refs = function() return snapshot end, expect = nothing, expire = nothing, tags = function() return {} end,
    head = function() return { commit = ("a"):rep(40), key = ("a"):rep(40), ref = "refs/heads/main" } end,
  }
end

local function script(n) write(dir .. "/scripts/look.lua", POLICY:format(n)) end

script(0)
configure("main", "main", 500)
local function load() return require("config.load").load(path) end
local config, faults = load()
assert(config, faults and require("config.load").describe(faults[1]))
---@type any
local world = {
  repository = repository,
  target = function() return { current = function() return nil end } end,
  notify = function() return true end,
}
local host = assert(require("engine").open { config = config, load = load, world = world })
local running = task.spawn(function() return host:run() end)

local longest, stop = 0, false ---@type number, boolean
task.spawn(function()
  local last = sys.cpu()
  while not stop do
    time.sleep(0)
    local now = sys.cpu()
    longest, last = math.max(longest, now - last), now
  end
end)

local figures = {}
local function part(name, fn)
  time.sleep(0.05)
  longest = 0
  local began = time.monotonic()
  fn()
  local took = time.monotonic() - began
  time.sleep(0.05)
  figures[#figures + 1] = { name = name, turn = longest * 1000, seconds = took }
end

local function reload()
  local done, err = host:reload()
  if not done then error(require("config.load").describe(err.faults[1])) end
  return done
end

while host.counters.polls < count do time.sleep(0.1) end
sys.settle()
part("nothing changed", reload)
script(1)
part("a policy", reload)
configure("next", "main", 500)
part("an app", reload)
configure("next", "main", 400)
part("the whole", reload)
configure("next", "other", 400)
part("all apps", reload)
write(path, "apps: [\n")
part("refused", function() assert(not host:reload()) end)
configure("next", "other", 400)
reload()
local swaps, began = 0, time.monotonic()
while time.monotonic() - began < 2 do
  script(swaps + 2)
  reload()
  swaps = swaps + 1
end
figures[#figures + 1] = { name = "swaps", turn = 0, seconds = (time.monotonic() - began) / swaps }
stop = true
host:stop(0)
running:join()
print(json.encode(figures))
