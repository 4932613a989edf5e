-- What hosts may rely on of a registry, and of images of commits: proved of the simulated one and of Debian's.
--
-- On purpose the simulated one has no bytes (blob, copies, an index's children, deletion), and a build there needs no
-- Dockerfile. A real registry that is down is left alone for a while, and asked a few times before a call fails.
---@diagnostic disable: need-check-nil, undefined-field -- a nil fails the test
local check = require "check"
local errors, kit, lab, simulation = require "errors", require "contract.kit", require "lab", require "simulation"
local builders, task = require "lab.builders", require "task"
local eq, ok, fails, has = check.eq, check.ok, check.fails, check.has

local NOBODY <const> = "sha256:" .. ("0"):rep(64)
local REVISION <const> = "org.opencontainers.image.revision"

---@class RegistryPart
---@field name string The app's image.
---@field registry ImageRegistry
---@field image fun(tag: string, labels?: table): string Pushes an image, gives its digest.
---@field down fun()
---@field up fun()

---@return RegistryPart
local function simulated()
  local world, open = kit.simulated()
  world:app("web", { environments = { staging = {} } })
  local name, digests = "registry.simulated/web", 0
  return {
    name = name, registry = open().registry(name),
    image = function(tag, labels)
      digests = digests + 1
      return world:publish(name, tag, "image " .. digests, labels)
    end,
    down = function() world:down "registry" end, up = function() world:up "registry" end,
  }
end

local server, made ---@type LabRegistry, integer

---@return RegistryPart
local function real()
  server, made = server or lab.registry {}, (made or 0) + 1
  local path = "team/web" .. made
  local name = server.host .. "/" .. path
  local world = kit.real({}, { web = { image = name, environments = { staging = {} } } })
  return {
    name = name, registry = world.registry(name),
    image = function(tag, labels)
      local files = { { "what", tag .. tostring(labels) } }
      return lab.image(server, { name = path, tag = tag, labels = labels, files = files }).digest
    end,
    down = function() server:stop() end, up = function() server:start() end,
  }
end

local both = kit.each { simulated = simulated, real = real }

both("a tag is a digest, and what is not there is missed", function(part)
  local registry = part.registry
  eq(registry.name, part.name)
  fails("not_found", registry:tags())
  local one = part.image("one", { [REVISION] = ("a"):rep(40) })
  eq({ registry:digest "one", registry:digest(one) }, { one, one })
  eq(registry:tags(), { "one" })
  eq(registry:labels(one), { [REVISION] = ("a"):rep(40) })
  eq({ registry:labels "one" }, { { [REVISION] = ("a"):rep(40) } })
  eq(ok(registry:manifest "one").digest, one)
  eq(registry:platforms(one), { { os = "linux", architecture = "amd64" } })
  for _, call in ipairs {
    { "digest", "two" }, { "digest", NOBODY }, { "manifest", "two" }, { "manifest", NOBODY }, { "labels", NOBODY },
    { "platforms", NOBODY }, { "tag", NOBODY, "staging" },
  } do
    local err = fails("not_found", registry[call[1]](registry, call[2], call[3]))
    eq({ err.target, errors.passing(err) }, { part.name, false }, call[1])
    eq(err.op:match "^registry%.", "registry.")
  end
end)

both("a tag is moved, and moving it again changes nothing", function(part)
  local registry = part.registry
  local one, two = part.image("one", { n = "1" }), part.image("two", { n = "2" })
  eq({ registry:tag(one, "staging"), registry:digest "staging" }, { true, one })
  eq({ registry:tag(one, "staging"), registry:digest "staging" }, { true, one })
  eq({ registry:tag(two, "staging"), registry:digest "staging" }, { true, two })
  local tags = ok(registry:tags())
  table.sort(tags)
  eq(tags, { "one", "staging", "two" })
end)

both("what cannot be a tag or a digest is refused before anybody is asked", function(part)
  local registry = part.registry
  local one = part.image "one"
  part.down()
  has(fails("invalid", registry:tag(one, "no tag")).message, "'no tag' cannot be an image tag")
  has(fails("invalid", registry:tag("one", "staging")).message, "one is not a digest")
  has(fails("invalid", registry:digest "a/b").message, "'a/b' is neither a tag nor a digest")
  fails("invalid", registry:manifest "a/b")
  fails("invalid", registry:labels "")
  fails("invalid", registry:platforms "-x")
  part.up()
end)

both("a registry that is down is a passing error", function(part)
  local registry = part.registry
  local one = part.image "one"
  part.down()
  local asked = {}
  for i, call in ipairs {
    { "digest", "one" }, { "tags" }, { "labels", one }, { "manifest", one }, { "platforms", one },
    { "tag", one, "staging" },
  } do
    asked[i] = task.spawn(function()
      eq(errors.passing(fails("refused", registry[call[1]](registry, call[2], call[3]))), true)
      return true
    end)
  end
  for _, asking in ipairs(asked) do ok(asking:join()) end
  part.up()
  eq(check.eventually(function() return (registry:digest "one") end), one)
end)

-- ---- images of commits ----

---@class ImagePart
---@field commits {good: string, bad: string, other: string} Bad: it cannot be built.
---@field registry ImageRegistry
---@field name string
---@field ensure fun(commit: string, digest?: string): ImageFound?, Err?
---@field lines string[] What the builder said.

-- An app's images, as a run asks for them.
local function images(world, commits)
  local app, lines = world.config.apps.web, {}
  return {
    commits = commits, name = app.image, registry = world.registry(app.image), lines = lines,
    ensure = function(commit, digest)
      return world.ensure_image {
        app = app, repo = world.repository(app), commit = commit, digest = digest, work = lab.dir "work",
        hooks = { output = function(_, line) lines[#lines + 1] = line end, progress = function() end },
      }
    end,
  } --[[@as ImagePart]]
end

local function simulated_images()
  local world, open = kit.simulated()
  local web = world:app("web", { environments = { staging = {} } })
  for _, name in ipairs { "good", "bad", "other" } do web:push(name) end
  web:breaks("bad", "build")
  return images(open(), {
    good = simulation.commit "good", bad = simulation.commit "bad", other = simulation.commit "other",
  })
end

local function real_images()
  local builder, why = builders.kinds.buildah()
  if not builder then check.skip(why) end
  server = server or lab.registry {}
  made = (made or 0) + 1
  local origin = lab.git({}):repo "web"
  local commits = {
    good = origin:commit { Dockerfile = "FROM scratch\nCOPY . /\n" }, other = origin:commit { more = "1" },
    bad = origin:commit { Dockerfile = "FROM scratch\nCOPY missing /\n" },
  }
  local world = kit.real({}, {
    web = { image = ("%s/team/web%d"):format(server.host, made), source = origin.url, environments = { staging = {} } },
  })
  world.config.builder = builder
  return images(world, commits)
end

kit.each { simulated = simulated_images, real = real_images }("the image of a commit is found, or built and found",
  function(part)
    local commit = part.commits.good
    local image = ok(part.ensure(commit))
    eq({ image.built, image.commit, image.repository, image.image },
      { true, commit, part.name, part.name .. "@" .. image.digest })
    eq(part.registry:digest("sha-" .. commit), image.digest)
    eq(part.registry:labels(image.digest)[REVISION], commit)
    ok(#part.lines > 0)
    local again = ok(part.ensure(commit))
    eq({ again.built, again.digest, again.image }, { false, image.digest, image.image })
    eq(ok(part.ensure(commit, image.digest)).built, false)

    fails("not_found", part.ensure(commit, NOBODY))
    has(fails("mismatch", part.ensure(part.commits.other, image.digest)).message, "an image of commit " .. commit)
    ok(part.registry:tag(image.digest, "sha-" .. part.commits.other))
    local err = fails("mismatch", part.ensure(part.commits.other))
    has(err.message, ("the tag sha-%s holds an image of commit %s"):format(part.commits.other, commit))
    eq(errors.passing(err), false)

    err = fails("failed", part.ensure(part.commits.bad))
    eq({ errors.passing(err), err.op }, { false, "image.build" })
    fails("not_found", part.registry:digest("sha-" .. part.commits.bad))
    fails("not_found", part.ensure(("0123456789"):rep(4)))
  end)
