-- The parts of the simulated world, each as a host finds it: what they answer is what the real ones answer.
---@diagnostic disable: missing-fields, missing-parameter -- parts of things
---@diagnostic disable: need-check-nil, param-type-mismatch -- parts of things; a nil fails the test
local check = require "check"
local errors, simulation = require "errors", require "simulation"
local git, modules, openers = require "simulation.git", require "simulation.modules", require "simulation.openers"
local outside, registry = require "simulation.outside", require "simulation.registry"
local test, eq, ok, fails, raises = check.test, check.eq, check.ok, check.fails, check.raises

local URL <const> = "https://git.simulated/web.git"
local APP <const> = { name = "web", image = "registry.simulated/web", source = { url = URL }, branch = "main" }
local C = simulation.commit

-- A world, and its parts as a host that lives opens them.
local function open(disturb)
  local life = { dead = false }
  function life.check() if life.dead then error(errors.new("cancelled", "dead"), 0) end end
  function life.kill() life.dead = true end
  local world = outside.new { disturb = disturb }
  local parts = openers.of(life, world, { addresses = {}, programs = {}, random = 0 })
  return world, parts, life
end

local function push(world, name, branch, parent)
  local state = world.state
  git.point(state, URL, "branches", branch or "main", git.make(state, URL, name, { parent = parent and C(parent) }))
end

-- What a run asks for to have the image of a commit, which is pushed.
local function image_of(world, parts, name)
  push(world, name)
  return { app = APP, repo = parts.repository(APP), commit = C(name), hooks = { output = function() end } }
end

test("a repository knows branches, tags, and how commits lie to each other", function()
  local world, parts = open()
  push(world, "a")
  push(world, "b", "main", "a")
  push(world, "c", "next", "a")
  git.point(world.state, URL, "tags", "v1.0.0", C "a")
  local repo = parts.repository(APP)
  eq(ok(repo:head "main").commit, C "b")
  eq(fails("not_found", repo:head "gone").message, "there is no branch gone")
  eq(ok(repo:tags())[1].name, "v1.0.0")
  eq(repo:refs(), repo:refs(), "nothing changed: the same answer")
  eq(ok(repo:compare(C "a", C "b")).kind, "push")
  eq(ok(repo:compare(C "b", C "a")).kind, "reset")
  eq(ok(repo:compare(C "b", C "c")).kind, "force")
  eq({ repo:is_ancestor(C "a", C "c"), repo:is_ancestor(C "b", C "c") }, { true, false })
  eq(ok(repo:log(C "a", C "b"))[1].subject, "commit b")
  fails("not_found", repo:compare(C "a", C "never pushed"))
  world.state.down.git = true
  fails("refused", repo:refs())
end)

test("an image is built once, and only what is there can be tagged", function()
  local world, parts = open()
  local request = image_of(world, parts, "a")
  eq(ok(parts.ensure_image(request)).built, true)
  eq(ok(parts.ensure_image(request)).built, false)
  local images = parts.registry(APP.image)
  ok(images:tag(registry.digest_of(C "a"), "staging"))
  ok(images:tag(registry.digest_of(C "a"), "staging"))
  fails("not_found", images:tag(registry.digest_of(C "b"), "staging"))
  eq(world.state.effects, { "build web a", "tag web:staging a" })
  eq(ok(images:digest "staging"), registry.digest_of(C "a"))
  eq(ok(images:labels(registry.digest_of(C "a")))["org.opencontainers.image.revision"], C "a")
  world.state.troubles[C "b"] = "build"
  fails("failed", parts.ensure_image(image_of(world, parts, "b")))
  world.state.down.registry = true
  fails("refused", parts.ensure_image(request))
end)

test("a target refuses a host of an older generation, and applying again changes nothing", function()
  local world, parts = open()
  local target = parts.target { name = "staging", app = "web", target = { kind = "command" } }
  eq(target:current(), nil)
  local request = { image = "r@sha256:1", digest = "sha256:1", commit = C "a", release = 1, generation = 2 }
  ok(target:apply(request))
  ok(target:apply(request))
  eq(#world.state.effects, 1)
  eq({ target:current().digest, target:current().healthy }, { "sha256:1", true })
  request.generation = 1
  eq(fails("conflict", target:apply(request)).generation, 2)
  ok(target:destroy {})
  eq(target:current(), nil)
end)

test("what is dead is answered by nobody, and an effect is disturbed once", function()
  local world, parts, life = open { fail = 1 }
  local request = image_of(world, parts, "a")
  fails("refused", parts.ensure_image(request))
  eq(#world.state.effects, 0)
  ok(parts.ensure_image(request))
  life.kill()
  raises("dead", parts.ensure_image, request)
  raises("dead", parts.repository, APP)
  local lost = open { lose = 1 }
  eq(lost.disturb.lose, 1)
end)

test("files, answers and random bytes of policies are the world's", function()
  local world = outside.new {}
  local life = { check = function() end, kill = function() end }
  local answered = { addresses = { ["https://x.test/"] = { a = 1 }, ["https://x.test/no"] = 503 }, programs = {},
    random = 0 }
  local all = modules.all(world, life, answered)
  local here = { root = "/files/web" }
  fails("not_found", all.fs.read("log", here))
  ok(all.fs.append("log", "one\n", here))
  ok(all.fs.append("log", "two\n", here))
  eq(ok(all.fs.read("log", { root = "/files/web", offset = 4 })), "two\n")
  eq(ok(all.fs.stat("log", here)).size, 8)
  ok(all.fs.rename("log", "old/log", here))
  eq({ all.fs.exists("log", here), ok(all.fs.list(".", here))[1].name }, { false, "old" })
  ok(all.fs.remove("old", here))
  eq(ok(all.fs.list(".", here)), {})
  eq(ok(all.http.get "https://x.test/y"):json(), { a = 1 })
  eq(ok(all.http.get "https://x.test/no").status, 503)
  fails("refused", all.http.get "https://elsewhere.test/")
  eq(#all.hash.random(40), 40)
  ok(all.hash.random(8) ~= all.hash.random(8))
  fails("not_found", all.proc.run { "/bin/true" })
end)
