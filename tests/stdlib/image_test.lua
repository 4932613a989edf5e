-- Images by the real docker, buildah and podman, out of real commits, into real registries.
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local lab = require "lab"
local builders = require "lab.builders"
local task = require "task"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has
local world, nothing_left, shared, SCRATCH = builders.world, builders.nothing_left, builders.shared, builders.SCRATCH

builders.tests { "docker", "buildah", "podman" }

test("a Dockerfile outside of the commit or its context is refused before anything is built", function()
  local w = world("buildah", shared(), "outside")
  local commit = w.source:commit {
    ["web/file"] = "x\n", ["Dockerfile"] = "FROM scratch\n", ["Linked"] = { link = "/etc/passwd" },
    ["etc"] = { link = "/etc" },
  }
  w.app.context = "web"
  has(tostring(fails("invalid", w.ensure(commit))), "outside of the build context")
  w.app.context, w.app.dockerfile = ".", "Linked"
  has(tostring(fails("invalid", w.ensure(commit))), "not a regular file")
  w.app.dockerfile = "etc/passwd"
  fails("not_found", w.ensure(commit))
  w.app.dockerfile = "passwd"
  fails("not_found", w.ensure(commit)) -- and not one that lies about on this machine
  w.app.context, w.app.dockerfile = "../../etc", "passwd"
  fails("invalid", w.ensure(commit))
  eq(w.lines, {})
  nothing_left(w)
end)

test("a tag that holds another commit's image is an error, and is not built over", function()
  local w = world("buildah", shared(), "mixed")
  local one = w.source:commit(lab.app { version = "one", dockerfile = SCRATCH })
  local two = w.source:commit { ["version"] = "two\n" }
  local made = ok(w.ensure(one))
  ok(w.registry:tag(made.digest, "sha-" .. two))
  has(tostring(fails("mismatch", w.ensure(two))), "holds an image of commit " .. one)
  eq(w.registry:digest("sha-" .. two), made.digest)
end, 90)

test("what a large context costs is not taken from the policy's processor time", function()
  local w = world("buildah", shared(), "large")
  local rules, files = {}, lab.app { version = "one", dockerfile = SCRATCH }
  for i = 1, 30 do rules[i] = ("**/x%d/[a-z]*.o"):format(i) end
  files[".dockerignore"] = table.concat(rules, "\n")
  for i = 1, 3000 do files[("sub%d/file%d.o"):format(i % 30, i)] = "" end
  local commit = w.source:commit(files)
  local made = task.start({ name = "run", cpu = 0.15, memory = 64 << 20 }, w.ensure, commit)
  eq(ok(made:join()).built, true)
end, 120)

test("a registry that says 403 or 401 of a tag that is not there gets its first image all the same", function()
  local where = shared()
  for _, status in ipairs { 401, 403 } do
    local relay = require("fixture.relay").open(where.host)
    relay.hook = function(request, forward)
      local answer = forward(request)
      if answer.status == 404 and request.path:find("/manifests/sha-", 1, true) then
        return { status = status, body = '{"errors":[{"code":"DENIED","message":"access forbidden"}]}' }
      end
      return answer
    end
    local w = world("buildah", where, "hidden-" .. status)
    w.app.image = relay.host .. "/team/" .. w.app.name
    local commit = w.source:commit(lab.app { version = "one", dockerfile = SCRATCH })
    eq(ok(w.ensure(commit)).built, true)
    eq(ok(w.ensure(commit)).built, false)
  end
end, 90)

test("the engine's classic builder does the same", function()
  local w = world("docker", shared(), "classic")
  w.cfg.builder.classic = true
  local made = ok(w.ensure(w.source:commit(lab.app { version = "classic", dockerfile = SCRATCH })))
  eq(made.built, true)
  ok(w.files(made.digest).app)
  local err = fails("failed", w.ensure(w.source:commit { ["Dockerfile"] = "FROM scratch\nCOPY missing /\n" }))
  has(tostring(err), "missing")
end, 60)

test("a builder that is not there is told, and auto takes the first that is", function()
  local w = world("podman", shared(), "choice")
  local podman = w.cfg.builder
  local commit = w.source:commit(lab.app { version = "one", dockerfile = SCRATCH })
  local function chosen(builder)
    w.cfg.builder = builder
    local made, err = w.ensure(commit, { force = true })
    return made and made.built, err
  end
  has(tostring(select(2, chosen { kind = "docker", socket = "/nonexistent/docker.sock", env = {} })),
    "no container engine listens on /nonexistent/docker.sock")
  fails("not_found", chosen { kind = "buildah", command = { "/nonexistent/buildah" }, env = {} })
  has(tostring(select(2, chosen {
    kind = "auto", socket = "/nonexistent/docker.sock", command = { "/nonexistent/x" }, env = {},
  })), "there is no builder")
  fails("not_found", w.registry:digest("sha-" .. commit))
  -- A command that is podman's is not taken for buildah's, which would be asked first.
  local auto = { kind = "auto", socket = "/nonexistent/docker.sock", env = podman.env,
    command = podman.command }
  eq(chosen(auto), true)
  eq(require("images.builder.buildah").available { builder = auto }, false)
  eq(require("images.builder.podman").available { builder = auto }, true)
  local docker = builders.kinds.docker()
  if docker then eq(require("images.builder.docker").available({ builder = docker },
    require("engine.world").of { builder = docker }), true) end
end, 60)
