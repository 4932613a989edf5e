-- What a policy reads of its place and of the app's other environments: nothing changes anything.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: generic-constraint-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, json, simulation = require "fs", require "json", require "simulation"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

check.virtual_time()

-- An app with a staging of the shipped policy, and a production whose policy has this body of watch; saying(...) is
-- what the policy answered, as data.
local function stage(body, options)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local function write(text)
    assert(fs.write(dir.path .. "/asker.lua", ([[
      local json = require "json"
      return policy { run = function() end, watch = function(place)
        local function see() %s end
        return nil, (assert(json.encode { see() }))
      end }]]):format(text)))
  end
  write(body)
  options = options or {}
  local world = simulation.new { scripts = dir.path }
  check.defer(function() world:close() end)
  local web = world:app("web", {
    environments = {
      staging = { policy = "staging", watch_for = options.watch_for },
      production = { policy = "asker", accept = options.accept },
    },
  })
  local s = { world = world, web = web }
  function s.saying()
    world:poll()
    local d = web:decision("production")
    if d.verdict == "error" then return d.reason end
    return table.unpack(assert(json.decode(d.reason)))
  end
  function s.rewrite(text)
    write(text)
    assert(world:ask(function(engine) return engine:reload() end))
  end
  return s
end

local C <const> = simulation.commit

test("a policy sees what runs in another environment, since when, and that it is well", function()
  local s = stage [[return place:of("staging")]]
  local seen = s.saying()
  eq({ seen.environment, seen.release, seen.waiting }, { "staging", nil, {} })
  s.web:push "a"
  s.world:settle()
  s.world:pass "2h"
  seen = s.saying()
  eq({ seen.release.commit, seen.healthy, seen.waiting, seen.held, seen.failed }, { C "a", true, {}, nil, nil })
  local since = seen.since
  s.web:apply("staging") -- the same image once more: it ran all the while
  s.world:settle()
  eq(s.saying().since, since)
  s.world:pass "1h"
  s.web:push "b"
  s.world:settle()
  ok(s.saying().since > since + 3600)
  s.web:unhealthy "staging"
  s.world:pass "1m"
  eq(s.saying().healthy, false)
end)

test("a policy sees what waits in another environment, who holds it, and what failed there", function()
  local s = stage [[return place:of("staging")]]
  s.web:push "a"
  s.world:settle()
  s.web:hold("staging", "ann", "the sale")
  s.web:push "b"
  s.world:settle()
  local seen = s.saying()
  eq({ #seen.waiting, seen.waiting[1].commit, seen.waiting[1].state, seen.held.by, seen.held.reason },
    { 1, C "b", "queued", "ann", "the sale" })
  s.web:breaks("b", "check")
  s.web:unhold "staging"
  s.world:settle()
  seen = s.saying()
  eq({ seen.release.commit, seen.failed.commit, seen.failed.how }, { C "a", C "b", "failed" })
  s.web:breaks("c", "later")
  s.web:push "c"
  s.world:settle()
  s.world:pass "10m"
  seen = s.saying()
  eq({ seen.release.commit, seen.failed.commit, seen.failed.how }, { C "a", C "c", "bad" })
end)

test("an unknown environment is an error with what was meant", function()
  local s = stage [[return place:of("stagin")]]
  has(s.saying(), "web has no environment 'stagin'; it has: ")
  has(s.saying(), "(did you mean staging?)")
  s.rewrite [[return place:proved("stagin", "a")]]
  has(s.saying(), "did you mean staging?")
end)

test("a commit is proved by an environment where it ran well, also when another one runs there now", function()
  local s = stage([[local release, why = place:proved("staging", place:tags()[1] and place:tags()[1].commit or "none")
    return release and release.digest or false, why]])
  s.web:push "a"
  s.web:tag("v1.0.0", "a")
  s.web:breaks("a", "check")
  s.world:settle()
  local digest, why = s.saying()
  eq(digest, false)
  has(why, "staging has not proved " .. C("a"):sub(1, 7) .. ": it failed there: ")
  s.web:breaks("a", nil)
  s.web:untag "v1.0.0"
  s.web:push "b"
  s.web:push "c"
  s.web:tag("v2.0.0", "c")
  s.world:settle()
  digest = s.saying()
  eq(digest, s.web:running("staging").digest)
  s.web:push "d"
  s.world:settle()
  eq(s.saying(), digest)
end)

test("any branch has a head, and the commits between two have messages and paths", function()
  local s = stage [[
    local head = place:head("next")
    local list = place:commits(place:head().commit, head.commit)
    return head.title, list.status, #list, list[1].message, list[1].paths, list[1].author]]
  s.web:push "a"
  s.web:branch_off("next", "a")
  s.web:push("b", { branch = "next", message = "feat: x\n\n[skip ci]", paths = { "svc/x" }, by = "bob" })
  eq({ s.saying() }, { "next at " .. C("b"):sub(1, 7), "ahead", 1, "feat: x\n\n[skip ci]", { "svc/x" }, "bob" })
  s.web:delete_branch "next"
  has(s.saying(), "there is no branch next")
  s.rewrite [[return #place:commits(nil, place:head().commit, { most = 1 }), place:commits(("0"):rep(40),
    place:head().commit).status]]
  s.web:push "c"
  eq({ s.saying() }, { 1, "unknown" })
  for _, call in ipairs { 'place:commits("x")', "place:commits(nil, place:head().commit, 5)" } do
    s.rewrite("return " .. call)
    has(s.saying(), "usage: place:commits(from, to")
  end
end)

test("a version is judged by another rule than the environment's", function()
  local s = stage([[return place:allows("2.0.0"), place:allows("2.0.0", "minor"), place:allows("1.0.1", "patch")]],
    { accept = "all" })
  eq({ s.saying() }, { true, true, true, "nothing with a version runs yet" })
  s.web:configure { environments = { staging = {}, production = {} } }
  s.web:push "a"
  s.world:settle()
  s.web:tag("v1.0.0", "a")
  s.world:settle()
  eq(s.web:running("production").version, "v1.0.0")
  s.web:configure { environments = { staging = {}, production = { policy = "asker", accept = "all" } } }
  local wide, narrow, patch = s.saying()
  eq({ wide, narrow, patch }, { true, false, true })
  s.rewrite [[return place:allows("2.0.0", "mnior")]]
  has(s.saying(), "place:allows: ")
end)
