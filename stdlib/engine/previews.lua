-- Places of branches: an environment with `branches` is a template, and each branch that matches has a place of its
-- own. It comes when the branch is seen, follows it as any place does, and is taken down when the branch has been gone
-- for a while. That a branch is gone counts when the source counts it as gone (sources/git/shrunken.lua).
--
-- The journal knows the places. In memory each is an environment of its app like any other.
local accept, actions, config_previews = require "engine.accept", require "engine.actions", require "config.previews"
local errors, shrink, time = require "errors", require "base.shrink", require "time"

local M = {}

local NAMED <const> = 50 -- branches without a place that `why` names
local DOUBTED <const> = 600 -- seconds that places stay at least when half of them are to go
local AGAIN <const> = 300 -- seconds after which what could not be taken down is tried again

-- ---- in memory ----

local function go(engine, app, name)
  local environment = app.environments[name]
  app.environments[name] = nil
  for i, each in ipairs(app.environment_list) do
    if each == environment then
      table.remove(app.environment_list, i)
      break
    end
  end
  engine.places[app.name .. "/" .. name] = nil
  for _, policy in ipairs { environment.policy, environment.rollback or nil } do
    engine.said[("%s/%s/%s"):format(app.name, name, policy)] = nil
  end
  engine:tidy()
end

-- ---- branches ----

---The branches of a list that match one of a template's patterns.
---@param branches {branch: string, commit: string}[]
---@param patterns string[]
---@return {branch: string, commit: string}[]
function M.matching(branches, patterns)
  local list = {}
  for _, branch in ipairs(branches) do
    for _, pattern in ipairs(patterns) do
      if require("sources.git.branches").matches(pattern, branch.branch) then
        list[#list + 1] = branch
        break
      end
    end
  end
  return list
end

-- A name that no other place of the app has, or had.
local function name_for(engine, app, template, branch)
  for _, label in ipairs { config_previews.label(branch), config_previews.other_label(branch) } do
    local name = template.template .. "-" .. label
    local taken = app.environments[name] or config_previews.template_of(app, name)
    if not taken and not engine.journal:preview_named(app.name, name) then return name, label end
  end
end

local function note(engine, app, name, text)
  engine:emit { event = "note", level = "info", app = app.name, environment = name, text = text }
end

-- A branch that has no place yet gets one.
local function add(engine, app, template, branch)
  local journal = engine.journal
  local before = journal:preview_of(app.name, template.template, branch.branch)
  local name, label
  if before then
    name, label = before.environment, before.label
  else
    name, label = name_for(engine, app, template, branch.branch)
  end
  if not name or app.environments[name] then return false end
  ---@cast label string
  local preview = {
    app = app.name, environment = name, template = template.template, branch = branch.branch, label = label,
    head = branch.commit,
  }
  journal:add_preview(preview)
  config_previews.come(app, template, preview)
  note(engine, app, name, ("the branch %s has a place"):format(branch.branch))
  return true
end

-- ---- what is gone ----

local function take_down(engine, app, preview)
  local at = engine:place(app.name, preview.environment)
  local run = actions.begin(engine, at, {
    kind = "release", policy = "destroy", by = "moontide", reason = "its branch is gone",
    title = ("destroy %s %s: the branch %s is gone"):format(app.name, preview.environment, preview.branch),
    data = { by = "moontide: its branch is gone", at = time.now() },
  })
  engine.journal:preview_goes(app.name, preview.environment, run.id)
end

-- A branch that is gone: its place stays for a while, is taken down, and goes when that is done.
local function leave(engine, app, preview, patience)
  local journal, environment = engine.journal, app.environments[preview.environment]
  local now = time.now()
  if not preview.gone_at or preview.gone_at > now then -- the clock was set back
    preview.gone_at = now
    journal:preview_at(app.name, preview.environment)
    note(engine, app, preview.environment, ("its branch %s is gone: it is taken down in %s"):format(preview.branch,
      time.words(patience)))
  end
  environment.gone_at = preview.gone_at
  local order = preview.run and journal:preview_order(preview)
  if order and order.state == "done" then
    journal:preview_down(app.name, preview.environment)
    note(engine, app, preview.environment, "taken down: its branch is gone")
    go(engine, app, preview.environment)
  elseif order and (order.state == "queued" or order.state == "running" or now - (order.ended_at or 0) < AGAIN) then
    return
  elseif now - preview.gone_at >= patience then
    take_down(engine, app, preview)
  end
end

-- ---- an app ----

-- What `moontide why` says of a template: how many places it has, and which branches have none.
local function say(engine, app, template, count, refused)
  local decisions = {}
  for _, branch in ipairs(table.move(refused, 1, NAMED, 1, {})) do
    decisions[#decisions + 1] = {
      subject = branch.branch, verdict = "refused",
      reason = ("there are %d places of branches already, and at most %d may be"):format(count, template.at_most),
    }
  end
  decisions[#decisions + 1] = {
    subject = "", verdict = "nothing",
    reason = ("%d of at most %d places, one for each branch that matches %s%s"):format(count, template.at_most,
      table.concat(template.branches, " or "), #refused > 0 and ("; %d have none"):format(#refused) or ""),
  }
  local fresh = accept.record(engine.journal, {
    app = app.name, environment = template.template, decisions = decisions,
    policy = { name = template.policy, kind = "change", latest = true },
  }, engine.said)
  for _, decision in ipairs(fresh) do
    if decision.verdict == "refused" then
      engine:emit {
        event = "decision", level = "warn", app = app.name, environment = template.template,
        text = ("the branch %s gets no place: %s"):format(decision.subject, decision.reason),
      }
    end
  end
end

-- The places of a template, and how long those stay whose branches are gone: a source that lost half of them at once
-- may have lost them by mistake.
local function places_of(engine, app, template, there)
  local list, left = {}, 0
  for _, preview in ipairs(engine.journal:previews(app.name)) do
    if preview.template == template.template and app.environments[preview.environment] then
      list[#list + 1] = preview
      if there[preview.branch] then left = left + 1 end
    end
  end
  return list, shrink.suspicious(#list, left) and math.max(template.keep_for, DOUBTED) or template.keep_for
end

local function update(engine, app, template, branches)
  local there, count = {}, 0
  for _, branch in ipairs(M.matching(branches, template.branches)) do there[branch.branch] = branch end
  local places, patience = places_of(engine, app, template, there)
  for _, preview in ipairs(places) do
    local branch = there[preview.branch]
    if not branch or preview.run then -- one that is being taken down comes anew
      leave(engine, app, preview, patience)
    elseif preview.gone_at or preview.head ~= branch.commit then
      engine.journal:preview_at(app.name, preview.environment, branch.commit)
      app.environments[preview.environment].gone_at = nil
    end
    if app.environments[preview.environment] then
      count = count + 1
      there[preview.branch] = nil
    end
  end
  local refused = {}
  for _, branch in ipairs(branches) do
    if there[branch.branch] then
      if count < template.at_most and add(engine, app, template, branch) then
        count = count + 1
      else
        refused[#refused + 1] = branch
      end
    end
  end
  say(engine, app, template, count, refused)
end

---Brings the places of an app's branches to what its repository has now.
---@async
---@param engine table
---@param app AppConfig
---@param state Seen
function M.update(engine, app, state)
  if not app.templates or state.error or not state.snapshot then return end
  local branches, err = engine.world.repository(app):branches()
  if not branches then
    if not errors.passing(err) then engine:trouble("the branches of " .. app.name .. " cannot be listed", err) end
    return
  end
  for _, template in ipairs(app.templates) do update(engine, app, template, branches) end
end

return M
