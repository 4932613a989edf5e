-- Fails each allocation while a server opens, answers and streams: that request may fail, the next one works.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local errors, fs, http, serve, sys = require "errors", require "fs", require "http", require "serve", require "base.sys"
local time = require "time"

local failures = 0

local function complain(name, n, what)
  failures = failures + 1
  print(("not ok %s: allocation %d: %s"):format(name, n, tostring(what)))
end

-- Enough garbage to have it collected.
local function churn()
  for i = 1, 300 do local _ = ("x"):rep(100000 + i) end
end

local function descriptors() return #assert(fs.list "/proc/self/fd") end

local function handler(request)
  if request.path == "/stream" then
    return { body = function(write)
      for _ = 1, 20 do write(("x"):rep(10000)) end
    end }
  end
  return { headers = { ["X-A"] = "b" }, body = request.body .. "!" }
end

local function open() return serve.listen { port = 0, handler = handler } end

-- Opening, in a function of its own: the server must be garbage when the collector runs.
local function open_once(n)
  sys.fail_allocations(n)
  local fine, server, err = pcall(open)
  local left = sys.fail_allocations(0)
  if fine and server then
    server:close(0)
  elseif fine and not errors.is(err, "memory") and not errors.is(err, "full") then
    complain("serve.listen", n, err)
  end
  return left, fine
end

assert(open()):close(0)
churn()
time.sleep(0.1)
local before = descriptors()
for n = 1, 2000 do
  local left, fine = open_once(n)
  if n % 10 == 0 then churn() end
  time.sleep(0)
  if left > 0 and fine then
    print(("ok serve.listen: %d allocations"):format(n - 1))
    break
  end
end
churn()
time.sleep(0.1)
if descriptors() > before then complain("serve.listen", 0, "descriptors are left: " .. descriptors() - before) end

-- Answering
local server = assert(open())
local base = ("http://127.0.0.1:%d"):format(server.port)
for _, path in ipairs { "/", "/stream" } do
  local function ask() return http.post(base .. path, ("y"):rep(5000), { timeout = 5 }) end
  for n = 1, 5000 do
    sys.fail_allocations(n)
    local fine = pcall(ask)
    local left = sys.fail_allocations(0)
    local again, err = ask()
    if not again or again.status ~= 200 then
      complain("serve " .. path, n, again and again.status or err)
      break
    end
    if left > 0 and fine then
      print(("ok serve %s: %d allocations"):format(path, n - 1))
      break
    end
  end
end
server:close()

return failures > 0 and 1 or 0
