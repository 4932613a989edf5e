-- What helmsman means when it fails: its words, and helm's and kubectl's within them, as errors with codes.
--
-- Facts: helmsman 4 (cli.go, state.go, decision_maker.go, helm_helpers.go, plan.go), helm 4, kubectl 1.35; the
-- sentences of its helpers were read off them, none is a guess.
local errors, log, network, text = require "errors", require "log", require "base.network", require "base.text"
local plans = require "extensions.helmsman.plan"

local M = {}

local LONGEST <const> = 500

-- ---- how to get out ----

---How to get a release out of a pending state, as commands for a person.
---@param name string
---@param namespace? string
---@param status? string "pending-install", ...
---@param revision? integer|string The one to go back to.
---@return string
function M.way_out(name, namespace, status, revision)
  local where = namespace and " -n " .. namespace or ""
  if status == "uninstalling" then
    return ("when nobody works on it any more: helm uninstall %s%s"):format(name, where)
  end
  return ("when nobody works on it any more: helm rollback %s%s%s, then apply again"):format(name,
    revision and " " .. revision or "", where)
end

-- ---- what it says ----

-- Whether kubectl, helm or helmsman could not reach a server.
local function unreachable(words)
  local code = network.code(words)
  return code ~= nil and code ~= "full"
end

-- The release that an entry is about.
local function about(words)
  return words:match("[Rr]elease %[ ?(%S-) ?%]"), words:match("in namespace %[ ?(%S-) ?%]")
end

local function pending(words)
  local name, namespace = about(words)
  return "busy", ("release %s%s is in the middle of an operation (pending): somebody works on it now, or was killed"
    .. " half-way; %s"):format(name or "?", namespace and " in namespace " .. namespace or "",
    M.way_out(name or "NAME", namespace))
end

-- The last sentence of helm that says why.
local function reason(words)
  local said = words:match("error message %[ (.*) %]%s*$") or words
  said = said:match("Error: (.*)$") or said
  return text.clean(said, LONGEST)
end

local RULES <const> = {
  { "flag provided but not defined: (%-+%S+)", function(_, flag)
    return "unsupported", ("this helmsman does not know the flag %s: version 4 is meant"):format(flag)
  end },
  { "flag needs an argument: (%-+%S+)", function(_, flag) return "invalid", flag .. " needs an argument" end },
  { "invalid value .- for flag", function(words) return "invalid", text.clean(words, LONGEST) end },
  { "pending %(install/upgrade/rollback or uninstalling%) state", pending },
  { "another operation %(install/upgrade/rollback%) is in progress", pending },
  { "already exists but is not managed by the current context", function(words)
    local name, namespace = about(words)
    return "conflict", ("release %s%s exists and belongs to another context: helmsman leaves it alone; give it another"
      .. " name, or take it over once with -migrate-context"):format(name or "?",
      namespace and " in namespace " .. namespace or "")
  end },
  { "conflict occurred while applying object (%S+)", function(words, object)
    local manager, field = words:match('conflict with "(.-)" using [^:]+: (%S+)')
    return "conflict", ("%s was changed by somebody else%s: put it back, or let helm take it over by helmFlags:"
      .. " [--force-conflicts]"):format(object, manager and (" (%s owns %s)"):format(manager, field) or "")
  end },
  { "was found with a mismatched version: (%S+)", function(words, found)
    local chart, wanted = words:match("chart %[ (.-) %] with version %[ (.-) %]")
    return "invalid", ("chart %s has no version %s: the repository gave %s"):format(chart or "?", wanted or "?", found)
  end },
  { "improper constraint: ?(.-)%s*$", function(_, wanted)
    local hint = wanted:find("%d[%s]+[<>=!~^]") and "helmsman wants a comma between two bounds"
      or "a version called staging is written 0.0.0-staging.N"
    return "invalid", ("%q is no version and no range of versions: %s"):format(text.clean(wanted, 60), hint)
  end },
  { "Invalid Semantic Version", function() return "invalid", "a chart's version is no semantic version" end },
  -- A local chart, a values file: whatever sentence is around it.
  { "could not stat ([^%s:]+)", function(words, path)
    return words:find("ermission denied", 1, true) and "denied" or "not_found",
      ("there is no %s that helmsman can read: %s"):format(path, text.clean(words, LONGEST))
  end },
  { "chart %[ (.-) %] version %[ (.-) %] can't be found", function(words, chart, version)
    if unreachable(words) then
      return "unreachable", ("the repository of chart %s cannot be reached: %s"):format(chart, reason(words))
    end
    return "not_found", ("there is no chart %s of version %s: %s"):format(chart, version,
      reason(words:match("Error output: (.*)$") or words))
  end },
  { "while adding helm repository %[(.-)%]", function(words, name)
    return unreachable(words) and "unreachable" or "failed",
      ("the chart repository %s cannot be used: %s"):format(name, reason(words))
  end },
  { "err updating helm repos", function(words)
    return unreachable(words) and "unreachable" or "failed", "a chart repository cannot be used: " .. reason(words)
  end },
  { "is forbidden: User", function(words)
    local what = words:match('(User ".-" cannot .-)%s*%f[\n\0]') or words
    return "denied", "the cluster does not allow it: " .. text.clean(what, LONGEST)
  end },
  { "must be logged in to the server", function()
    return "unauthorized", "the cluster does not accept the credentials of helmsman"
  end },
  { "[Uu]nauthorized", function() return "unauthorized", "somebody does not accept the credentials of helmsman" end },
  { "%$%S+ is used as an env variable but is currently unset", function(words)
    local name = words:match("(%$%S+) is used as an env variable")
    return "invalid", ("a desired state file uses %s, which is not set: no version of that name was handed over, and"
      .. " `env` does not have it"):format(name)
  end },
  { "error building the state from files: (.*)$", function(_, why)
    return "invalid", "the desired state files cannot be read: " .. text.clean(why, LONGEST)
  end },
  { "validation failed %-%-", function(words) return "invalid", text.clean(words, LONGEST) end },
  { "error loading env file", function(words) return "invalid", text.clean(words, LONGEST) end },
  { "helm (%w+) plugin is not installed/configured correctly", function(_, plugin)
    return "not_found", ("helmsman needs helm's %s plugin: install it where helm looks for plugins"):format(plugin)
  end },
  { "%f[%w](%w+) is not installed/configured correctly", function(_, tool)
    return "not_found", ("helmsman needs %s, and finds none in its PATH"):format(tool)
  end },
  { "missing information to create context", function(words) return "invalid", text.clean(words, LONGEST) end },
  { 'the namespace from the provided object "(.-)" does not match the namespace "(.-)"', function(_, other, own)
    return "unsupported", ("a chart has objects in namespace %s beside its own %s, which helmsman can compare only with"
      .. " helm's diff plugin: install it where helm looks for plugins"):format(other, own)
  end },
  { "timed out waiting", function(words) return "unhealthy", reason(words) end },
  { "context deadline exceeded", function(words)
    return unreachable(words) and "unreachable" or "unhealthy", reason(words)
  end },
}

local function judge(words)
  for _, rule in ipairs(RULES) do
    local first, second = words:match(rule[1])
    if first then return rule[2](words, first, second) end
  end
  if unreachable(words) then return "unreachable", "the cluster cannot be reached: " .. reason(words) end
end

-- The entries that decide: what went wrong first is what it is about. "Plan execution failed" only says that.
local function guilty(entries)
  local list = {}
  for _, entry in ipairs(entries) do
    local bad = entry.level == "ERROR" or entry.level == "CRITICAL"
    if bad and entry.text ~= "Plan execution failed" and entry.text ~= "chart validation failed" then
      list[#list + 1] = entry.text
    end
  end
  return list
end

---The error of a helmsman that failed.
---@param said string Both of its streams.
---@param how string "exit status 1", "SIGKILL"
---@param fields table For the error.
---@return Err err
function M.failure(said, how, fields)
  local entries = plans.entries(said)
  local bad = guilty(entries)
  for _, words in ipairs(bad) do
    local code, message = judge(words)
    if code then ---@cast message string
      local release = words:match("command for release %[(.-)%]")
      if release and not message:find("release " .. release, 1, true) then
        message = ("release %s: %s"):format(release, message)
      end
      return errors.new(code, "helmsman: " .. log.redact(message), fields)
    end
  end
  if #bad > 0 then
    local release = bad[1]:match("command for release %[(.-)%]")
    local words = release and ("release %s failed: %s"):format(release, reason(bad[1])) or text.clean(bad[1], LONGEST)
    return errors.new("failed", "helmsman: " .. log.redact(words), fields)
  end
  local loose = {}
  for _, entry in ipairs(entries) do loose[#loose + 1] = entry.text end
  local code, message = judge(table.concat(loose, "\n"))
  if code then return errors.new(code, "helmsman: " .. log.redact(assert(message)), fields) end
  local words = require("targets").last_words(said, 3)
  return errors.new("failed", ("helmsman ended with %s%s"):format(how,
    words ~= "" and "; it said: " .. words or " and said nothing"), fields)
end

return M
