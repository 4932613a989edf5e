-- An app of a simulated world, as a test has it: what happens to its repository, its images and places, what people
-- order, and what came of it.
local git = require "simulation.git"

---What runs at a place.
---@class SimulatedRelease
---@field digest string
---@field image string
---@field commit string
---@field version? string
---@field versions? table<string, string> Of charts, by their names.

---@class SimulatedApp
---@field name string
---@field world SimulatedWorld
local App = {}
App.__index = App

local M = {}

---@param world SimulatedWorld
---@param name string
---@return SimulatedApp
function M.new(world, name) return setmetatable({ world = world, name = name }, App) end

---@return AppConfig
function App:config()
  local own = self.world:configuration().apps[self.name]
  if own then return own end
  local function found(engine) return engine.config.apps[self.name] end -- in the cluster
  own = assert(self.world:ask(found), self.name .. " is no app")
  return own
end

-- A change of the app's repository.
local function happen(self, line, change)
  local config = self:config()
  self.world:happen(self.name .. ": " .. line, function(state) change(state, config.source.url, config.branch) end)
end

-- ---- the repository ----

---Pushes a commit on top of a branch, or moves the branch to one that is there.
---@param name string What the test calls the commit.
---@param options? {branch?: string, message?: string, paths?: string[], by?: string}
function App:push(name, options)
  options = options or {}
  happen(self, "push " .. name .. (options.branch and " to " .. options.branch or ""), function(state, url, main)
    local branch = options.branch or main
    local branches = git.of(state, url).branches
    git.point(state, url, "branches", branch, git.make(state, url, name, {
      parent = branches[branch] or branches[main], message = options.message, by = options.by, paths = options.paths,
    }))
  end)
end

---Moves a branch to a commit, whatever is there.
---@param name string
---@param options? {branch?: string}
function App:reset(name, options)
  happen(self, "reset to " .. name, function(state, url, main)
    git.point(state, url, "branches", options and options.branch or main, git.make(state, url, name, {}))
  end)
end

---Begins a branch at a commit.
---@param branch string
---@param name string
function App:branch_off(branch, name)
  happen(self, ("branch %s at %s"):format(branch, name), function(state, url)
    git.point(state, url, "branches", branch, git.make(state, url, name, {}))
  end)
end

---Deletes a branch.
---@param branch string
function App:delete_branch(branch)
  happen(self, "delete branch " .. branch, function(state, url) git.point(state, url, "branches", branch, nil) end)
end

---Sets a tag, or moves it.
---@param tag string
---@param name string The commit.
function App:tag(tag, name)
  happen(self, ("tag %s at %s"):format(tag, name), function(state, url)
    git.point(state, url, "tags", tag, git.make(state, url, name, {}))
  end)
end

---Deletes a tag.
---@param tag string
function App:untag(tag)
  happen(self, "delete tag " .. tag, function(state, url) git.point(state, url, "tags", tag, nil) end)
end

-- ---- charts ----

-- Where a chart of the app is, and its name there: one that it follows, or one that it publishes.
local function chart_of(self, name)
  local config = self:config()
  local followed = config.charts and config.charts[name]
  if followed then return followed.repository.url, followed.chart end
  if not config.publish then error(("%s has no chart %s"):format(self.name, name), 4) end
  return config.publish.to.url, name
end

---Somebody publishes a version of a chart of the app, or writes it over.
---@param name string
---@param version string
---@param about? {text?: string, removed?: boolean, deprecated?: boolean} text: what it holds.
function App:chart(name, version, about)
  local url, chart = chart_of(self, name)
  self.world:chart(url, chart, version, about)
end

---Somebody takes a version of a chart of the app away from its repository.
---@param name string
---@param version string
function App:withdraw(name, version)
  local url, chart = chart_of(self, name)
  self.world:withdraw(url, chart, version)
end

-- ---- trouble ----

---Breaks the image of a commit: it does not build, fails its checks, or turns unhealthy a while later. So does a chart.
---@param name string A commit, or a chart's version: "web=1.1.0".
---@param how? "build"|"check"|"later"|string nil: it is well again; "check in PART": of one part of an environment.
function App:breaks(name, how)
  local line = ("%s: %s %s"):format(self.name, name, how and "breaks: " .. how or "is well again")
  self.world:happen(line, function(state)
    if name:find("=", 1, true) then
      state.troubles[name] = how
    else
      state.names[git.commit(name)], state.troubles[git.commit(name)] = name, how
    end
  end)
end

---@param environment string
---@param part? string
---@return string place
function App:place(environment, part) return ("%s/%s%s"):format(self.name, environment, part and ":" .. part or "") end

---What runs at a place turns unhealthy, until something else is put there.
---@param environment string
---@param why? string The state that the target reports.
---@param part? string
function App:unhealthy(environment, why, part)
  self.world:happen(("%s turns unhealthy"):format(self:place(environment, part)), function(state)
    local runs = state.targets[self:place(environment, part)]
    if not runs then error(("nothing runs at %s"):format(self:place(environment, part)), 4) end
    runs.sick = why or "exited (1)"
  end)
end

---What runs at a place is well again.
---@param environment string
---@param part? string
function App:healthy(environment, part)
  self.world:happen(("%s is healthy again"):format(self:place(environment, part)), function(state)
    local runs = state.targets[self:place(environment, part)]
    if runs then runs.sick = nil end
  end)
end

---Somebody else puts something at a place; nil takes it away.
---@param environment string
---@param release? table { digest =, commit =, version =, image = }
---@param part? string
function App:put(environment, release, part)
  self.world:happen(("somebody puts something at %s"):format(self:place(environment, part)), function(state)
    state.targets[self:place(environment, part)] = release
  end)
end

-- ---- people ----

-- An order, given again to the next host when this one died before it was recorded.
---@return any result
---@return any err
local function order(self, act, line, give)
  act.app, act.by = self.name, act.by or "ann"
  if act.environment then line = line .. " " .. act.environment end
  return self.world:order(act.by .. ": " .. line, act, give)
end

local function simple(word)
  return function(self, environment, by, what)
    local act = { environment = environment, by = by }
    act[(word == "approve" or word == "retry") and "what" or "reason"] = what
    return order(self, act, word .. " " .. self.name, function(engine) return engine[word](engine, act) end)
  end
end

---Says yes to a run that waits for people; `what` names one approval of several.
---@type fun(self: SimulatedApp, environment?: string, by?: string, what?: string): any, Err
App.approve = simple "approve"

---Says no to it, and why.
---@type fun(self: SimulatedApp, environment?: string, by?: string, why?: string): any, Err
App.reject = simple "reject"

---Lets changes of a place wait, and says why.
---@type fun(self: SimulatedApp, environment?: string, by?: string, why?: string): any, Err
App.hold = simple "hold"

---Lets them go.
---@type fun(self: SimulatedApp, environment?: string, by?: string, why?: string): any, Err
App.unhold = simple "unhold"

---Orders the release before.
---@type fun(self: SimulatedApp, environment?: string, by?: string, why?: string): any, Err
App.rollback = simple "rollback"

---Tries again what failed for good, was cancelled, or was marked bad.
---@type fun(self: SimulatedApp, environment?: string, by?: string, what?: string): any, Err
App.retry = simple "retry"

---Puts charts out now.
---@type fun(self: SimulatedApp, environment?: string, by?: string, why?: string): any, Err
App.apply = simple "apply"

---Takes down what a place has.
---@type fun(self: SimulatedApp, environment?: string, by?: string, why?: string): any, Err
App.destroy = simple "destroy"

---Orders a release: of a version, or of a commit as the test calls it.
---@param environment string
---@param what string
---@param by? string
---@return RunInfo run nil when it was refused.
---@return any err
function App:release(environment, what, by)
  local act = { environment = environment, by = by, what = what }
  local commit = git.commit(what)
  if self.world.state.names[commit] then act.what = commit end
  local line = ("release %s of %s at"):format(what, self.name)
  return order(self, act, line, function(engine) return engine:release(act) end)
end

---Cancels the newest run of a place.
---@param environment string
---@param by? string
---@return RunInfo run nil when it was refused.
---@return any err
function App:cancel(environment, by)
  local run = self:runs(environment)[1]
  if not run then error(("%s has had no run at %s"):format(self.name, environment), 2) end
  local act = { run = run.id, by = by }
  return order(self, act, ("cancel run %d"):format(run.id), function(engine) return engine:cancel(act) end)
end

-- ---- what came of it ----

---What runs at a place.
---@param environment string
---@param part? string
---@return SimulatedRelease running nil when nothing does.
function App:running(environment, part)
  local runs = self.world.state.targets[self:place(environment, part)]
  return runs and require("simulation.config").copy(runs)
end

---The newest decision at a place: of its own policy unless another is named.
---@param environment string
---@param subject? string A tag's name, for example.
---@param policy? string
---@return Decision decision nil when there is none.
function App:decision(environment, subject, policy)
  local why = assert(self.world:ask(function(engine) return engine:why(self.name, environment) end))
  policy = policy or why.environments[1].policy
  for _, d in ipairs(why.decisions) do -- what it says of the whole comes first, then the newest
    if d.policy == policy and (not subject or d.subject == subject) then return d end
  end
  return nil --[[@as any]]
end

---The runs of a place, the newest first.
---@param environment string
---@return RunInfo[]
function App:runs(environment)
  local found = assert(self.world:ask(function(engine)
    return engine:history { app = self.name, environment = environment, limit = 1000 }
  end))
  return found.runs
end

---A place as `moontide status` shows it.
---@param environment string
---@return EnvironmentStatus
function App:status(environment)
  local status = assert(self.world:ask(function(engine) return engine:status() end))
  for _, app in ipairs(status.apps) do
    for _, e in ipairs(app.name == self.name and app.environments or {}) do
      if e.name == environment then return e end
    end
  end
  error(("%s has no environment %s"):format(self.name, environment), 2)
end

---The same app with another table, as after an edit of the configuration.
---@param given table An app of the configuration.
function App:configure(given) self.world:app(self.name, given) end

return M
