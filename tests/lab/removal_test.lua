-- A host that releases again and again: what it leaves in docker and in the registry does not grow.
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local base, hosts, lab, registry = require "lab.base", require "lab.host", require "lab", require "images.registry"
local test, eq, ok = check.test, check.eq, check.ok

local CONFIG <const> = [[
return {
  poll = "0.3s", retention = { images = 2 },
  builder = { kind = "docker", socket = "@SOCKET@", network = "host" },
  registries = { ["@REGISTRY@"] = { plain_http = true, delete = true } },
  apps = { web = { source = "@SOURCE@", image = "@REGISTRY@/team/worn",
    environments = { staging = {
      target = { kind = "docker", socket = "@SOCKET@", network = "host", env = { PORT = "@PORT@" },
        stop_timeout = "1s" },
      verify = { { http = "http://127.0.0.1:@PORT@/", within = "50s", every = "0.1s" } },
    } } } },
}
]]

test("the images of older releases go by themselves, from docker and from the registry", function()
  local why = require("lab.docker").unavailable()
  if why then check.skip(why) end
  local git, where, docker = lab.git {}, lab.registry {}, lab.docker()
  local repo = git:repo "worn"
  local values = {
    SOCKET = docker.socket, REGISTRY = where.host, SOURCE = repo.url, PORT = tostring(base.port()),
  }
  local host = hosts.new((CONFIG:gsub("@(%u+)@", function(name) return values[name] end)))
  local commits = {}
  local function push(i)
    commits[i] = repo:commit(lab.app { version = "v" .. i,
      dockerfile = "FROM scratch\nCOPY app version mode /\nENTRYPOINT [\"/app\"]\n" })
    host:until_("staging", "runs v" .. i, 60, function(e)
      return e.state ~= "running" and e.current and e.current.commit == commits[i]
    end)
  end
  commits[1] = repo:commit(lab.app { version = "v0", dockerfile = "FROM scratch\nCOPY app version mode /\n" })
  host:start()
  for i = 1, 5 do push(i) end
  local function tagged()
    local there = {}
    for _, image in ipairs(ok(docker:call("GET", "/images/json"))) do
      for _, tag in ipairs(type(image.RepoTags) == "table" and image.RepoTags or {}) do
        for i, commit in ipairs(commits) do
          if tag == ("%s/team/worn:sha-%s"):format(where.host, commit) then there[#there + 1] = i end
        end
      end
    end
    table.sort(there)
    return there
  end
  check.eventually(function()
    local there = tagged()
    return #there == 2 and there[1] == 4 and there[2] == 5
  end, 30, "docker has two images")
  local images = registry.repository(where.host .. "/team/worn", { registries = {} })
  check.eventually(function() return #(images:tags() or {}) == 3 end, 30, "the registry has two images and their tags")
  eq(images:digest("sha-" .. commits[5]), images:digest "staging")
  ok(images:digest("sha-" .. commits[4]))
  check.fails("not_found", images:digest("sha-" .. commits[2]))
  -- What is kept is what a rollback needs.
  ok(host:command("rollback", "web").ok)
  host:until_("staging", "runs v4 again", 60, function(e)
    return e.state ~= "running" and e.current and e.current.commit == commits[4]
  end)
  eq(host:stop().code, 0)
end, 240)
