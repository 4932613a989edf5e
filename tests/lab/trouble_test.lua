-- What is around a release goes away for a while, for real: the container engine and the registry. Nothing becomes bad
-- for it, and what waited goes out when that is over.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local base, check, lab = require "lab.base", require "check", require "lab"
local http, time = require "http", require "time"
local hosts = require "lab.host"
local test, eq = check.test, check.eq

local CONFIG <const> = [[
return {
  poll = "0.3s",
  builder = { kind = "docker", socket = "@SOCKET@", network = "host" },
  apps = { web = { source = "@SOURCE@", image = "@REGISTRY@/team/web",
    environments = { staging = {
      target = { kind = "docker", socket = "@SOCKET@", network = "host", env = { PORT = "@PORT@" },
        stop_timeout = "1s" },
      verify = { { http = "http://127.0.0.1:@PORT@/", within = "20s", every = "0.1s" } },
    } } } },
}
]]

local DOCKERFILE <const> = "FROM scratch\nCOPY app version mode /\nENTRYPOINT [\"/app\"]\n"

test("an engine that restarts and a registry that is away take nothing back and lose nothing", function()
  local why = require("lab.docker").unavailable()
  if why then check.skip(why) end
  local git, registry, docker = lab.git {}, lab.registry {}, lab.docker()
  local repo, port = git:repo "web", tostring(base.port())
  local values = { SOCKET = docker.socket, SOURCE = repo.url, REGISTRY = registry.host, PORT = port }
  local host = hosts.new((CONFIG:gsub("@(%u+)@", values)))

  local function serves(word)
    host:until_("staging", "serves " .. word, 150, function(e)
      if e.state == "running" or not e.current then return end
      local answer = http.get(("http://127.0.0.1:%s/"):format(port), { timeout = 1 })
      return answer and answer.status == 200 and answer.body:match("^hello ([^\n]*)") == word
    end)
  end
  local function commit(word) return repo:commit(lab.app { version = word, dockerfile = DOCKERFILE }) end
  local function waits(what)
    host:until_("staging", "waits for " .. what, 60, function(e) return e.state == "waiting" and e.retry_at end)
  end
  -- What the rollback policy said after that moment.
  local function is_healthy_after(moment)
    check.eventually(function()
      for _, d in ipairs(host.client:why("web", "staging").decisions) do
        local well = d.policy == "rollback" and d.reason:find("is healthy, and watched", 1, true)
        if well and d.at > moment then return true end
      end
    end, 60, "it is looked at, and well")
  end

  commit "one"
  host:start()
  serves "one"
  commit "two"
  serves "two"

  docker:stop()
  docker:start()
  is_healthy_after(time.now())
  serves "two"

  docker:stop()
  commit "three" -- nobody builds now
  waits "the engine"
  docker:start()
  serves "three"

  registry:stop()
  commit "four" -- nobody knows whether it is there
  waits "the registry"
  registry:start()
  serves "four"
  is_healthy_after(time.now())

  for _, run in ipairs(host.client:history({ app = "web", limit = 100 }).runs) do
    eq({ run.kind, run.title }, { "change", run.title })
  end
  eq(host:stop("TERM").code, 0)
end, 400)
