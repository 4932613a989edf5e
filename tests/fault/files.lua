-- Every allocation that the file primitives need, failed in turn.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
local fs = require "fs"
local sweep = require "lib.sweep"

local scratch <close> = assert(fs.temp_dir { prefix = "moontide-fault-" })
local dir = scratch.path
local file = dir .. "/f"
assert(fs.write(file, "text", { sync = false }))

sweep.run("fs.read", function() return fs.read(file, { max = 100 }) == "text" end)
sweep.run("fs.read beneath a root", function() return fs.read("f", { root = dir }) == "text" end)
sweep.run("fs.write", function() return fs.write(dir .. "/w", "text", { sync = false }) end)
sweep.run("fs.append", function() return fs.append(dir .. "/a", "text") end)
sweep.run("fs.stat", function() return fs.stat(file) end)
sweep.run("fs.list", function() return fs.list(dir) end)
sweep.run("fs.walk", function()
  local count = 0
  for _ in fs.walk(dir) do count = count + 1 end
  return count > 0
end)
sweep.run("fs.mkdir and fs.remove", function()
  fs.remove(dir .. "/d", { recursive = true })
  return fs.mkdir(dir .. "/d/e/f", { parents = true }) and fs.remove(dir .. "/d", { recursive = true })
end)
sweep.run("fs.rename", function()
  fs.write(dir .. "/r", "", { sync = false })
  return fs.rename(dir .. "/r", dir .. "/s", { sync = false })
end)
sweep.run("fs.lock", function()
  local lock <close> = fs.lock(dir .. "/lock")
  return lock
end)
sweep.run("fs.temp_dir", function()
  local temp <close> = fs.temp_dir { dir = dir }
  return temp
end)
sweep.run("fs.watch", function()
  local watch <close> = fs.watch(dir)
  return watch and select(2, watch:wait(0.001)).code == "timeout"
end)
sweep.run("fs.join", function() return fs.join("/r", "a", "b") == "/r/a/b" end)
