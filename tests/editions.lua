-- Makes the fixture of an edition of the words: the journal of a released Moontide with a run of each shipped policy
-- interrupted at each of its steps, and the worlds around them.
--
--   PROGRAM exec tests/editions.lua N     writes tests/fixture/editions/N.sql and N.json
--
-- PROGRAM is a debug build (with kill points) of the release whose edition N is. Each interrupted run is an app by
-- itself; its host is killed right after the journal knew of a step and before it knew how the step ended, or right
-- after a value was recorded. Once made, a fixture is never made again.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
local editions, fs, json, proc, store, sys = require "fixture.editions", require "fs", require "json", require "proc",
  require "store", require "base.sys"

local edition, app, name, dir = ...

if app then -- one life of a host
  local story = editions.stories[name]
  local host = editions.host(dir, app, story)
  editions.finish(host, app)
  return 0
end

assert(math.tointeger(tonumber(edition)), "usage: moontide exec tests/editions.lua N")
local scratch <close> = assert(fs.temp_dir())

local function life(at, called, story, env)
  return assert(proc.run { sys.exe(), "exec", "tests/editions.lua", edition, called, story, at, env = env,
    timeout = 60, stderr = "stdout" })
end

local AT <const> = { ["begin.after"] = true, ["intent.after"] = true, ["value.after"] = true }

local names, about = {}, {}
for story in pairs(editions.stories) do names[#names + 1] = story end
table.sort(names)
for _, story in ipairs(names) do
  local whole = scratch.path .. "/" .. story
  editions.begin(whole, story, editions.stories[story])
  local log = whole .. "/passes"
  local ended = life(whole, story, story, { MOONTIDE_KILLPOINT_LOG = log })
  assert(ended.ok, ended.stdout)
  local expected, n = editions.outcome(whole, story), 0
  local db <close> = assert(store.open(whole .. "/state/journal.db"))
  local state = db:row("SELECT state FROM runs ORDER BY id DESC LIMIT 1").state
  local pass = 0
  for line in assert(fs.read(log)):gmatch("[^\n]+") do
    pass = pass + 1
    if AT[line] then
      n = n + 1
      local called = ("%s-%d"):format(story, n)
      editions.begin(scratch.path, called, editions.stories[story])
      local killed = life(scratch.path, called, story, { MOONTIDE_KILLPOINT = "*:" .. pass })
      assert(killed.signal == "SIGKILL", killed.stdout)
      about[#about + 1] = {
        app = called, story = story, state = state, expected = expected, killed = ("%s, pass %d"):format(line, pass),
        world = assert(fs.read(("%s/worlds/%s/world.json"):format(scratch.path, called))),
      }
    end
  end
  print(("%s: interrupted %d times"):format(story, n))
end

local out = { "-- Made by tests/editions.lua with the release whose edition this is; never edited.\n" }
local db <close> = assert(store.open(scratch.path .. "/state/journal.db"))
for _, part in ipairs(db:rows([[SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'
  ORDER BY type = 'index', name]])) do
  out[#out + 1] = part.sql .. ";\n"
end
for _, t in ipairs(db:rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")) do
  local columns, quoted = {}, {}
  for i, column in ipairs(db:rows(("PRAGMA table_info(%s)"):format(t.name))) do
    columns[i] = '"' .. column.name .. '"'
    quoted[i] = ("quote(%s)"):format(columns[i])
  end
  for _, row in ipairs(db:rows(("SELECT %s AS row FROM %s"):format(table.concat(quoted, " || ',' || "), t.name))) do
    out[#out + 1] = ("INSERT INTO %s VALUES (%s);\n"):format(t.name, row.row)
  end
end
out[#out + 1] = ("PRAGMA user_version = %d;\n"):format(db:row("PRAGMA user_version").user_version)
local base = "tests/fixture/editions/" .. edition
assert(fs.write(base .. ".sql", table.concat(out)))
assert(fs.write(base .. ".json", json.encode(about) .. "\n"))
return 0
