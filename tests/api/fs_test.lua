-- fs: whole writes, bounded reads, and names from outside that stay inside.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: discard-returns -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, proc, task, time = require "fs", require "proc", require "task", require "time"
local test, eq, ok, fails, raises = check.test, check.eq, check.ok, check.fails, check.raises

local function scratch()
  local dir = ok(fs.temp_dir { prefix = "moontide-fs-" })
  check.defer(function() dir:close() end)
  return dir.path
end

local function link(target, path)
  ok(proc.check(proc.run { "ln", "-s", "--", target, path }))
end

test("writes and reads bytes as they are", function()
  local dir = scratch()
  local every = {}
  for i = 0, 255 do every[#every + 1] = string.char(i) end
  local bytes = table.concat(every)
  eq(ok(fs.write(dir .. "/f", bytes)), true)
  eq(ok(fs.read(dir .. "/f")), bytes)
  eq(ok(fs.write(dir .. "/f", "")), true)
  eq(ok(fs.read(dir .. "/f")), "")
  local big = bytes:rep(40000)
  ok(fs.write(dir .. "/big", big, { sync = false }))
  ok(ok(fs.read(dir .. "/big")) == big)
  eq((ok(fs.list(dir))), { "big", "f" })
end)

test("a write keeps the mode, or sets the one it is given", function()
  local path = scratch() .. "/f"
  ok(fs.write(path, "", { mode = 384 }))
  eq(ok(fs.stat(path)).mode, 384)
  ok(fs.write(path, "x"))
  eq(ok(fs.stat(path)).mode, 384)
  ok(fs.write(path, "x", { mode = 493 }))
  eq(ok(fs.stat(path)).mode, 493)
end)

test("readers of a file that is rewritten see the old or the new content, never a mixture", function()
  local path = scratch() .. "/f"
  local texts = { ("a"):rep(300000), ("b"):rep(200000) }
  ok(fs.write(path, texts[1]))
  local seen, over = 0, false
  local reader = task.spawn(function()
    while not over do
      local text = ok(fs.read(path))
      ok(text == texts[1] or text == texts[2], "a mixture of " .. #text .. " bytes")
      seen = seen + 1
    end
  end)
  for i = 1, 60 do ok(fs.write(path, texts[i % 2 + 1], { sync = false })) end
  over = true
  ok(select("#", reader:join()) == 0)
  ok(seen > 5)
end)

test("a read above its limit is refused, not cut", function()
  local path = scratch() .. "/f"
  ok(fs.write(path, ("x"):rep(1000)))
  fails("too_large", fs.read(path, { max = 999 }))
  eq(#ok(fs.read(path, { max = 1000 })), 1000)
  eq(ok(fs.read(path, { offset = 998, max = 5 })), "xx")
  eq(#ok(fs.read(path, { offset = 10, length = 5, max = 5 })), 5)
  eq(ok(fs.read(path, { offset = 5000 })), "")
  local big = scratch() .. "/sparse"
  ok(proc.check(proc.run { "truncate", "-s", "17M", big }))
  fails("too_large", fs.read(big)) -- the default is 16 MiB
  fails("too_large", fs.read("/proc/self/status", { max = 10 })) -- whose size is 0
end)

test("appends", function()
  local path = scratch() .. "/log"
  ok(fs.append(path, "a\n", { mode = 384 }))
  ok(fs.append(path, "b\n", { sync = true }))
  eq(ok(fs.read(path)), "a\nb\n")
  eq(ok(fs.stat(path)).mode, 384)
end)

test("lists in the order of bytes, with types", function()
  local dir = scratch()
  ok(fs.write(dir .. "/b", ""))
  ok(fs.write(dir .. "/B\n\xff", ""))
  ok(fs.mkdir(dir .. "/a"))
  link("nowhere", dir .. "/l")
  local names, types = ok(fs.list(dir))
  eq(names, { "B\n\xff", "a", "b", "l" })
  eq(types, { ["B\n\xff"] = "file", a = "dir", b = "file", l = "link" })
  fails("too_large", fs.list(dir, { max = 3 }))
  fails("not_found", fs.list(dir .. "/missing"))
  fails("not_found", fs.list(dir .. "/b"))
end)

test("walks a tree without following links", function()
  local dir = scratch()
  ok(fs.mkdir(dir .. "/a/b/c", { parents = true }))
  ok(fs.mkdir(dir .. "/empty"))
  ok(fs.write(dir .. "/a/b/f", ""))
  ok(fs.write(dir .. "/z", ""))
  link("..", dir .. "/a/up")
  local seen = {}
  for path, kind in fs.walk(dir) do seen[#seen + 1] = path .. ":" .. kind end
  eq(seen, { "a:dir", "a/b:dir", "a/b/c:dir", "a/b/f:file", "a/up:link", "empty:dir", "z:file" })
  eq(pcall(fs.walk, dir .. "/missing"), false)
  local count = 0
  for path in fs.walk(dir) do
    count = count + 1
    if path == "a" then ok(fs.remove(dir .. "/a", { recursive = true })) end -- vanishes under its feet
  end
  eq(count, 3)
end)

test("makes directories", function()
  local dir = scratch()
  fails("not_found", fs.mkdir(dir .. "/a/b"))
  ok(fs.mkdir(dir .. "/a/b", { parents = true, mode = 448 }))
  ok(fs.mkdir(dir .. "/a/b", { parents = true }))
  eq(ok(fs.stat(dir .. "/a/b")).mode, 448)
  fails("exists", fs.mkdir(dir .. "/a"))
  ok(fs.write(dir .. "/f", ""))
  fails("not_found", fs.mkdir(dir .. "/f/x", { parents = true }))
end)

test("removes files, empty directories and whole trees, and never what a link points at", function()
  local dir = scratch()
  ok(fs.mkdir(dir .. "/keep"))
  ok(fs.write(dir .. "/keep/f", "x"))
  ok(fs.mkdir(dir .. "/tree/sub", { parents = true }))
  link("../../keep", dir .. "/tree/sub/link")
  fails("exists", fs.remove(dir .. "/tree"))
  ok(fs.remove(dir .. "/tree", { recursive = true }))
  link("keep", dir .. "/link")
  ok(fs.remove(dir .. "/link", { recursive = true }))
  eq(ok(fs.read(dir .. "/keep/f")), "x")
  fails("not_found", fs.remove(dir .. "/link"))
end)

test("tells about files", function()
  local dir = scratch()
  ok(fs.write(dir .. "/f", "12345"))
  link("f", dir .. "/l")
  link("nowhere", dir .. "/dangling")
  local stat = ok(fs.stat(dir .. "/l"))
  eq(stat.type, "file")
  eq(stat.size, 5)
  ok(math.abs(stat.mtime - time.now()) < 60)
  eq(ok(fs.stat(dir .. "/l", { follow = false })).type, "link")
  eq(ok(fs.stat(dir)).type, "dir")
  eq(ok(fs.stat "/dev/null").type, "device")
  eq(fs.exists(dir .. "/l"), true)
  eq(fs.exists(dir .. "/dangling"), false)
  eq(fs.exists(dir .. "/f/below"), false)
  eq(fs.exists(dir .. "/none"), false)
end)

test("renames, and does not replace when told so", function()
  local dir = scratch()
  ok(fs.write(dir .. "/a", "a"))
  ok(fs.write(dir .. "/b", "b"))
  fails("exists", fs.rename(dir .. "/a", dir .. "/b", { replace = false }))
  ok(fs.rename(dir .. "/a", dir .. "/b"))
  eq(ok(fs.read(dir .. "/b")), "a")
  eq((ok(fs.list(dir))), { "b" })
  fails("not_found", fs.rename(dir .. "/a", dir .. "/c"))
end)

test("a root holds against every way out", function()
  local dir = scratch()
  local root, secret = dir .. "/root", dir .. "/secret"
  ok(fs.mkdir(root .. "/sub", { parents = true }))
  ok(fs.write(secret, "secret"))
  link("..", root .. "/up")
  link("../../secret", root .. "/sub/file")
  link("/etc", root .. "/etc")
  link("/proc/self/root/etc", root .. "/magic")
  local ways = { "../secret", "sub/../../secret", "up/secret", "sub/file", "etc/passwd", "magic/passwd", "/etc/passwd",
    secret, "./../secret", "sub//..//..//secret" }
  for _, way in ipairs(ways) do
    fails("denied", fs.read(way, { root = root }))
    fails("denied", fs.stat(way, { root = root }))
    fails("denied", fs.exists(way, { root = root }))
    fails("denied", fs.append(way, "x", { root = root }))
    fails("denied", fs.lock(way, { root = root }))
    if way ~= "sub/file" then -- that link itself is inside and may go
      fails("denied", fs.write(way, "x", { root = root }))
      fails("denied", fs.remove(way, { root = root, recursive = true }))
      fails("denied", fs.mkdir(way .. "/x", { root = root, parents = true }))
      fails("denied", fs.rename("sub", way .. "x", { root = root }))
      fails("denied", fs.rename(way, "sub/x", { root = root }))
    end
  end
  fails("denied", fs.list("up", { root = root }))
  eq(ok(fs.read(secret)), "secret")
  ok(fs.write("sub/file", "mine", { root = root })) -- replaces the link
  eq(ok(fs.read(root .. "/sub/file")), "mine")
  eq(ok(fs.read(secret)), "secret")
  ok(fs.write("sub/../sub/x", "fine", { root = root }))
  eq((ok(fs.list("sub", { root = root }))), { "file", "x" })
end)

test("a link that swings while we look never leads outside", function()
  local dir = scratch()
  local root = dir .. "/root"
  ok(fs.mkdir(root .. "/real", { parents = true }))
  ok(fs.mkdir(dir .. "/outside"))
  ok(fs.write(root .. "/real/f", "inside"))
  ok(fs.write(dir .. "/outside/f", "outside"))
  link("real", root .. "/a")
  link("../outside", root .. "/b")
  local swinging <close> = ok(proc.spawn { "sh", "-c", [[
    while :; do mv -T "$0/a" "$0/x"; mv -T "$0/b" "$0/a"; mv -T "$0/x" "$0/b"; done ]], root, stderr = "null" })
  local inside, denied = 0, 0
  local last = time.monotonic() + 50
  while (inside < 20 or denied < 20) and time.monotonic() < last do
    local text, err = fs.read("a/f", { root = root })
    if text then
      eq(text, "inside")
      inside = inside + 1
    else
      ok(err.code == "denied" or err.code == "not_found", err)
      denied = denied + (err.code == "denied" and 1 or 0)
    end
  end
  ok(inside > 0 and denied > 0 and swinging)
end)

test("join stays below its root, as text", function()
  eq(fs.join("/r", "a", "b/c"), "/r/a/b/c")
  eq(fs.join("/r/", "./a//b/../c"), "/r/a/c")
  eq(fs.join("/", "a"), "/a")
  eq(fs.join "r", "r")
  eq(fs.join("r", ""), "r")
  eq(fs.join("r", "...", "-x", "a b\n"), "r/.../-x/a b\n")
  fails("denied", fs.join("/r", ".."))
  fails("denied", fs.join("/r", "a/../../r"))
  fails("denied", fs.join("/r", "a", "..", ".."))
  fails("denied", fs.join("/r", "/etc"))
  fails("invalid", fs.join("/r", "a\0b"))
  raises("name 1 is a number", fs.join, "/r", 1)
  raises("usage", fs.join)
end)

test("mistakes raise, and blame the caller", function()
  raises("usage", fs.read)
  raises("NUL", fs.read, "a\0b")
  raises("NUL", fs.read, "a", { root = "/\0" })
  raises("did you mean 'root'", fs.read, "a", { rot = "/" })
  raises("option 'max' must be", fs.read, "a", { max = "1" })
  raises("negative", fs.read, "a", { offset = -1 })
  raises("usage", fs.write, "a")
  raises("mode", fs.write, "a", "", { mode = 65536 })
  raises("usage", fs.rename, "a")
  local _, raised = pcall(function() return (fs.read("a", { rot = 1 })) end)
  check.has(tostring(raised), "fs_test.lua:")
end)

test("only regular files are read; nothing makes us wait for ever", function()
  local dir = scratch()
  ok(proc.check(proc.run { "mkfifo", dir .. "/fifo" }))
  fails("invalid", fs.read(dir .. "/fifo"))
  fails("invalid", fs.append(dir .. "/fifo", "x"))
  fails("invalid", fs.read(dir))
  fails("invalid", fs.read "/dev/zero")
  ok(#ok(fs.read "/proc/self/status") > 100)
end)

test("other tasks go on while files are slow", function()
  local path = scratch() .. "/f"
  local ticks, over = 0, false
  local ticker = task.spawn(function()
    while not over do
      time.sleep(0.001)
      ticks = ticks + 1
    end
  end)
  local data = ("x"):rep(8 << 20)
  for _ = 1, 5 do ok(fs.write(path, data)) end
  over = true
  ticker:join()
  ok(ticks >= 10, "only " .. ticks .. " ticks")
end)

test("a cancelled task leaves no descriptor and no half file", function()
  local dir = scratch()
  local before = #ok(fs.list "/proc/self/fd")
  for i = 1, 50 do
    local writer = task.spawn(function() fs.write(dir .. "/f", ("x"):rep(100000), { sync = false }) end)
    local locker = task.spawn(function() fs.lock(dir .. "/lock") end)
    local maker = task.spawn(function() fs.temp_dir { dir = dir, prefix = "t" } end)
    if i % 2 == 0 then time.sleep(0) end
    writer:cancel()
    locker:cancel()
    maker:cancel()
  end
  check.eventually(function() return #ok(fs.list "/proc/self/fd") <= before end)
  check.eventually(function() -- what was made for nobody goes again
    for _, name in ipairs((ok(fs.list(dir)))) do
      if name ~= "f" and name ~= "lock" then return false end
    end
    return true
  end)
  local text = fs.read(dir .. "/f")
  ok(text == nil or #text == 100000)
  local lock <close> = ok(fs.lock(dir .. "/lock"))
  ok(lock)
end)
