-- The commands apply, destroy and retry: they bring a whole environment to its desired state. Each becomes a run.
local errors, time = require "errors", require "time"
local actions, ask, judge = require "engine.actions", require "engine.ask", require "engine.judge"
local targets, view = require "targets", require "journal.view"

local M = {}

local TAKEN_DOWN <const> = "policy destroy"

-- Names and versions as one text, the way the app's release act reads it.
local function text_of(versions)
  local parts = {}
  for name, version in pairs(versions) do
    if type(name) ~= "string" or type(version) ~= "string" or (name .. version):find("[%s=%c]") then
      return errors.fail("invalid", "versions are names with texts: { api = \"1.2.3\" }", { op = "apply" })
    end
    parts[#parts + 1] = name .. "=" .. version
  end
  table.sort(parts)
  if #parts > 0 then return table.concat(parts, " ") end
  return errors.fail("invalid", "versions is empty; leave it out for what should run", { op = "apply" })
end

-- The environment must be named when there are several: production is no good guess here.
local function named(self, act, op)
  local app = self.config.apps[act.app]
  if app and not act.environment and #app.environment_list > 1 then
    return errors.fail("invalid", act.app .. " has several environments: say which one", { op = op, target = act.app })
  end
  return actions.one_place(self, act)
end

-- What was taken down by order comes up by order.
local function free(self, p)
  local hold = self.journal:hold_of(p.app, p.environment)
  if hold and hold.by == TAKEN_DOWN then self.journal:unhold(p.app, p.environment) end
end

-- What the environment's policy wants now, whatever it handled before.
local function wanted(self, p)
  local answer = ask.ask(p, self.policies[p.config.policy])
  local change = answer.change
  if not change then return nil, answer.err, answer.reason end
  return { key = change.key, title = change.title or change.key, data = judge.data_of(change) }
end

---Starts a run that brings an environment to what should be there: the named versions; else what its policy wants;
---else what runs there, once more.
---@async
---@param act Act With `versions`: table<string, string>?
---@return RunInfo?
---@return Err? err
---@return_overload nil, Err
function M.apply(self, act)
  local p, err = named(self, act, "apply")
  if not p then return nil, err end
  local order = { app = act.app, environment = p.environment, by = act.by, reason = act.reason }
  local change, why
  if act.versions then
    order.what, err = text_of(act.versions)
    if not order.what then return nil, err end
  else
    change, err, why = wanted(self, p)
    if err then return nil, err end
    local live = not change and self.journal:live(p.app, p.environment)
    order.what = live and (live.version or live.commit)
    if not change and not order.what then
      return errors.fail("conflict", ("there is nothing to apply: %s"):format(why), { op = "apply", target = act.app })
    end
  end
  free(self, p)
  if not change then return self:release(order) end
  return actions.begin(self, p, {
    kind = "release", policy = p.config.policy, by = act.by, reason = act.reason, title = change.title,
    data = change.data,
  })
end

-- Why there is nothing to try again, if the last run of a key says so.
local function nothing_failed(self, last)
  if not last then return nil end
  if last.state == "queued" or last.state == "running" then
    return ("run %d is at it: moontide logs %d"):format(last.id, last.id)
  elseif last.state == "done" and not self.journal:taken_back(last.id) then
    return ("run %d did it, and it was not taken back: moontide apply does it once more"):format(last.id)
  end
end

---Tries again what failed for good, was cancelled, or was marked bad: the newest that the environment's policy would
---put out if nothing were known of failures. What is known of older ones stays.
---@async
---@param act Act
---@return RunInfo?
---@return Err? err conflict: there is nothing to try again.
---@return_overload nil, Err
function M.retry(self, act)
  local p, err = actions.one_place(self, act)
  if not p then return nil, err end
  local about = { op = "retry", target = act.app }
  if act.versions then
    return errors.fail("invalid", "retry takes no versions: apply puts those out that are named", about)
  end
  local again, unloadable = self:lift(p)
  if unloadable then return nil, unloadable end
  local lifted = again and "what was suspended is asked again; " or ""
  local fresh = self.new_place(p.app_config, p.config, p.seen)
  fresh.retrying = true
  local change, problem, why = wanted(self, fresh)
  if problem then return nil, problem end
  if not change then
    return errors.fail("conflict", ("%sthere is nothing to try again: %s"):format(lifted, why), about)
  end
  local last = self.journal:run_of_key(p.app, p.environment, change.key)
  if last and last.state == "queued" and self.journal:hasten(last.id) then
    self:lane(p):kick()
    return view.run_info(self.journal, self.journal:run_by_id(last.id), self)
  end
  why = nothing_failed(self, last)
  if why then return errors.fail("conflict", why, about) end
  return actions.begin(self, p, {
    kind = "release", policy = p.config.policy, by = act.by, reason = act.reason, title = change.title,
    data = change.data, key = change.key,
  })
end

---Starts a run that takes down everything of an environment.
---@async
---@param act Act
---@return RunInfo?
---@return Err? err denied: the environment is protected; unsupported: its target cannot
---@return_overload nil, Err
function M.destroy(self, act)
  local p, err = named(self, act, "destroy")
  if not p then return nil, err end
  local about = { op = "destroy", target = act.app }
  if p.config.protected then
    return errors.fail("denied", ("%s %s is protected: set protected = false in its configuration first"):format(
      act.app, p.environment), about)
  end
  for _, part in ipairs(targets.parts(p.config)) do
    if not targets.destroys(part.target.kind) then
      return errors.fail("unsupported", ("a target of kind %s cannot be taken down; those that can: %s"):format(
        part.target.kind, table.concat(targets.that_go(), ", ")), about)
    end
  end
  return actions.begin(self, p, {
    kind = "release", policy = "destroy", by = act.by, reason = act.reason,
    title = ("destroy %s %s"):format(act.app, p.environment), data = { by = act.by, at = time.now() },
  })
end

return M
