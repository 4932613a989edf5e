-- Ground floor of the lab: scratch folders, ports, programs that run or serve, and the end of it all.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: inject-field, need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local errors, fs, proc, serve, sys, task, time =
  require "errors", require "fs", require "proc", require "serve", require "base.sys", require "task", require "time"

local M = {}

-- Debian's own programs first: another docker client further along may refuse what this engine needs.
local PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"

local closers = {} ---@type fun()[]

---Calls fn when the lab closes; last in, first out.
---@param fn fun()
function M.on_close(fn) closers[#closers + 1] = fn end

---Ends everything that the lab started and removes its scratch folder. May be called again. Raises when something
---would not go. Test files need not call it.
---@async
function M.close()
  local failure
  while #closers > 0 do
    local fn = table.remove(closers)
    local ok, err = pcall(fn)
    if not ok then failure = failure or err end
  end
  if failure then error(failure, 0) end
end

require("check").at_end(M.close)

-- Scratch -----------------------------------------------------------------------------------------------------

local PREFIX = "moontide-lab."
local scratch ---@type string?
local count = 0

local function temp() return (sys.env("TMPDIR") or "/tmp") end

---Removes what killed processes left: a folder whose lock nobody holds.
local function sweep()
  for _, name in ipairs((fs.list(temp())) or {}) do
    if name:sub(1, #PREFIX) == PREFIX then
      local path = temp() .. "/" .. name
      local lock = fs.exists(path .. "/lock") and fs.lock(path .. "/lock")
      if lock then
        require("lab.cage").sweep(path)
        fs.remove(path, { recursive = true })
        lock:close()
      end
    end
  end
end

local function open_scratch()
  sweep()
  local path = ("%s/%s%d.%s"):format(temp(), PREFIX, sys.pid(), require("hash").hex(require("hash").random(4)))
  assert(fs.mkdir(path, { mode = 448 })) -- 0700
  local lock = assert(fs.lock(path .. "/lock"))
  M.on_close(function()
    scratch = nil
    lock:close()
    assert(fs.remove(path, { recursive = true }))
  end)
  scratch = path
end

---A new empty folder, removed when the lab closes.
---@param name? string Part of its name, for people who look.
---@return string path
function M.dir(name)
  if not scratch then open_scratch() end
  count = count + 1
  local path = ("%s/%02d%s"):format(scratch, count, name and "-" .. name or "")
  assert(fs.mkdir(path))
  return path
end

---Writes a file, creating its folders.
---@param path string
---@param text string
---@param mode? integer
---@return string path
function M.write(path, text, mode)
  local dir = path:match("^(.*)/[^/]+$")
  if dir and not fs.exists(dir) then assert(fs.mkdir(dir, { parents = true })) end
  assert(fs.write(path, text, { mode = mode }))
  return path
end

-- Ports -------------------------------------------------------------------------------------------------------

local given = {}

local function answer_nothing() return { status = 204 } end

---A TCP port on loopback that nobody uses. Below the range from which the kernel serves outgoing connections, so
---that none of those takes it before its server does.
---@return integer port
function M.port()
  local hash = require "hash"
  for _ = 1, 200 do
    local a, b = hash.random(2):byte(1, 2)
    local port = 10000 + (a * 256 + b) % 20000
    if not given[port] then
      local server = serve.listen { address = "127.0.0.1", port = port, handler = answer_nothing }
      if server then
        server:close()
        given[port] = true
        return port
      end
    end
  end
  error("no free port on loopback")
end

-- Programs ----------------------------------------------------------------------------------------------------

---@return boolean
function M.is_root() return sys.uid() == 0 end

---The path of a program, nil when it is not installed.
---@param name string
---@return string?
function M.exists(name)
  for dir in PATH:gmatch("[^:]+") do
    if fs.exists(dir .. "/" .. name) then return dir .. "/" .. name end
  end
end

---A clean environment: nothing of the caller's own settings reaches a program of the lab.
---@param extra? table<string, string>
---@return table<string, string>
function M.env(extra)
  local env = { PATH = PATH, HOME = "/nonexistent", LANG = "C.UTF-8", TMPDIR = temp() }
  for k, v in pairs(extra or {}) do env[k] = v end
  return env
end

---Runs a program to its end; raises with its output when it fails.
---@async
---@param argv string[] With proc.run's options; env is completed by lab.env, timeout is 120 seconds.
---@return string stdout
function M.run(argv)
  local options = {}
  for k, v in pairs(argv) do options[k] = v end
  options.env = M.env(argv.env)
  options.timeout = argv.timeout or 120
  options.max_output = argv.max_output or 64 << 20
  local result, err = proc.run(options)
  if not result then error(err, 2) end
  if not result.ok then
    error(errors.new("exit", ("%s ended with %s: %s"):format(table.concat(argv, " "),
      result.signal or ("status %d"):format(result.code), result.stderr .. result.stdout), { op = "lab.run" }), 2)
  end
  return result.stdout
end

---Waits until fn() gives something true.
---@async
---@param what string
---@param seconds number
---@param fn fun(): any
---@return any
function M.eventually(what, seconds, fn)
  local last = time.monotonic() + seconds
  repeat
    local value = fn()
    if value then return value end
    time.sleep(0.02)
  until time.monotonic() > last
  error("gave up after " .. time.words(seconds) .. ": " .. what, 2)
end

---@class Service a program that serves until it is stopped
---@field name string
---@field log string file of its output
---@field pid integer
local Service = {}
Service.__index = Service

---The last bytes that it wrote.
---@return string
function Service:output()
  local text = fs.read(self.log, { max = 1 << 20 })
  return text and text:sub(-4000) or ""
end

---@return boolean
function Service:alive() return not self.ended end

---Ends it: SIGTERM, and SIGKILL when `grace` seconds did not suffice. Does nothing when it has ended.
---@async
---@param grace? number
function Service:stop(grace)
  if self.ended then return end
  local function gone() return self.ended end
  self.handle:kill("TERM")
  if not pcall(M.eventually, self.name .. " ends", grace or 10, gone) then
    self.handle:kill("KILL")
    M.eventually(self.name .. " ends after SIGKILL", 60, gone)
  end
end

---Starts a program that serves, and waits until ready() says so.
---@async
---@param options {name: string, argv: string[], dir: string, env?: table, ready?: (fun(): any), within?: number}
---@return Service
function M.start(options)
  local self = setmetatable({ name = options.name, log = options.dir .. "/" .. options.name .. ".log" }, Service)
  local argv = { table.unpack(options.argv) }
  argv.env, argv.cwd = M.env(options.env), options.dir
  argv.stdin, argv.stdout, argv.stderr = false, { file = self.log, append = true }, "stdout"
  self.handle = assert(proc.spawn(argv))
  self.pid = self.handle.pid
  M.on_close(function() self:stop() end)
  -- Whoever starts a server in a test keeps it beyond that test: its watcher belongs to nobody.
  task.start({ name = "lab." .. options.name, detached = true }, function()
    self.handle:wait()
    self.ended = true
  end)
  if options.ready then
    local ok, err = pcall(M.eventually, options.name .. " becomes ready", options.within or 100, function()
      if self.ended then error(options.name .. " ended early: " .. self:output(), 0) end
      return options.ready()
    end)
    if not ok then
      local output = self:output()
      self:stop(0.5)
      error(tostring(err) .. "\n" .. output, 2)
    end
  end
  return self
end

return M
