-- Every allocation that HTTP requests need, failed in turn: in our rooms, in Lua, in libuv. libcurl's own memory is
-- its own business (its torture tests), except that it must not be left behind.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local fs, http, proc, sys = require "fs", require "http", require "proc", require "base.sys"
local sweep = require "lib.sweep"

local server <close> = assert(proc.spawn { sys.exe():gsub("/[^/]+$", "") .. "/fixture/httpd" })
local base = "http://127.0.0.1:" .. assert(server:read("stdout")):match("^port (%d+)")
local function to(path, query) return base .. "/" .. path .. "?" .. (query or "") end

local scratch <close> = assert(fs.temp_dir { prefix = "moontide-fault-" })
local file = scratch.path .. "/body"
assert(fs.write(file, ("x"):rep(100000), { sync = false }))

sweep.run("http.get", function()
  local answer = http.get(to("etag"))
  return answer and answer.body == "first" and answer.headers.etag == '"v1"'
end)

sweep.run("http.get with all that goes into a head", function()
  local answer = http.get(to("etag"), {
    headers = { ["X-A"] = { "1", "2" }, Accept = "a/b" }, auth = { user = "u", password = "p" }, etag = '"v1"',
  })
  return answer and answer.status == 304
end)

sweep.run("http.request, with times", function()
  local answer = http.request {
    method = "PUT", url = to("echo"), body = "text", timeout = 20, connect_timeout = 10,
  }
  return answer and answer.body:find("text", 1, true)
end)

sweep.run("a request that takes too long", function()
  local _, err = http.get(to("delay", "ms=60000"), { timeout = 0.02 })
  return err and err.code == "timeout"
end)

sweep.run("http.get over a connection that nobody serves", function()
  local _, err = http.get("http://127.0.0.1:1/", { timeout = 5 })
  return err and err.code == "refused"
end)

sweep.run("http.get of what is no address", function()
  local _, err = http.get "http://[::1"
  return err and err.code == "invalid"
end)

sweep.run("http.stats", http.stats)

sweep.run("http.post", function()
  local answer = http.post(to("echo"), { key = "value" })
  return answer and answer.body:find('{"key":"value"}', 1, true)
end)

sweep.run("http.put of a file, to a sink", function()
  local answer = http.put(to("echo"), nil, { body_file = file, sink = scratch.path .. "/out" })
  return answer and answer.status == 200
end)

sweep.run("a redirect to another origin", function()
  local answer = http.get(to("redirect", "to=" .. to("etag"):gsub("127.0.0.1", "localhost")), {
    headers = { Cookie = "c" }, auth = { bearer = "b" },
  })
  return answer and answer.body == "first"
end)

sweep.run("a stream of lines", function()
  local answer <close> = http.get(to("lines", "n=50"), { stream = true })
  if not answer then return nil end
  local n = 0
  for _ in answer:lines() do n = n + 1 end
  return n == 50
end)

sweep.run("a request that is sent elsewhere, believing anybody", function()
  local answer = http.get("http://example.com:1/etag", { connect_to = base:match("//(.+)$"), insecure = true })
  return answer and answer.body == "first"
end)

sweep.run("a body over its limit", function()
  local _, err = http.get(to("bytes", "n=5000"), { max_body = 100 })
  return err and err.code == "too_large"
end)

for _, name in ipairs(assert(fs.list(scratch.path))) do
  assert(name == "body" or name == "out", name .. " was left behind")
end
