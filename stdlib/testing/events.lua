-- Random events of a world, as data: an app, a word of the simulated world, and what it is given. They are made before
-- the world is, so that a story can be told again without some of them.
local inspect, random = require "base.inspect", require "testing.random"

local M = {}

---@class TestEvent
---@field app? string nil: a word of the world.
---@field word string
---@field args any[]

---@class EventModel What was made up so far.
---@field random TestRandom
---@field apps string[]
---@field environments table<string, string[]> By app.
---@field commits table<string, string[]>
---@field tags table<string, string[]>
---@field version table<string, integer[]>
---@field down table<string, true>
---@field list TestEvent[]

local PAUSES <const> = { "10s", "1m", "5m", "20m", "2h" }
local TROUBLES <const> = { "build", "check", "later" }
local ODD_TAGS <const> = { "v0.0.1", "nightly", "v9", "v1.0.0-rc.1", "release/2" }

local function add(model, app, word, ...) model.list[#model.list + 1] = { app = app, word = word, args = { ... } } end

local function push(model, app, trouble)
  local commits = model.commits[app]
  local name = ("%s-%d"):format(app, #commits + 1)
  commits[#commits + 1] = name
  if trouble then add(model, app, "breaks", name, trouble) end
  add(model, app, "push", name)
end

local function commit(model, app)
  if #model.commits[app] == 0 then push(model, app) end
  return model.random:of(model.commits[app])
end

local function environment(model, app) return model.random:of(model.environments[app]) end

local function next_version(model, app)
  local version, part = model.version[app], model.random:weighted { { 5, 3 }, { 3, 2 }, { 1, 1 } }
  version[part] = version[part] + 1
  for i = part + 1, 3 do version[i] = 0 end
  return ("v%d.%d.%d"):format(version[1], version[2], version[3])
end

local function tag(model, app, name)
  local tags = model.tags[app]
  tags[#tags + 1] = name
  add(model, app, "tag", name, commit(model, app))
end

local function toggle(model, app)
  local part = model.random:of { "git", "registry", "builder", "notify",
    ("target %s/%s"):format(app, environment(model, app)) }
  add(model, nil, model.down[part] and "up" or "down", part)
  model.down[part] = not model.down[part] or nil
end

local function person(word)
  return function(model, app) add(model, app, word, environment(model, app)) end
end

-- What may happen, and how often.
local KINDS <const> = {
  { 12, function(model, app) push(model, app) end },
  { 6, function(model, app) push(model, app, model.random:of(TROUBLES)) end },
  { 4, function(model, app) add(model, app, "reset", commit(model, app)) end },
  { 8, function(model, app) tag(model, app, next_version(model, app)) end },
  { 1, function(model, app) tag(model, app, model.random:of(ODD_TAGS)) end },
  { 1, function(model, app)
    if #model.tags[app] > 0 then add(model, app, "tag", model.random:of(model.tags[app]), commit(model, app)) end
  end },
  { 1, function(model, app)
    if #model.tags[app] > 0 then add(model, app, "untag", model.random:of(model.tags[app])) end
  end },
  { 5, toggle },
  { 10, function(model) add(model, nil, "pass", model.random:of(PAUSES)) end },
  { 8, function(model) add(model, nil, "poll") end },
  { 4, function(model) add(model, nil, "settle") end },
  { 4, function(model) add(model, nil, "kill") end },
  { 2, person "unhealthy" }, { 1, person "hold" }, { 2, person "unhold" }, { 1, person "rollback" },
  { 1, person "cancel" }, { 1, person "retry" }, { 1, person "approve" }, { 1, person "reject" },
  { 2, function(model, app) add(model, app, "release", environment(model, app), commit(model, app)) end },
}

local FEWEST <const>, MORE <const> = 6, 24

---Makes up events.
---@param seed integer
---@param environments table<string, string[]> By app.
---@return TestEvent[]
function M.make(seed, environments)
  local model = {
    random = random.new(seed), apps = {}, environments = environments, commits = {}, tags = {}, version = {}, down = {},
    list = {},
  }
  for app in pairs(environments) do model.apps[#model.apps + 1] = app end
  table.sort(model.apps)
  for _, app in ipairs(model.apps) do model.commits[app], model.tags[app], model.version[app] = {}, {}, { 0, 0, 0 } end
  push(model, model.random:of(model.apps))
  for _ = 1, FEWEST + model.random:upto(MORE) do
    model.random:weighted(KINDS)(model, model.random:of(model.apps))
  end
  return model.list
end

---An event as a line of a test.
---@param event TestEvent
---@return string
function M.text(event)
  local args = {}
  for i, value in ipairs(event.args) do args[i] = inspect.quote(value) end
  return ("%s:%s(%s)"):format(event.app or "world", event.word, table.concat(args, ", "))
end

return M
