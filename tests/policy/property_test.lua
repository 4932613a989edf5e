-- The property of durable runs: wherever a host is killed, at each journal write and each effect, the run that is
-- recovered leaves the world as an undisturbed one does, and never diverges. For every public word, one after the other
-- and in branches. A word without a case in fixture/words.lua fails the first test here.
--
-- No process is killed for it: what a kill would leave is copied at each of the places where the crash sweep may kill.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local editions, effects, fs, groups, json = require "fixture.editions", require "policy.effects", require "fs",
  require "fixture.words", require "json"
local proc, run_words, serve, sys = require "proc", require "policy.run", require "serve", require "base.sys"
local test, eq, ok = check.test, check.eq, check.ok

require("log").configure { level = "error", burst = 1 } -- the words of log are tried, too

test("every public word of runs and of the modules of policies has a case", function()
  local public, have = {}, {}
  for _, list in ipairs { run_words.words(), effects.names() } do
    for _, name in ipairs(list) do public[#public + 1] = name end
  end
  for _, group in ipairs(groups) do
    local n = 0
    for name in pairs(group.cases) do
      have[#have + 1], n = name, n + 1
    end
    ok(not group.order or #group.order == n, group.name .. " orders all of its cases")
  end
  table.sort(public)
  table.sort(have)
  eq(have, public)
end)

-- ---- the world ----

local APP <const> = "shop"
local at -- the folder of the world that is tried now
local address

-- A small server whose memory is the simulated world; it ends with the test.
local function start_server()
  local server = ok(serve.listen { port = 0, handler = function(request)
    local world, key, method = editions.world(at, APP), request.path, request.method
    if method == "PUT" or method == "POST" or method == "PATCH" then
      world:change(function(w)
        w.kv = w.kv or {}
        w.kv[key] = #request.body .. " bytes"
      end)
      return { body = { kept = key } }
    elseif method == "DELETE" then
      world:change(function(w) (w.kv or {})[key] = nil end)
      return { status = 204 }
    end
    return { status = key:find "^/nothing" and 404 or 200, body = key:find "^/number" and "[0.5]" or key }
  end })
  check.defer(function() server:close(0) end)
  address = "http://127.0.0.1:" .. server.port
end

local function policy_of(group, branches)
  local out = { ([[
local errors, fs, hash, http, json = require "errors", require "fs", require "hash", require "http", require "json"
local log, proc, semver, task, time, yaml = require "log", require "proc", require "semver", require "task",
  require "time", require "yaml"
local KV = %q
return policy { watch = function() return nil, "not in this test" end, run = function(run, change)
  local function see(...)
    local seen = table.pack(...)
    run:step("see", seen, function() return true end)
  end
  local fns = {}
]]):format(address) }
  local names = group.order
  if not names then
    names = {}
    for name in pairs(group.cases) do names[#names + 1] = name end
    table.sort(names)
  end
  for i, name in ipairs(names) do
    out[#out + 1] = ("  fns[%d] = function(id) -- %s\n    %s\n  end\n"):format(i, name, group.cases[name])
  end
  if not branches then
    out[#out + 1] = group.ordered and "  for _, fn in ipairs(fns) do fn('s') end\n"
      or "  for i, fn in ipairs(fns) do fn('s' .. i) end\n"
  else
    out[#out + 1] = group.ordered and "  local branches = { function() for _, fn in ipairs(fns) do fn('b') end end }\n"
      or "  local branches = {} for i, fn in ipairs(fns) do branches[i] = function() fn('b' .. i) end end\n"
    out[#out + 1] = [[
  branches[#branches + 1] = function() -- beside them
    for i = 1, 4 do
      run:sleep(0.002)
      run:step("beside", { i }, function() return math.random() end)
    end
  end
  run:all(branches)
]]
  end
  out[#out + 1] = "end }\n"
  return table.concat(out)
end

local function outcome(dir, host, run)
  local got = editions.outcome(dir, APP)
  got.kv = editions.world(dir, APP):look().kv
  got.files, got.releases = {}, {}
  local folder = dir .. "/state/files/" .. APP
  if fs.exists(folder) then
    for path, kind in fs.walk(folder) do
      got.files[path] = kind == "file" and #fs.read(folder .. "/" .. path) or kind
    end
  end
  for i, r in ipairs(host.journal:rows("SELECT state, version, digest, restored, adopted FROM releases ORDER BY id")) do
    got.releases[i] = r
  end
  got.state, got.error = run.state, run.error and run.error.message
  got.held = host.journal:hold_of(APP, "staging") ~= nil
  return json.encode(got)
end

-- What a kill at this moment would leave: the journal, the world, and the app's files.
local function copy(from, to)
  local state = to .. "/state"
  -- Read in one go: nothing else runs meanwhile.
  local kept = {}
  for _, name in ipairs { "/state/journal.db", "/state/journal.db-wal", ("/worlds/%s/world.json"):format(APP) } do
    kept[name] = sys.slurp(from .. name)
  end
  assert(fs.mkdir(state, { parents = true, mode = 448 }))
  assert(fs.mkdir(("%s/worlds/%s"):format(to, APP), { parents = true }))
  for name, text in pairs(kept) do assert(fs.write(to .. name, text, { sync = false })) end
  if fs.exists(from .. "/state/files") then
    assert(proc.check(proc.run { "cp", "-a", from .. "/state/files", state .. "/files" }))
  end
end

-- After each of these the journal or the world is another one; before them it is as after the last one.
local CHANGES <const> = {
  ["begin.after"] = true, ["intent.after"] = true, ["effect.after"] = true, ["outcome.after"] = true,
  ["value.after"] = true, ["park.after"] = true, ["unpark.after"] = true, ["release.after"] = true,
  ["adopt.after"] = true, ["finish.before"] = true,
}

-- Works on the run of a folder to its end. `visit` is called at each place where a kill would leave something new.
local function life(dir, story, visit)
  at = dir
  local host = editions.host(dir, APP, story)
  local killpoint, passes, visiting = sys.killpoint, 0, false
  function sys.killpoint(name)
    if not visit or visiting or at ~= dir or not CHANGES[name] then return end
    visiting, passes = true, passes + 1
    visit(passes, name)
    visiting = false
  end
  local fine, run = pcall(editions.finish, host, APP)
  sys.killpoint = killpoint
  local left = fine and outcome(dir, host, run) or "it did not end: " .. tostring(run)
  host:close()
  return left, passes
end

-- The parts that differ, as what they are and what they should be.
local function difference(got, want)
  local a, b = json.decode(got), json.decode(want)
  if not a then return got end
  local out = {}
  for _, side in ipairs { a, b } do
    for key in pairs(side) do
      local x, y = json.encode { a[key] }, json.encode { b[key] }
      if x ~= y then out[key] = ("%s is %s, should be %s"):format(key, x, y) end
    end
  end
  local lines = {}
  for _, line in pairs(out) do lines[#lines + 1] = line end
  return table.concat(lines, "; ")
end

local function try(group, branches)
  start_server()
  local scratch <close> = ok(fs.temp_dir())
  local base = scratch.path
  assert(fs.mkdir(base .. "/scripts"))
  assert(fs.write(base .. "/scripts/words.lua", policy_of(group, branches)))
  local story = {
    policy = "words", scripts = base .. "/scripts", everything = true, change = editions.two_releases,
  }
  local first = base .. "/0"
  assert(fs.mkdir(first))
  editions.begin(first, APP, story)
  local kills = {}
  local want, passes = life(first, story, function(n, name)
    kills[n] = name
    copy(first, ("%s/%d"):format(base, n))
  end)
  eq(json.decode(want).state, "done", want)
  ok(passes > 2 * #kills / 3)
  local faults = {}
  for n, name in ipairs(kills) do
    local dir, again = ("%s/%d"):format(base, n), n % 7 == 3 and ("%s/again-%d"):format(base, n) or nil
    local got = life(dir, story, again and function(pass)
      if pass == n % 5 + 1 then copy(dir, again) end
    end)
    if got ~= want then faults[#faults + 1] = ("killed at %d, %s: %s"):format(n, name, difference(got, want)) end
    if again and fs.exists(again .. "/state") then
      got = life(again, story)
      if got ~= want then
        faults[#faults + 1] = ("killed at %d, %s, and at %d: %s"):format(n, name, n % 5 + 1, difference(got, want))
      end
    end
    if #faults > 5 then break end
    fs.remove(dir, { recursive = true }) -- what is still being written there goes with all of it
  end
  eq(faults, {})
end

for _, group in ipairs(groups) do
  test("killed anywhere, nothing differs: " .. group.name, function() try(group, false) end, 300)
  test("killed anywhere, nothing differs: " .. group.name .. ", in branches", function() try(group, true) end, 300)
end
