-- What every command needs: its words, its outputs, the configuration, the running host.

local errors = require "errors"
local sys = require "base.sys"
local term = require "people.terminal"

local M = {}

---@class CommandContext
---@field flags table<string, any>
---@field args table<string|integer, string> by name; the numbered ones are the words
---@field rest string[] what belongs to a script
---@field out Output
---@field err Output
---@field json boolean
local Context = {}
Context.__index = Context

local DEFAULT_STATE = "/var/lib/moontide"

---Makes a context.
---@param flags table<string, any>
---@param args string[]
---@return CommandContext
function M.new(flags, args)
  local json = flags.output == "json"
  return setmetatable({
    flags = flags,
    args = args,
    rest = {},
    json = json,
    out = term.open(1, json and { color = false } or nil),
    err = term.open(2, json and { color = false } or nil),
  }, Context)
end

---Prints data as one line of JSON.
---@param value any
function Context:print_json(value)
  self.out:line(require("people.control.wire").encode(value))
end

---Says on the error output what is wrong.
---@param message string
---@param suggestion? string
function Context:complain(message, suggestion)
  if self.json then
    self.err:line(require("people.control.wire").encode({
      error = { code = "invalid", message = message, suggestion = suggestion },
    }))
    return
  end
  self.err:line(("%s %s%s"):format(self.err:paint("red", "moontide:"), term.clean(message),
    suggestion and (" (%s)"):format(term.clean(suggestion)) or ""))
end

---Prints an error of several lines, such as one with its traceback.
---@param text string
function Context:trouble(text)
  if self.json then return self:complain(text) end
  for line in text:gmatch("[^\n]+") do
    local indent = line:match("^%s*") or ""
    self.err:line(indent:gsub("\t", "    ") .. term.clean((line:gsub("^%s+", ""))))
  end
end

---Says that something failed and gives the exit code for it.
---@param err Err
---@return integer exit_code
function Context:fail(err)
  if self.json then
    self.err:line(require("people.control.wire").encode({ error = errors.plain(err), faults = err.faults }))
  else
    local message, target = errors.is(err) and err.message or tostring(err), errors.is(err) and err.target
    if target and not message:find(target, 1, true) then message = target .. ": " .. message end
    self:complain(message)
    for _, fault in ipairs(err.faults or {}) do self:show_fault(fault) end
  end
  return err.down and 3 or 1
end

---Prints a fault of the configuration or a policy.
---@param fault Fault
function Context:show_fault(fault)
  local where = fault.line and ("%s:%d"):format(fault.file, fault.line) or fault.file
  local text = fault.path and ("%s: %s"):format(fault.path, fault.message) or fault.message
  self.err:line(("%s %s%s"):format(self.err:paint("bold", term.clean(where) .. ":"), term.clean(text),
    fault.suggestion and self.err:paint("dim", (" (%s)"):format(term.clean(fault.suggestion))) or ""))
end

---Finds and loads the configuration with the flags applied. Prints every fault.
---@async
---@return Config? config nil: the command ends with exit code 2
function Context:config()
  local config, faults = self:load_config()
  if config then return config end
  if self.json then
    self.err:line(require("people.control.wire").encode({
      error = { code = "invalid", message = "the configuration has faults" }, faults = faults,
    }))
  else
    for _, fault in ipairs(faults or {}) do self:show_fault(fault) end
  end
  return nil
end

---Loads the configuration without a word; again at each call.
---@async
---@return Config?
---@return Fault[]? faults
---@return table? partial
function Context:load_config()
  local config = require "config.load"
  local path = self.flags.config or config.find()
  if not path then
    return nil, { {
      file = config.places[1], message = "does not exist, and no other configuration was found",
      suggestion = "name one with --config FILE",
    } }
  end
  return config.load(path, { scripts = self.flags.scripts, state = self.flags.state })
end

---The folder of the host's state: from the flag, or from the configuration, however broken the rest of it is.
---@async
---@return string state
---@return Config? config when it has no faults
---@return string? the host's control socket; nil: the default path
function Context:state_dir()
  local fine, _, partial = self:load_config()
  local found = fine or partial
  local state = self.flags.state and require("config.load").absolute(self.flags.state) or found and found.state
    or DEFAULT_STATE
  local socket = found and (found.control or found.leader) and require("people.control").socket_path {
    state = state, control = found.control, leader = found.leader,
  } or nil
  return state, fine, socket
end

---The running host, through its control socket.
---@async
---@return Client
function Context:host()
  local state, _, socket = self:state_dir()
  return require("people.client").open(state, socket)
end

---Where status, history, why and logs come from: the running host, or else what it left in its state.
---@async
---@return Reader
function Context:reader()
  return require("people.client").reader(self:state_dir())
end

---Who gives an order, for the journal: user and machine.
---@return string
function Context.by()
  local user = sys.env("USER") or sys.env("LOGNAME") or ("uid %d"):format(sys.uid())
  return ("%s@%s"):format(user, sys.hostname())
end

return M
