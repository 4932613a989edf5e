-- Places of branches on a real git server, a registry and docker: a branch that is pushed runs, one that is deleted is
-- gone.
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local base, hosts, lab = require "lab.base", require "lab.host", require "lab"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local CONFIG <const> = [[
local function docker(more)
  more.kind, more.socket, more.network, more.stop_timeout = "docker", "@SOCKET@", "none", "1s"
  return more
end
return {
  poll = "0.3s",
  builder = { kind = "docker", socket = "@SOCKET@", network = "host" },
  apps = { web = { source = "@SOURCE@", image = "@REGISTRY@/team/web", environments = {
    staging = { target = docker {} },
    preview = { branches = "feature/*", keep_for = "1s",
      target = docker { name = "web-{branch}", labels = { rule = "Host(`{branch}.preview.test`)", of = "{place}" } } },
  } } },
}
]]

test("a branch that is pushed runs on docker, and is gone when it is deleted", function()
  local why = require("lab.docker").unavailable()
  if why then check.skip(why) end
  local git, registry, docker = lab.git {}, lab.registry {}, lab.docker()
  local repo = git:repo "web"
  local values = { SOCKET = docker.socket, REGISTRY = registry.host, SOURCE = repo.url }
  local host = hosts.new((CONFIG:gsub("@(%u+)@", function(name) return values[name] end)))
  local function containers()
    return base.run { "docker", "--host", "unix://" .. docker.socket, "ps", "--all", "--format",
      "{{.Names}} {{.State}} {{.Label \"of\"}} {{.Label \"rule\"}}" }
  end
  local function runs(environment, commit)
    host:until_(environment, "runs " .. commit, 60, function(e)
      return e.state ~= "running" and e.current and e.current.commit == commit
    end)
  end
  local one = repo:commit(lab.app { version = "one" })
  host:start()
  runs("staging", one)
  local two = repo:commit(lab.app { version = "two" }, { branch = "feature/Login" })
  runs("preview-feature-login", two)
  has(containers(), "running preview-feature-login Host(`feature-login.preview.test`)")
  has(containers(), "web-feature-login-")
  local three = repo:commit(lab.app { version = "three" }, { branch = "feature/Login" })
  runs("preview-feature-login", three)
  runs("staging", one)
  eq(host:stop().code, 0)
  host:start() -- the place is there from the beginning
  runs("preview-feature-login", three)
  repo:delete "refs/heads/feature/Login"
  local function gone() return not containers():find("feature-login", 1, true) end
  check.eventually(gone, 60, "docker has nothing of it")
  check.eventually(function()
    return not host:command("status").stdout:find("preview-feature-login", 1, true)
  end, 60, "status has it no more")
  has(host:command("history", "web", "preview-feature-login").stdout, "destroy web preview-feature-login")
  has(containers(), "web-staging-")
  eq(host:stop().code, 0)
  ok(not host:command("status").stdout:find("preview-feature-login", 1, true), "also when no host runs")
end, 240)
