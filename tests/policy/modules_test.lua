-- Shared modules: files of the scripts folder that policies require, in the same sandbox, pinned with the policy.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, policy, proc, sim = require "fs", require "policy.load", require "proc", require "sim"
require "engine" -- with the words of places and runs
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

-- A scripts folder with these files, by path.
local function folder(files)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local s = { dir = dir.path, path = dir.path .. "/scripts" }
  function s.write(path, text)
    local where = s.path .. "/" .. path
    assert(fs.mkdir(where:match("^(.*)/"), { parents = true }))
    assert(fs.write(where, text))
  end
  assert(fs.mkdir(s.path))
  for path, text in pairs(files) do s.write(path, text) end
  function s.faults(name)
    local _, faults = policy.load({ name or "staging" }, s.path)
    local list = {}
    for i, f in ipairs(faults or {}) do
      list[i] = ("%s:%s: %s%s"):format(
        f.file:gsub("^.*/scripts/", ""), f.line or "-", f.message:gsub("/tmp/.-/scripts/", "/scripts/"),
        f.suggestion and " (" .. f.suggestion .. ")" or "")
    end
    return list
  end
  return s
end

local HOURS <const> = [[
local M, count = {}, 0
function M.open(place) count = count + 1 return place.branch == "main", count end
return M
]]

local STAGING <const> = [[
local hours = require "shared.hours"
return policy {
  watch = function(place)
    local open, count = hours.open(place)
    return { key = ("%s %d"):format(open, count) }
  end,
  run = function(run, change) end,
}
]]

test("a policy requires files of the scripts folder, and each instance has its own", function()
  local s = folder { ["staging.lua"] = STAGING, ["shared/hours.lua"] = HOURS }
  local compiled = ok(policy.load({ "staging" }, s.path)).staging
  for _ = 1, 2 do
    local change = ok(policy.ask(compiled, { face = { branch = "main" } }, 5))
    eq(change.key, "true 1")
  end
  local hash = compiled.hash
  s.write("shared/hours.lua", HOURS .. "-- changed")
  ok(policy.load({ "staging" }, s.path).staging.hash ~= hash)
  s.write("shared/hours.lua", HOURS)
  eq(policy.load({ "staging" }, s.path).staging.hash, hash)
end)

test("modules require modules and the program's own, inside of functions, too; they are one in an instance", function()
  local s = folder {
    ["staging.lua"] = [[
      local a, b = require "shared.a", require("shared.deep.b_2")
      return policy {
        watch = function() return { key = ("%s %s %s"):format(a.b == b, b.json == require "json",
          require "shared.late".name) } end,
        run = function() end,
      }]],
    ["shared/a.lua"] = [[return { b = require "shared.deep.b_2" }]],
    ["shared/deep/b_2.lua"] = [[return { json = require "json" }]],
    ["shared/late.lua"] = [[return { name = ... }]],
  }
  local compiled = ok(policy.load({ "staging" }, s.path)).staging
  eq(ok(policy.ask(compiled, { face = {} }, 5)).key, "true true shared.late")
end)

local FAULTS <const> = {
  { "missing", {},
    "staging.lua:1: there is no module 'shared.hours' (it would be shared/hours.lua in the scripts folder)" },
  { "syntax error", { hours = "return {\n  a = = 1 }" }, "shared/hours.lua:2: unexpected symbol near '='" },
  { "raises", { hours = "local x = nil\nreturn x.y" }, "shared/hours.lua:2: attempt to index a nil value (local 'x')" },
  { "gives nothing", { hours = "local x = 1" },
    "staging.lua:1: the module shared.hours gives nothing: it ends with return { ... }" },
  { "is a policy", { hours = "return policy { watch = print, run = print }" },
    "shared/hours.lua:1: a shared module has no policy: it ends with return { ... }, and a policy requires it" },
  { "cycle", { hours = "return require 'shared.b'", b = "\nreturn require 'shared.hours'" },
    "shared/b.lua:2: modules require each other: shared.hours -> shared.b -> shared.hours" },
  { "hangs", { hours = "\nwhile true do end" }, "shared/hours.lua:2: " },
  { "a global", { hours = "function open() end\nreturn {}" },
    "shared/hours.lua:1: assignment to undeclared variable 'open': use local" },
  { "the library of another", { hours = "string.format = nil\nreturn require 'shared.b'",
    b = "return { open = ('x').len and string.format }" }, nil },
  { "reads at file level", { hours = "return { now = require('time').now() }" },
    "shared/hours.lua:1: time.now in a policy works inside watch and run" },
  { "too large", { hours = "return {} --" .. ("x"):rep(1 << 20) },
    "staging.lua:1: require \"shared.hours\": /scripts/shared/hours.lua is larger than 1024 KiB" },
  { "UTF-16", { hours = "\xFF\xFEr\0e\0" },
    "staging.lua:1: require \"shared.hours\": the file is UTF-16: save it as UTF-8" },
  { "a misspelt word", { hours = "return { open = function(place) return place:haed() end }" },
    "shared/hours.lua:1: a place has no 'haed' (did you mean head?)" },
  { "a misspelt word of a run", { hours = "return { open = function(run, image)\nrun:realease(image) end }" },
    "shared/hours.lua:2: a run has no 'realease' (did you mean release?)" },
  { "functions called run and watch", {
    hours = "return { open = print, run = function(x) return x.y end, watch = function(x) return x:z() end }" }, nil },
  { "an unknown name", { hours = "local M = {}\nfunction M.open() return whatever end\nreturn M" },
    "shared/hours.lua:2: there is nothing called 'whatever'" },
}

for _, case in ipairs(FAULTS) do
  test("a shared module with a fault: " .. case[1], function()
    local s = folder { ["staging.lua"] = STAGING }
    for name, text in pairs(case[2]) do s.write("shared/" .. name .. ".lua", text) end
    local faults = s.faults()
    if case[3] then
      eq(#faults, 1, table.concat(faults, "\n"))
      has(faults[1], case[3])
    else
      eq(faults, {})
    end
  end)
end

test("a misspelt function or name of a shared module is found without a run", function()
  local s = folder {
    ["staging.lua"] = [[
      local hours = require "shared.hours"
      return policy {
        watch = function(place)
          if hours.opne(place) then return require "shared.horus".open(place) end
          return require "jsno"
        end,
        run = function(run) return hours:open(), require "time.zones", require "Hours" end,
      }]],
    ["shared/hours.lua"] = HOURS,
  }
  local faults = s.faults()
  eq({ table.unpack(faults, 1, 4) }, {
    "staging.lua:4: shared.hours has no 'opne' (did you mean open?)",
    "staging.lua:4: there is no module 'shared.horus' (did you mean shared.hours?)",
    "staging.lua:5: there is no module 'jsno' (did you mean json?)",
    "staging.lua:7: there is no module 'time.zones': 'time' is a module of the program (give the folder another name)",
  })
  has(faults[5], "staging.lua:7: a policy cannot require 'Hours'")
end)

test("a file outside of the folder is no module, however it is reached", function()
  local s = folder { ["staging.lua"] = STAGING, ["shared/x.lua"] = "return {}" }
  assert(fs.write(s.dir .. "/outside.lua", HOURS))
  assert(proc.check(proc.run { "ln", "-s", s.dir .. "/outside.lua", s.path .. "/shared/hours.lua" }))
  eq(s.faults(), { "staging.lua:1: require \"shared.hours\": /scripts/shared/hours.lua leads out of the scripts "
    .. "folder, or may not be read" })
  assert(fs.remove(s.path .. "/shared/hours.lua"))
  s.write(".data/hours.lua", HOURS) -- as a mounted volume has it
  assert(proc.check(proc.run { "ln", "-s", "../.data/hours.lua", s.path .. "/shared/hours.lua" }))
  eq(s.faults(), {})
end)

test("only names that stand in the text are pinned: another one is no module", function()
  local s = folder {
    ["staging.lua"] = [[return policy {
      watch = function(place) return { key = require("shared." .. place.branch).name } end, run = function() end }]],
    ["shared/main.lua"] = "return { name = 'main' }",
  }
  local compiled = ok(policy.load({ "staging" }, s.path)).staging
  local _, err = policy.ask(compiled, { face = { branch = "main" } }, 5)
  has(err.message, "a policy cannot require 'shared.main'")
  has(err.message, "that stands in its text")
end)

test("a fault of a module that several policies require is told once", function()
  local s = folder { ["staging.lua"] = STAGING, ["other.lua"] = STAGING, ["shared/hours.lua"] = "return { = }" }
  local _, faults = policy.load({ "staging", "other" }, s.path)
  eq(#faults, 1, require("json").encode(faults))
end)

test("a run under way goes on with the modules that it began with, whatever becomes of the files", function()
  local s = folder {
    ["staging.lua"] = [[
      local words = require "shared.words"
      return policy {
        watch = function(place) return place:head() end,
        run = function(run)
          run:step("before", nil, function() return true end)
          run:step(words.name, nil, function() return true end)
        end,
      }]],
    ["production.lua"] = "return policy { watch = function() return nil, 'no' end, run = function() end }",
    ["shared/words.lua"] = [[return { name = "first" }]],
  }
  local world = sim.open(s.dir .. "/world")
  world:push("main", "a")
  local host
  local function open()
    host = sim.host(world, s.dir .. "/state", { scripts = s.path })
    check.defer(function() pcall(host.close, host) end)
  end
  open()
  sim.settle(host)
  eq(host.journal:run_by_id(1).state, "done")
  -- As after a crash before the last step.
  host.journal:write("UPDATE runs SET state = 'running', ended_at = NULL WHERE id = 1")
  host.journal:write("DELETE FROM steps WHERE run = 1 AND name = 'step first'")
  host:close()
  s.write("staging.lua", "return policy { watch = function() return nil, 'no' end, run = function() end }")
  assert(fs.remove(s.path .. "/shared/words.lua"))
  open()
  local text, name, modules = host.journal:policy_text(host.journal:run_by_id(1).policy_hash)
  has(text, "shared.words")
  eq({ name, modules["shared.words"].text }, { "staging", [[return { name = "first" }]] })
  host:lane(host:place("web", "staging")):kick()
  sim.settle(host)
  local names = {}
  for i, step in ipairs(host.journal:steps(1)) do names[i] = step.name end
  eq(host.journal:run_by_id(1).state, "done")
  eq(names[#names], "step first")
end)

test("a policy whose module changed is another one, for suspensions, too", function()
  local s = folder { ["staging.lua"] = STAGING, ["shared/hours.lua"] = HOURS }
  local hash = ok(policy.load({ "staging" }, s.path)).staging.hash
  local suspended = { staging = { kind = "load", app = "", environment = "", policy = "staging", hash = hash, ends = 3,
    at = 0 } }
  has(ok(policy.load({ "staging" }, s.path, suspended)).staging.suspended.message, "the policy staging is suspended")
  s.write("shared/hours.lua", HOURS .. "-- mended")
  eq(ok(policy.load({ "staging" }, s.path, suspended)).staging.suspended, nil)
end)

test("reload says that a policy changed when a module of it did", function()
  local s = folder { ["staging.lua"] = STAGING, ["shared/hours.lua"] = HOURS, ["production.lua"] = STAGING }
  local host = sim.host(sim.open(s.dir .. "/world"), s.dir .. "/state", { scripts = s.path })
  check.defer(function() host:close() end)
  s.write("shared/hours.lua", HOURS .. "-- changed")
  eq(ok(host:reload()).changed, { "policy production changed", "policy staging changed" })
  s.write("shared/hours.lua", "return {")
  local _, err = host:reload()
  has(err.faults[1].file, "shared/hours.lua")
end)
