-- Large worlds: more of everything than fits into one piece. What is measured of them, tests/bench measures.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, refs, sim = require "fs", require "sources.git.refs", require "sim"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local C = sim.commit

-- A host whose repository shows tags of our own, in an order of our own.
local function stage()
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local world = sim.open(dir.path .. "/world")
  world:push("main", "a")
  world:push("next", "b")
  local s = { world = world, tags = {} }
  local function another() return refs.snapshot({ main = C "a" }, {}, "main") end
  local snapshot = another()
  local repo = setmetatable({
    refs = function() return snapshot end, tags = function() return s.tags end,
  }, { __index = world:world().repository { source = { url = sim.URL } } })
  function s.show(tags) s.tags, snapshot = tags, another() end
  function s.open()
    if s.host then s.host:close() end
    s.host = sim.host(world, dir.path .. "/state", {
      engine = { world = setmetatable({ repository = function() return repo end }, { __index = world:world() }) },
    })
  end
  check.defer(function() s.host:close() end)
  s.open()
  function s.why(subject)
    for _, d in ipairs(assert(s.host:why("web", "production")).decisions) do
      if d.subject == subject and d.policy == "production" then return d end
    end
  end
  return s
end

local function tags_of(count, form)
  local list = {}
  for i = 1, count do list[i] = { name = form:format(i), commit = C("a") } end
  return list
end

test("more tags than one answer of the journal holds are remembered, judged and forgiven", function()
  local s = stage()
  local many = tags_of(100001, "v0.0.%06d")
  s.show(many)
  sim.settle(s.host)
  eq(s.host.journal:row("SELECT count(*) AS n FROM tags WHERE first_sight = 1").n, 100001)
  eq(s.why(nil).reason, "no new version")
  has(s.why("(others)").reason, "99001 more were refused")
  s.open()
  local more = table.move(many, 1, #many, 1, {})
  more[#more + 1] = { name = "v1.0.0", commit = C "b" }
  s.show(more)
  sim.settle(s.host)
  eq(s.world:running("production").version, "v1.0.0")
  eq(s.host.journal:row("SELECT count(*) AS n FROM tags WHERE first_sight = 0").n, 1)
end, 120)

test("a host that is killed while it remembers a long list finds the rest to have been there before", function()
  local s = stage()
  s.show(tags_of(1200, "v0.0.%06d"))
  local real, calls = s.host.journal.remember_repository, 0
  s.host.journal.remember_repository = function(...)
    calls = calls + 1
    if calls == 2 then error("killed", 0) end
    return real(...)
  end
  check.raises("killed", function() s.host:poll() end)
  eq(s.host.journal:row("SELECT count(*) AS n FROM tags").n, 500)
  s.open()
  sim.settle(s.host)
  eq(s.host.journal:row("SELECT count(*) AS n FROM tags WHERE first_sight = 1").n, 1200)
  eq(s.world:running("production"), nil)
end)

test("what came since is judged before what was there, however long the list", function()
  local s = stage()
  s.show(tags_of(3000, "a%d"))
  sim.settle(s.host)
  local more = tags_of(3000, "a%d")
  more[#more + 1] = { name = "zebra", commit = C "b" }
  s.show(more)
  sim.settle(s.host)
  has(s.why("zebra").reason, "not a version")
  ok(s.why("(others)"))
end)

test("a workload follows the best of 8,225 tags of a registry", function()
  local herds = require "fixture.herd"
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local herd, repository = herds.new(), "registry.invalid/team/web"
  herd:put("deployment", "shop", "web", { ["keel.sh/policy"] = "minor", ["keel.sh/trigger"] = "poll" },
    { { "web", repository .. ":1.0.0" } })
  for i = 0, 8223 do
    local tag = ("1.%d.%d"):format(i // 100, i % 100)
    herd:push(repository, tag, tag)
  end
  herd:push(repository, "latest", "latest")
  local host = herd:host(dir.path)
  check.defer(function() pcall(host.close, host) end)
  sim.settle(host)
  has(host:history({ app = "shop/web" }).runs[1].title, "1.82.23")
  eq(host:history({ app = "shop/web" }).runs[1].state, "done")
end, 120)
