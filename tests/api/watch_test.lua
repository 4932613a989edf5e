-- fs.watch: says that something changed, for directories and for files that others replace.
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, task, time = require "fs", require "task", require "time"
local test, eq, ok, fails, raises = check.test, check.eq, check.ok, check.fails, check.raises

local function scratch()
  local dir = ok(fs.temp_dir { prefix = "moontide-watch-" })
  check.defer(function() dir:close() end)
  return dir.path
end

local function holds(list, name)
  for _, item in ipairs(list) do
    if item == name then return true end
  end
end

test("names what changes in a directory, each once", function()
  local dir = scratch()
  local watch <close> = ok(fs.watch(dir))
  fails("timeout", watch:wait(0.02))
  for _ = 1, 20 do ok(fs.append(dir .. "/a", "x")) end
  ok(fs.write(dir .. "/b", "x"))
  time.sleep(0.05)
  local names = ok(watch:wait(100))
  ok(holds(names, "a") and holds(names, "b"))
  local count = 0
  for _, name in ipairs(names) do count = count + (name == "a" and 1 or 0) end
  eq(count, 1)
  fails("timeout", watch:wait(0.02))
  ok(fs.remove(dir .. "/a"))
  eq(ok(watch:wait(100)), { "a" })
end)

test("a file is followed through its replacements, also before it exists", function()
  local dir = scratch()
  local watch <close> = ok(fs.watch(dir .. "/config.lua"))
  ok(fs.write(dir .. "/other", "x"))
  fails("timeout", watch:wait(0.05))
  for i = 1, 3 do
    ok(fs.write(dir .. "/config.lua", tostring(i)))
    eq(ok(watch:wait(100)), { "config.lua" })
    time.sleep(0.02)
    watch:wait(0) -- what came late of the same write
  end
  ok(fs.remove(dir .. "/config.lua"))
  eq(ok(watch:wait(100)), { "config.lua" })
end)

test("a waiting task wakes when something changes", function()
  local dir = scratch()
  local watch <close> = ok(fs.watch(dir))
  local waiter = task.spawn(function() return (ok(watch:wait(100))) end)
  time.sleep(0.05)
  ok(fs.mkdir(dir .. "/sub"))
  eq(waiter:join(), { "sub" })
end)

test("a flood of names is cut and says so", function()
  local dir = scratch()
  local watch <close> = ok(fs.watch(dir))
  for i = 1, 400 do ok(fs.append(("%s/f%d"):format(dir, i), "")) end
  local names = ok(watch:wait(100))
  ok(#names <= 256)
  eq(names.overflow, true)
end)

test("closing wakes the waiting task; mistakes raise; what cannot be watched is an error", function()
  local watch = ok(fs.watch(scratch()))
  local waiter = task.spawn(function() return watch:wait() end)
  time.sleep(0.02)
  raises("another task", watch.wait, watch)
  watch:close()
  watch:close()
  local nothing, err = waiter:join()
  eq(nothing, nil)
  eq(err.code, "closed")
  raises("closed", watch.wait, watch)
  raises("NUL", fs.watch, "a\0")
  fails("not_found", fs.watch "/proc/nonexistent/file")
end)

test("a cancelled wait leaves the watch usable", function()
  local dir = scratch()
  local watch <close> = ok(fs.watch(dir))
  local waiter = task.spawn(function() watch:wait() end)
  time.sleep(0.02)
  waiter:cancel()
  waiter:join()
  ok(fs.write(dir .. "/x", ""))
  ok(#ok(watch:wait(100)) > 0)
end)

test("many watches leave no descriptors behind", function()
  local dir = scratch()
  local first <close> = ok(fs.watch(dir)) -- libuv keeps one inotify descriptor for all
  time.sleep(0.1) -- directories of the tests before are still being removed
  local before = #ok(fs.list "/proc/self/fd")
  for _ = 1, 200 do
    local watch <close> = ok(fs.watch(dir))
    ok(watch and first)
  end
  check.eventually(function() return #ok(fs.list "/proc/self/fd") <= before end)
end)
