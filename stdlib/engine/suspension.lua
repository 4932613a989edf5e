-- Suspended policies. A slice of Lua that cannot be interrupted ends the host, and so does a crash below one; the next
-- host finds in the crash note (host/crash_note.h) what was asked. A policy that ended three hosts is not asked again.
local errors, fs, task, time = require "errors", require "fs", require "task", require "time"

---@class (partial) EngineState
---@field suspensions table<string, Suspension> By who is suspended.
---@field last_end? {unit: table, ends: integer} What the host before ended with.
local Suspended = {}

local M = { methods = Suspended }

local FILE <const> = "/asked"

local function key(kind, app, environment, policy)
  return kind == "load" and policy or table.concat({ app, environment, policy }, "/")
end

-- What was noted: a line for people, then the unit.
local function read(text)
  local kind, app, environment, policy, hash = text:match("\n([^\t\n]*)\t([^\t\n]*)\t([^\t\n]*)\t([^\t\n]*)\t(%x+)$")
  if kind == "watch" or kind == "load" then
    return { kind = kind, app = app, environment = environment, policy = policy, hash = hash }
  end
end

---Reads the crash note of the host before, and names the file for this one's.
---@async
---@param book Journal
---@param state string The state folder.
---@return {unit: table, ends: integer, words: string}? last
function M.begin(book, state)
  local path, last = state .. FILE, nil ---@type string, {unit: table, ends: integer, words: string}?
  local text = fs.read(path, { max = 65536 })
  local unit = text and read(text)
  if unit and text then last = { unit = unit, ends = book:ended(unit), words = text:match("^[^\n]*") or "" } end
  if text then fs.remove(path) end
  task.asked_file(path)
  return last
end

---The suspensions of a journal, by who is suspended.
---@param book Journal
---@return table<string, Suspension>
function M.of(book)
  local found = {}
  for _, s in ipairs(book:suspensions()) do found[key(s.kind, s.app, s.environment, s.policy)] = s end
  return found
end

---Why a policy is not loaded or not asked; nil: it is.
---@param found table<string, Suspension>
---@param policy {name: string, file: string, hash: string}
---@param place? Place nil: loading it.
---@return Err? err
function M.why(found, policy, place)
  if next(found) == nil then return nil end
  local app, environment = place and place.app or "", place and place.environment or ""
  local s = found[place and key("watch", app, environment, policy.name) or policy.name]
  if not s or s.hash ~= policy.hash then return nil end
  return errors.new("failed", ("the policy %s is suspended: %d times the host ended while it was %s, last at %s; "
    .. "change %s, or moontide retry %s"):format(policy.name, s.ends, s.kind == "load" and "loaded" or "asked",
    time.iso(s.at), policy.file, place and ("%s %s"):format(app, environment) or "APP"), { op = s.kind })
end

---What is suspended at a place, in words; nil: nothing.
---@param found table<string, Suspension>
---@param app string
---@param environment string
---@param policies string[]
---@param compiled? table<string, Policy> With a host: what is loaded, so that a changed text counts.
---@return string? text
function M.words(found, app, environment, policies, compiled)
  if next(found) == nil then return nil end
  for _, name in ipairs(policies) do
    local s = found[key("watch", app, environment, name)] or found[name]
    local policy = compiled and compiled[name]
    if s and (not policy or policy.hash == s.hash) then
      return ("policy %s is suspended: the host ended %d times while it was %s"):format(name, s.ends,
        s.kind == "load" and "loaded" or "asked")
    end
  end
end

-- The names of the policies at a place.
local function policies_of(config) return { config.policy, config.rollback or nil } end

---Reports the crash of the host before, and the policies that are suspended for it.
function Suspended:tell_last_end()
  local last = self.last_end --[[@as table?]]
  if not last then return end
  self.last_end = nil
  self:emit {
    event = "note", level = "error", app = last.unit.app ~= "" and last.unit.app or nil,
    environment = last.unit.environment ~= "" and last.unit.environment or nil,
    text = ("the host before ended while it worked on %s (%d of 3 before it is suspended)"):format(last.words,
      last.ends),
  }
  for _, app in ipairs(self.config.app_list) do
    for _, environment in ipairs(app.environment_list) do
      local text = M.words(self.suspensions, app.name, environment.name, policies_of(environment), self.policies)
      if text and (last.unit.app == "" or last.unit.app == app.name and last.unit.environment == environment.name) then
        local alarm = { subject = last.unit.policy, reason = text
          .. ("; moontide retry %s %s lifts it"):format(app.name, environment.name) }
        self:alarm(self:place(app.name, environment.name), alarm --[[@as Decision]])
      end
    end
  end
end

---Lets a place's suspended policies be loaded and asked again.
---@async
---@param at Place
---@return boolean lifted Whether any was suspended.
---@return Err? err A policy could not be loaded.
function Suspended:lift(at)
  local names = policies_of(at.config)
  local suspended = M.words(self.suspensions, at.app, at.environment, names) ~= nil
  if not suspended then return false end
  self.journal:lift_suspensions(at.app, at.environment, names)
  for name in pairs(self.suspensions) do self.suspensions[name] = nil end
  for name, s in pairs(M.of(self.journal)) do self.suspensions[name] = s end
  for _, name in ipairs(names) do
    if self.policies[name].suspended then
      local _, err = self:reload()
      return true, err
    end
  end
  return true
end

return M
