-- Commands of policies: what proc.run may be given in a run, and what the journal keeps of it.
--
-- A watch runs none. In a run a command is a step. It begins in the app's own folder, with PATH, LANG, what the call
-- gives it in `env`, and those of the host's variables that the app's configuration names in its own `env`. It is a
-- program like any other, with the rights of the host's user: a policy that runs commands may do what that user may.
local files = require "policy.effects.files"
local hash, log, sys = require "hash", require "log", require "base.sys"

local M = {}

local STREAMS <const> = { "stdin", "stdout", "stderr" }

-- Variables whose values are credentials, by their names: what a command prints of them is redacted.
local function is_secret(name)
  local upper = name:upper()
  for _, word in ipairs { "TOKEN", "PASSWORD", "PASSWD", "SECRET", "KEY", "CREDENTIAL" } do
    if upper:find(word, 1, true) then return true end
  end
  return false
end

-- A stream's file, below the app's folder.
local function stream_of(c, name, value)
  if value == "inherit" then
    error(("proc.run: option '%s' = \"inherit\" would write into the host's own output"):format(name), 4)
  end
  if type(value) ~= "table" then return value end
  local copy = {}
  for k, v in next, value do copy[k] = v end
  if type(copy.file) == "string" then
    copy.file = files.below(c.place, copy.file, ("proc.run: option '%s'"):format(name))
  end
  return copy
end

---Puts what a policy asks for into bounds.
---@async
---@param c Context
---@param spec any
---@return any spec
function M.prepare(c, spec)
  if type(spec) ~= "table" then return spec end -- proc.lua says what is wrong with it
  local copy, place = {}, assert(c.place)
  for k, v in next, spec do copy[k] = v end
  if copy.inherit ~= nil then
    error("proc.run: name the host's variables in the app's `env` in the configuration, not in 'inherit'", 3)
  end
  for _, name in ipairs(STREAMS) do copy[name] = stream_of(c, name, copy[name]) end
  if copy.cwd == nil then
    copy.cwd = place:folder()
  elseif type(copy.cwd) == "string" then
    copy.cwd = files.below(place, copy.cwd, "proc.run: option 'cwd'")
  end
  copy.inherit = place.app_config.env
  for _, name in ipairs(copy.inherit or {}) do
    local value = is_secret(name) and sys.env(name)
    if value and #value >= 8 then log.secret(value) end
  end
  return copy
end

---What the journal keeps of a command.
---@param spec any As the policy gave it.
---@return table asked
function M.asked(spec)
  if type(spec) ~= "table" then return {} end
  local argv, options, names = {}, {}, {}
  for k, v in next, spec do
    if math.type(k) == "integer" then
      argv[k] = v
    elseif k == "stdin" and type(v) == "string" then
      options.stdin = hash.sha256(v)
    elseif k ~= "env" and k ~= "on_line" then
      options[k] = v
    end
  end
  for name in next, type(spec.env) == "table" and spec.env or {} do names[#names + 1] = tostring(name) end
  table.sort(names)
  if #names > 0 then options.env = names end
  return { command = argv, options = next(options) ~= nil and options or nil }
end

-- Calls fn for each line of a text.
local function each_line(text, stream, fn)
  for line in (text or ""):gmatch "([^\n]*)\n?" do
    if line ~= "" then fn((line:gsub("\r$", "")), stream) end
  end
end

---Runs a command as a step. `on_line` is called when it has ended, from what the journal has of it: a run that is gone
---through again sees the same lines.
---@async
---@param c Context
---@param spec any
---@param fn fun(spec: any): ProcResult?, Err?
---@return ProcResult?
---@return Err? err
---@return_overload nil, Err
function M.step(c, spec, fn)
  local prepared = M.prepare(c, spec)
  local on_line = type(prepared) == "table" and prepared.on_line
  if type(on_line) == "function" then prepared.on_line = nil end
  local result, err = assert(c.steps):perform("proc.run", M.asked(spec), function() return fn(prepared) end, "acts")
  if result and type(on_line) == "function" then
    each_line(result.stdout, "stdout", on_line)
    each_line(result.stderr, "stderr", on_line)
  end
  return result, err
end

return M
