-- Saving, in the ways of editors and deployments: each is loaded once it is complete, and nothing else is.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, lab, proc, task, time, watcher = require "fs", require "lab", require "proc", require "task", require "time",
  require "engine.watcher"
local test, eq, ok = check.test, check.eq, check.ok

-- A stand-in host: each time that it is to load, it reads all that is there.
local function host(more)
  local dir = lab.dir()
  ok(fs.mkdir(dir .. "/scripts/shared", { parents = true }))
  lab.write(dir .. "/moontide.lua", "one")
  lab.write(dir .. "/scripts/staging.lua", "one")
  lab.write(dir .. "/scripts/shared/hours.lua", "one")
  local h = { dir = dir, loads = {}, shown = {} }
  h.config = { file = dir .. "/moontide.lua", scripts = dir .. "/scripts", watch = true }
  for key, value in pairs(more or {}) do h.config[key] = value(dir) end
  local function read(path) return (fs.read(path)) or false end
  local function load()
    local text = {
      config = read(h.config.file), staging = read(dir .. "/scripts/staging.lua"),
      hours = read(dir .. "/scripts/shared/hours.lua"),
    }
    h.loads[#h.loads + 1], h.now = text, text
    if h.on_load then h.on_load() end
  end
  -- Starts as if all had been saved while the host started, and goes on when that is loaded.
  function h.start()
    h.watching = task.spawn(watcher.run, {
      since = time.now() - 60, config = function() return h.config end, tried = function() return h.tried end,
      reload = load,
    })
    check.defer(function() h.watching:cancel() end)
    check.eventually(function() return h.now end)
    h.loads = {}
  end
  -- What is there last is what was loaded last.
  function h.loaded(key, text, what)
    check.eventually(function() return h.now and h.now[key] == text end, 10, what)
  end
  return h
end

local function run(dir, ...)
  local argv = { ... }
  argv.cwd, argv.env = dir, lab.env {
    GIT_AUTHOR_NAME = "t", GIT_AUTHOR_EMAIL = "t@localhost", GIT_COMMITTER_NAME = "t",
    GIT_COMMITTER_EMAIL = "t@localhost",
  }
  return ok(proc.check(proc.run(argv))).stdout
end

-- Without looks at other times only the system's events are left; with a rare event the looks are.
local function only_events()
  local before = watcher.LOOK
  watcher.LOOK = 3600
  check.defer(function() watcher.LOOK = before end)
end

local function only_looks()
  local before, real = watcher.LOOK, fs.watch
  watcher.LOOK = 0.05
  fs.watch = function() return require("errors").fail("unsupported", "not on this file system") end
  check.defer(function() watcher.LOOK, fs.watch = before, real end)
end

-- One way of saving each: a name, and what changes scripts/staging.lua to "two" in a folder.
local WAYS <const> = {
  { "a new file in its place", function(dir) lab.write(dir .. "/scripts/staging.lua", "two") end },
  { "vim: the old one moved aside, a new one written, a swap file beside", function(dir)
    local scripts = dir .. "/scripts/"
    lab.write(scripts .. ".staging.lua.swp", "b0VIM")
    lab.write(scripts .. "4913", "")
    ok(fs.remove(scripts .. "4913"))
    ok(fs.rename(scripts .. "staging.lua", scripts .. "staging.lua~"))
    lab.write(scripts .. "staging.lua", "two")
    ok(fs.remove(scripts .. "staging.lua~"))
    ok(fs.remove(scripts .. ".staging.lua.swp"))
  end },
  { "emacs: a link as a lock, an autosaved copy", function(dir)
    local scripts = dir .. "/scripts/"
    run(scripts, "ln", "-s", "ann@box.1234:1700000000", ".#staging.lua")
    lab.write(scripts .. "#staging.lua#", "two, not saved")
    lab.write(scripts .. "staging.lua", "two")
    ok(fs.remove(scripts .. "#staging.lua#"))
    ok(fs.remove(scripts .. ".#staging.lua"))
  end },
  { "in two parts", function(dir)
    run(dir, "truncate", "-s", "0", "scripts/staging.lua")
    ok(fs.append(dir .. "/scripts/staging.lua", "t"))
    ok(fs.append(dir .. "/scripts/staging.lua", "wo"))
  end },
  { "sed -i", function(dir) run(dir, "sed", "-i", "s/one/two/", "scripts/staging.lua") end },
  { "a folder that is exchanged", function(dir)
    ok(fs.mkdir(dir .. "/fresh"))
    lab.write(dir .. "/fresh/staging.lua", "two")
    ok(fs.rename(dir .. "/scripts", dir .. "/old"))
    ok(fs.rename(dir .. "/fresh", dir .. "/scripts"))
  end },
}

for _, way in ipairs(WAYS) do
  for mode, prepare in pairs { events = only_events, looks = only_looks } do
    test(("a save is loaded when it is complete: %s (%s)"):format(way[1], mode), function()
      prepare()
      local h = host()
      h.start()
      way[2](h.dir)
      h.loaded("staging", "two", way[1])
      for _, load in ipairs(h.loads) do ok(load.staging == "two", load.staging) end
      -- The next save is found as well.
      lab.write(h.dir .. "/scripts/staging.lua", "three")
      h.loaded("staging", "three")
    end)
  end
end

test("kubelet's way: what is mounted leads through a link that is replaced", function()
  only_events()
  local dir = lab.dir()
  local function publish(stamp, text)
    local folder = dir .. "/.." .. stamp
    ok(fs.mkdir(folder))
    for _, name in ipairs { "moontide.lua", "staging.lua" } do lab.write(folder .. "/" .. name, text) end
    run(dir, "ln", "-s", ".." .. stamp, "..data_tmp")
    ok(fs.rename(dir .. "/..data_tmp", dir .. "/..data"))
  end
  publish("2026_11_29_12_00_00.1", "one")
  for _, name in ipairs { "moontide.lua", "staging.lua" } do run(dir, "ln", "-s", "..data/" .. name, name) end
  local h = host()
  h.config.file, h.config.scripts = dir .. "/moontide.lua", dir
  h.start()
  publish("2026_11_29_12_01_00.2", "two")
  ok(fs.remove(dir .. "/..2026_11_29_12_00_00.1", { recursive = true }))
  h.loaded("config", "two")
  eq(#h.loads, 1)
  publish("2026_11_29_12_02_00.3", "three")
  ok(fs.remove(dir .. "/..2026_11_29_12_01_00.2", { recursive = true }))
  h.loaded("config", "three")
  eq(#h.loads, 2)
end)

test("git checkout of many files, and rsync, are one save", function()
  only_events()
  local h = host()
  local function git(...) return run(h.dir .. "/scripts", "git", ...) end
  git("init", "-q", "-b", "main")
  for i = 1, 200 do lab.write(("%s/scripts/p%03d.lua"):format(h.dir, i), "one") end
  git("add", "-A")
  git("commit", "-q", "-m", "one")
  git("checkout", "-q", "-b", "two")
  for i = 1, 200 do lab.write(("%s/scripts/p%03d.lua"):format(h.dir, i), "two") end
  lab.write(h.dir .. "/scripts/staging.lua", "two")
  git("add", "-A")
  git("commit", "-q", "-m", "two")
  git("checkout", "-q", "main")
  h.start()
  git("checkout", "-q", "two")
  h.loaded("staging", "two")
  eq(#h.loads, 1)
end)

test("what is no script of ours is not loaded for", function()
  local h = host()
  only_looks()
  h.start()
  local scripts = h.dir .. "/scripts/"
  for _, name in ipairs { ".staging.lua.swp", "#staging.lua#", "staging.lua~", ".#x.lua", "notes.txt", "a\1\xff\n" } do
    lab.write(scripts .. name, "x")
  end
  run(scripts, "mkfifo", "pipe")
  run(scripts, "ln", "-s", "nowhere", "dangling")
  run(scripts, "ln", "-s", ".", "myself")
  lab.write(scripts .. "staging.lua", "two")
  h.loaded("staging", "two")
  for _, load in ipairs(h.loads) do eq(load.staging, "two") end
end)

test("an editor that writes for ever does not keep a save back for ever", function()
  local longest = watcher.LONGEST
  watcher.LONGEST = 0.5
  check.defer(function() watcher.LONGEST = longest end)
  local h = host()
  h.start()
  local writing = task.spawn(function()
    for i = 1, 1000000 do
      lab.write(h.dir .. "/scripts/other.lua", tostring(i))
      time.sleep(0.02)
    end
  end)
  check.defer(function() writing:cancel() end)
  lab.write(h.dir .. "/scripts/staging.lua", "two")
  h.loaded("staging", "two")
end)

test("1,000 files, a deleted one, one without permissions, one that is a folder", function()
  local h = host()
  for i = 1, 1000 do lab.write(("%s/scripts/p%04d.lua"):format(h.dir, i), "one") end
  h.start()
  ok(fs.remove(h.dir .. "/scripts/staging.lua"))
  h.loaded("staging", false)
  ok(fs.mkdir(h.dir .. "/scripts/staging.lua"))
  local before = #h.loads
  run(h.dir, "chmod", "0", "scripts/p0500.lua")
  check.eventually(function() return #h.loads > before end)
end)

test("what the refused configuration names is watched, too", function()
  only_events()
  local h = host()
  h.start()
  ok(fs.mkdir(h.dir .. "/others"))
  h.on_load = function() h.tried = { file = h.config.file, scripts = h.dir .. "/others" } end
  lab.write(h.dir .. "/moontide.lua", "two")
  h.loaded("config", "two")
  check.eventually(function() return #h.loads == 2 end) -- the new folder is one thing more to look at
  lab.write(h.dir .. "/others/staging.lua", "x")
  check.eventually(function() return #h.loads == 3 end)
end)

test("nothing is loaded by itself where the configuration says so, and all of it when it does not any more", function()
  only_looks()
  local h = host()
  h.start()
  h.config.watch = false
  lab.write(h.dir .. "/scripts/staging.lua", "two")
  local looks, real = 0, fs.list
  fs.list = function(...)
    looks = looks + 1
    return real(...)
  end
  check.defer(function() fs.list = real end)
  check.eventually(function() return looks > 10 end)
  eq(#h.loads, 0)
  h.config.watch = true
  h.loaded("staging", "two")
  eq(#h.loads, 1)
end)
