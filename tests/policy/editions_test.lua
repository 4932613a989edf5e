-- Runs that began under a released edition of the words: the present program finishes each of them, from each of its
-- steps, and the world is as if nothing had happened. The journals were made by those releases (tests/editions.lua).
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local editions, fs, json, steps, store, time = require "fixture.editions", require "fs", require "json",
  require "policy.steps", require "store", require "time"
local test, eq, ok = check.test, check.eq, check.ok

local FOLDER <const> = "tests/fixture/editions/"

-- The journal of a release, as if its host had died a moment ago.
local function restore(dir, edition)
  assert(fs.mkdir(dir .. "/state", { parents = true, mode = 448 }))
  local db <close> = assert(store.open(dir .. "/state/journal.db"))
  assert(db:exec(assert(fs.read(FOLDER .. edition .. ".sql", { max = 16 << 20 }))))
  local then_ = db:row("SELECT max(started_at) AS at FROM steps").at
  assert(db:run("UPDATE approvals SET deadline = deadline + ?", time.now() - then_))
end

local function finish_all(edition)
  local scratch <close> = ok(fs.temp_dir())
  local dir = scratch.path
  restore(dir, edition)
  local told, faults = json.decode(assert(fs.read(FOLDER .. edition .. ".json", { max = 16 << 20 }))), {}
  ok(#told > 50)
  for _, was in ipairs(told) do
    editions.restore(dir, was.app, was.world)
    local host = editions.host(dir, was.app, editions.stories[was.story])
    local run = host.journal:row("SELECT id, edition FROM runs WHERE app = ? AND state = 'running'", was.app)
    eq(run.edition, edition)
    local last = editions.finish(host, was.app)
    local state = host.journal:run_by_id(run.id).state
    host:close()
    local problem
    if state == "diverged" or last.state ~= was.state then
      problem = ("is %s (%s), should be %s"):format(last.state, last.error and last.error.message or "", was.state)
    elseif json.encode(editions.outcome(dir, was.app)) ~= json.encode(was.expected) then
      problem = ("left %s instead of %s"):format(json.encode(editions.outcome(dir, was.app)), json.encode(was.expected))
    end
    if problem then faults[#faults + 1] = ("%s, killed at %s: %s"):format(was.app, was.killed, problem) end
  end
  eq(faults, {})
end

for edition = 1, steps.EDITION - 1 do
  test(("edition %d: runs interrupted at every step of every shipped policy are finished"):format(edition), function()
    finish_all(edition)
  end)
end

test("every shipped policy has a story, and every released edition a fixture", function()
  local shipped, told = {}, {}
  for _, file in ipairs(assert(fs.list("scripts"))) do
    local name = (file.name or file):match("^(.+)%.lua$")
    if name and not name:find "_test$" then shipped[name] = true end
  end
  for _, story in pairs(editions.stories) do told[story.policy] = true end
  eq(told, shipped)
  for edition = 1, steps.EDITION - 1 do ok(fs.exists(FOLDER .. edition .. ".sql"), "edition " .. edition) end
end)
