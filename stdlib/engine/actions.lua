-- The commands hold, unhold, rollback, cancel and release. Each becomes a row of the journal first. Methods of the
-- engine; apply, destroy and retry are in orders.lua.
local errors, time, unknown = require "errors", require "time", require "base.unknown"
local place, text = require "policy.place", require "base.text"
local view = require "journal.view"

local extensions = require "extensions"

---@class (partial) EngineState
local Actions = {}

local M = { methods = Actions }

---The environments that an act is about, as places.
---@param self EngineState
---@param act Act
---@return Place[]? places
---@return Err? err
---@return_overload nil, Err
local function places_of(self, act)
  local app = self.config.apps[act.app]
  if not app then return unknown.app(self.config.app_list, act.app, "engine") end
  local list = {}
  for _, environment in ipairs(app.environment_list) do
    if not act.environment or act.environment == environment.name then
      list[#list + 1] = self:place(app.name, environment.name)
    end
  end
  if #list == 0 then
    return unknown.environment(app, act.environment --[[@as string]], "engine")
  end
  return list
end

---The one environment that an act is about: the named one, the only one, or production.
---@param self table The engine.
---@param act Act
---@return Place? place
---@return Err? err
---@return_overload nil, Err
local function one_place(self, act)
  local list, err = places_of(self, act)
  if not list then return nil, err end
  if #list == 1 then return list[1] end
  for _, p in ipairs(list) do
    if p.environment == "production" then return p end
  end
  return errors.fail("invalid", act.app .. " has several environments: say which one", { op = "engine" })
end

local function statuses(self, list)
  local out = {}
  for i, p in ipairs(list) do out[i] = view.environment(self.journal, p.app_config, p.config, self) end
  return out
end

local function set_holds(self, act, held, change)
  local list, err = places_of(self, act)
  if not list then return nil, err end
  local done = {}
  for _, p in ipairs(list) do
    if (self.journal:own_hold(p.app, p.environment) ~= nil) ~= held then
      change(p)
      done[#done + 1] = p
    end
  end
  if #done == 0 then
    local frozen = not held and self.journal:freeze_of(time.now())
    return errors.fail("conflict", held and "it is held already" or "it is not held"
      .. (frozen and "; everything is frozen: 'moontide thaw' ends that" or ""),
      { op = held and "hold" or "unhold", target = act.app })
  end
  local why = act.reason and ": " .. act.reason or ""
  for _, p in ipairs(done) do
    self:emit {
      event = "hold", level = "info", app = p.app, environment = p.environment,
      text = ("%s by %s%s"):format(held and "held" or "no longer held", act.by, why),
    }
  end
  return statuses(self, done)
end

---@param act Act
function Actions:hold(act)
  return set_holds(self, act, true, function(p) self.journal:hold(p.app, p.environment, act.by, act.reason) end)
end

---@param act Act
function Actions:unhold(act)
  return set_holds(self, act, false, function(p)
    self.journal:unhold(p.app, p.environment)
    self:lane(p):kick()
  end)
end

---Queues an operator's order as a run.
---@param self table The engine.
---@param p Place
---@param change table kind, policy, by, reason, title and data of the run; with `key` when it is one of the policy's.
---@return RunInfo run
local function begin(self, p, change)
  change.app, change.environment = p.app, p.environment
  local handled = change.key ~= nil -- it tries again what was handled
  change.key = change.key or ("%s %s %s"):format(change.kind, change.by, time.iso())
  local id = self.journal:enqueue(change, handled)
  self:emit {
    event = "change", level = "info", app = change.app, environment = change.environment, run = id,
    text = change.title .. ", asked by " .. change.by,
  }
  self:lane(p):kick()
  return view.run_info(self.journal, self.journal:run_by_id(id), self)
end

M.begin = begin
M.one_place = one_place
M.places_of = places_of

---Goes back to the release before the one that runs; it stays there until the source moves. A release that is still on
---its way (rolling out, being checked) is what is taken back, and its run ends at once.
---@param act Act
function Actions:rollback(act)
  local p, err = one_place(self, act)
  if not p then return nil, err end
  local app, environment = p.app, p.environment
  local under_way = self.journal:on_its_way(app, environment)
  local from = under_way or self.journal:live(app, environment)
  local before = from and self.journal:good_before(app, environment, from.id, from.digest)
  if not before then
    local way_out = under_way and ("; 'moontide cancel %d' ends the one that is on its way"):format(under_way.run) or ""
    return errors.fail("conflict", ("%s %s has no earlier release to go back to%s"):format(app, environment, way_out),
      { op = "rollback", target = app })
  end
  local words = ("rolled back by %s%s"):format(act.by, act.reason and ": " .. act.reason or "")
  local run = begin(self, p, {
    kind = "rollback", policy = p.config.rollback or "rollback", by = act.by,
    title = ("rollback from %s to %s"):format(place.called(from), place.called(before)), reason = act.reason,
    data = {
      release = from.id, version = from.version, commit = from.commit, digest = from.digest, reason = words,
    },
  })
  if under_way then self:lane(p):supersede(under_way.run, words) end
  return run
end

local ENDS_WITHIN <const> = 10 -- seconds that an order to cancel waits to see the end

---Ends a run: one that waits, one under way, one that has not begun. What it was just putting out is taken back by the
---environment's rollback policy.
---@async
---@param act {run: integer, by: string, reason?: string}
---@return RunInfo?
---@return Err? err conflict: it has ended.
---@return_overload nil, Err
function Actions:cancel(act)
  local about = { op = "cancel", target = "run " .. tostring(act.run) }
  local row = math.type(act.run) == "integer" and self.journal:run_by_id(act.run)
  if not row then return unknown.run(act.run, "cancel") end
  if row.state ~= "queued" and row.state ~= "running" then
    return errors.fail("conflict", ("run %d has ended: it is %s"):format(row.id, row.state), about)
  end
  local words = ("cancelled by %s%s"):format(act.by, act.reason and ": " .. act.reason or "")
  local err = errors.new("cancelled", words, about)
  self:emit {
    event = "note", level = "info", app = row.app, environment = row.environment, run = row.id,
    text = ("run %d is %s"):format(row.id, words),
  }
  local app, lane = self.config.apps[row.app], self.lanes[row.app .. "/" .. row.environment]
  if not lane and app and app.environments[row.environment] then
    lane = self:lane(self:place(row.app, row.environment))
  end
  if lane then
    lane:cancel(row, err)
    lane:kick()
  else -- a reload removed it: no lane works on it
    self.journal:finish(row, "cancelled", err)
  end
  local last = time.monotonic() + ENDS_WITHIN
  repeat
    row = assert(self.journal:run_by_id(row.id))
    local open = row.state == "queued" or row.state == "running"
    if open then self.idle:wait(0.05) end
  until not open or time.monotonic() > last
  return view.run_info(self.journal, row, self)
end

-- A version (a tag's name, with or without v) or a commit (full, or a prefix that only one known commit has).
local function resolve(self, p, what)
  if p.app_config.follows ~= "git" then
    return errors.fail("unsupported", ("%s follows no repository: there is no version or commit of it to release")
      :format(p.app), { op = "release", target = p.app })
  end
  local repo = self.world.repository(p.app_config)
  local tags, err = repo:tags()
  if not tags then return nil, err end
  for _, tag in ipairs(tags) do
    if tag.name == what or tag.name == "v" .. what then
      return { commit = tag.commit, version = tag.name, tag = tag }
    end
  end
  if not what:match("^%x+$") or #what < 7 then
    return errors.fail("not_found",
      ("'%s' is no tag of the repository, and no commit id of 7 or more digits"):format(what:sub(1, 80)),
      { op = "release", target = p.app })
  end
  if #what == 40 or #what == 64 then return { commit = what } end
  local candidates, seen = {}, {}
  local function consider(commit, version)
    if commit and commit:sub(1, #what) == what and not seen[commit] then
      seen[commit] = true
      candidates[#candidates + 1] = { commit = commit, version = version }
    end
  end
  for _, tag in ipairs(tags) do consider(tag.commit) end
  local head = repo:head(p.branch)
  consider(head and head.commit)
  for _, row in ipairs(self.journal:released_commits(p.app)) do consider(row.id) end
  if #candidates == 1 then return candidates[1] end
  local about = { op = "release", target = p.app }
  if #candidates == 0 then
    return errors.fail("not_found", ("no known commit begins with %s; give its full id"):format(what), about)
  end
  return errors.fail("invalid", ("%s is the beginning of several commits"):format(what), about)
end

---Releases a version or a commit, whatever the policy would say of it.
---@async
---@param act Act
function Actions:release(act)
  local p, err = one_place(self, act)
  if not p then return nil, err end
  if type(act.what) ~= "string" or act.what == "" then
    return errors.fail("invalid", "say which version or commit", { op = "release" })
  end
  local found
  local source = assert(extensions.get("source", p.app_config.follows))
  if source.resolve then
    found, err = source.resolve(p, act.what)
    if not found then return nil, err end
    return begin(self, p, {
      kind = "release", policy = p.config.policy, by = act.by, reason = act.reason, title = found.title,
      data = found.data,
    })
  end
  found, err = resolve(self, p, act.what)
  if not found then return nil, err end
  local tags = found.version and { { name = found.version, commit = found.commit } } or {}
  local short = text.short(found.commit)
  return begin(self, p, {
    kind = "release", policy = p.config.policy, by = act.by, reason = act.reason,
    title = found.version and ("%s of %s"):format(found.version, short) or "commit " .. short,
    data = { commit = found.commit, version = found.version, tags = tags },
  })
end

return M
