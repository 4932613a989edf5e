-- A moontide host of its own for a test: a configuration, a process, and ways to look at both.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local base = require "lab.base"
local fs, proc, sys = require "fs", require "proc", require "base.sys"

local M = {}

---@class LabHost
---@field dir string
---@field state string
---@field config string
---@field client Client
local Host = {}
Host.__index = Host

---@param text string The configuration, in Lua; "@DIR@" stands for the host's folder.
---@param options? {env?: table<string, string>, args?: string[]}
---@return LabHost
function M.new(text, options)
  local dir = base.dir("host")
  local self = setmetatable({
    dir = dir, state = dir .. "/state", config = dir .. "/moontide.lua", options = options or {},
  }, Host)
  self:configure(text)
  return self
end

---Writes the configuration again.
function Host:configure(text) base.write(self.config, (text:gsub("@DIR@", self.dir))) end

local function command(self, words)
  local argv = { sys.exe(), table.unpack(words) }
  for _, word in ipairs { "--config", self.config, "--state", self.state } do argv[#argv + 1] = word end
  for _, word in ipairs(self.options.args or {}) do argv[#argv + 1] = word end
  argv.env = self.options.env
  return argv
end

---Starts the host and waits until it answers.
---@async
function Host:start()
  local argv = command(self, { "run", "-o", "json" })
  argv.stdout, argv.stderr, argv.stdin = { file = self.dir .. "/host.log", append = true }, "stdout", false
  self.process = assert(proc.spawn(argv))
  base.on_close(function()
    if self.process then self.process:kill("KILL") end
  end)
  self.client = require("people.client").open(self.state)
  base.eventually("moontide answers", 100, function() return self.client:status() end)
  return self
end

---Runs one command against it.
---@async
---@param ... string
---@return ProcResult
function Host:command(...)
  local argv = command(self, { ... })
  argv.stderr, argv.timeout = "stdout", 120
  return assert(proc.run(argv))
end

---Sends a signal and waits for the end.
---@async
---@return ProcResult
function Host:stop(signal)
  self.process:kill(signal or "TERM")
  local result = assert(self.process:wait(40))
  self.process = nil
  return result
end

---@async
---@return EnvironmentStatus?
function Host:environment(name)
  local status = self.client:status()
  for _, e in ipairs(status and status.apps[1] and status.apps[1].environments or {}) do
    if e.name == name then return e end
  end
end

---Waits until an environment shows something.
---@async
function Host:until_(name, what, seconds, fn)
  local e
  local ok, err = pcall(base.eventually, ("%s: %s"):format(name, what), seconds, function()
    e = self:environment(name)
    return e and fn(e)
  end)
  if not ok then
    local state, words = e and e.state or "unknown", self:log():sub(-1500)
    error(("%s; it is %s; the host's last words:\n%s"):format(tostring(err), state, words), 0)
  end
  return e
end

---What the host said.
function Host:log() return assert(fs.read(self.dir .. "/host.log", { max = 64 << 20 })) end

return M
