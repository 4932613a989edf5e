-- fs.lock and fs.temp_dir: held until let go, by whatever way.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, proc, sys, task, time = require "fs", require "proc", require "base.sys", require "task", require "time"
local test, eq, ok, fails, raises = check.test, check.eq, check.ok, check.fails, check.raises

local function scratch()
  local dir = ok(fs.temp_dir { prefix = "moontide-hold-" })
  check.defer(function() dir:close() end)
  return dir.path
end

test("a lock keeps others of this process away until it is closed", function()
  local path = scratch() .. "/lock"
  local lock = ok(fs.lock(path))
  eq(fails("busy", fs.lock(path)).target, path)
  fails("busy", fs.lock(path, { shared = true }))
  lock:close()
  lock:close()
  do
    local again <close> = ok(fs.lock(path))
    ok(again)
  end
  local one <close> = ok(fs.lock(path, { shared = true }))
  local two <close> = ok(fs.lock(path, { shared = true }))
  ok(one and two)
  fails("busy", fs.lock(path))
  fails("not_found", fs.lock(path .. "/below"))
end)

test("a lock keeps other processes away and ends with a killed one", function()
  local dir = scratch()
  ok(fs.write(dir .. "/holder.lua", [[
    local fs, time = require "fs", require "time"
    local lock = assert(fs.lock(...))
    print("held", lock)
    time.sleep(600)
  ]]))
  local holder <close> = ok(proc.spawn { sys.exe(), "exec", dir .. "/holder.lua", dir .. "/lock" })
  check.has(holder:read(), "held")
  fails("busy", fs.lock(dir .. "/lock"))
  holder:kill "KILL"
  ok(holder:wait())
  local lock <close> = ok(fs.lock(dir .. "/lock"))
  ok(lock)
end)

test("of many who want it, one has it at a time", function()
  local path = scratch() .. "/lock"
  local inside, most, turns = 0, 0, 0
  local jobs = {}
  for i = 1, 20 do
    jobs[i] = function()
      while true do
        local lock <close> = fs.lock(path)
        if lock then
          inside = inside + 1
          most = math.max(most, inside)
          time.sleep(0.001)
          inside = inside - 1
          turns = turns + 1
          return true
        end
        time.sleep(0.002)
      end
    end
  end
  task.all(jobs)
  eq(most, 1)
  eq(turns, 20)
end)

test("a child does not inherit a lock", function()
  local path = scratch() .. "/lock"
  local lock = ok(fs.lock(path))
  local child <close> = ok(proc.spawn { "sleep", "60" })
  lock:close()
  local again <close> = ok(fs.lock(path))
  ok(again and child)
end)

test("a temporary directory is ours alone and goes with everything in it", function()
  local path
  do
    local dir <close> = ok(fs.temp_dir { prefix = "moontide-x-" })
    path = dir.path
    check.has(path, "/moontide-x-")
    eq(ok(fs.stat(path)).mode, 448)
    ok(fs.mkdir(path .. "/a/b", { parents = true }))
    ok(fs.write(path .. "/a/b/f", "x"))
  end
  eq(fs.exists(path), false) -- at once
  local gone = path:gsub("[^/]*$", ".gone-%0")
  check.eventually(function() return fs.exists(gone) == false end)
  raises("unknown option", fs.temp_dir, { prefx = "a" })
  raises("prefix", fs.temp_dir, { prefix = "../a" })
  fails("not_found", fs.temp_dir { dir = "/proc/nonexistent" })
end)

test("a temporary directory of a killed host goes with the next one made beside it", function()
  local dir = scratch()
  ok(fs.write(dir .. "/script.lua", [[
    local fs, time = require "fs", require "time"
    local temp = assert(fs.temp_dir { dir = ... })
    assert(fs.write(temp.path .. "/f", "x"))
    print(temp.path)
    time.sleep(600)
  ]]))
  ok(fs.mkdir(dir .. "/top"))
  local function start()
    local host = ok(proc.spawn { sys.exe(), "exec", dir .. "/script.lua", dir .. "/top" })
    local said = ok(host:read())
    return host, said:match "^[^\n]+"
  end
  local first, gone = start()
  first:kill "KILL"
  first:wait()
  eq(fs.exists(gone), true)
  local second, kept = start()
  eq(fs.exists(gone), false)
  local third = start()
  eq(fs.exists(kept), true) -- its host lives
  second:close()
  third:close()
end)

test("a forgotten temporary directory and lock go with the collector", function()
  local dir = scratch()
  local path = ok(fs.temp_dir { dir = dir }).path
  ok(fs.lock(dir .. "/lock"))
  check.eventually(function()
    local garbage = {}
    for i = 1, 20000 do garbage[i] = { i } end
    local lock = fs.lock(dir .. "/lock")
    if lock then lock:close() end
    return #garbage > 0 and lock and not fs.exists(path)
  end, 20)
end)

test("a host that ends takes its temporary directories along", function()
  local dir = scratch()
  ok(fs.write(dir .. "/script.lua", [[
    local fs, task, time = require "fs", require "task", require "time"
    local top = ...
    local one = assert(fs.temp_dir { dir = top, prefix = "left-" })
    assert(fs.write(one.path .. "/f", "x"))
    task.spawn(function()
      local two <close> = assert(fs.temp_dir { dir = top, prefix = "left-" })
      assert(fs.mkdir(two.path .. "/d"))
      time.sleep(600)
    end)
    time.sleep(0.1)
    print(one.path)
  ]]))
  ok(proc.check(proc.run { sys.exe(), "exec", dir .. "/script.lua", dir }))
  for _, name in ipairs((ok(fs.list(dir)))) do
    ok(not name:find "left-", name)
  end
end)
