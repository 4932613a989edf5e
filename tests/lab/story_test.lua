-- The host as its users run it, with real parts that all want a password: a git server, a registry, a container engine,
-- a channel. What must work, and the words that must appear nowhere.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local base, hash, lab = require "lab.base", require "hash", require "lab"
local fs, json, serve = require "fs", require "json", require "serve"
local task, time = require "task", require "time"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has
local hosts = require "lab.host"

local CONFIG <const> = [[
local function place(port)
  return {
    target = { kind = "docker", socket = "@SOCKET@", network = "host", stop_timeout = "1s",
      env = { PORT = tostring(port), SECRET = { env = "APP_SECRET" } } },
    verify = { { http = ("http://127.0.0.1:%d/"):format(port), within = "50s", every = "0.1s" } },
    notify = { "ops" },
  }
end
return {
  poll = "0.3s",
  builder = { kind = "docker", socket = "@SOCKET@", network = "host" },
  registries = {
    ["@REGISTRY@"] = { username = "@USER@", password = { env = "REGISTRY_PASSWORD" }, plain_http = true },
  },
  credentials = { ["@GITHOST@"] = { username = "@GITUSER@", password = { file = "@DIR@/git-password" } } },
  notify = { ops = { kind = "webhook", url = "http://127.0.0.1:@HOOK@/hook", token = { env = "HOOK_TOKEN" } } },
  apps = { web = { source = "@SOURCE@", image = "@REGISTRY@/team/web",
    environments = { staging = place(@STAGING@), production = place(@PRODUCTION@) } } },
}
]]

local BUILDS <const> = [[
return {
  poll = "0.3s",
  builder = { kind = "docker", socket = "@SOCKET@", network = "host" },
  apps = { web = { source = "@SOURCE@", image = "@REGISTRY@/team/web",
    environments = { staging = {
      target = { kind = "docker", socket = "@SOCKET@", network = "host", env = { PORT = "@PORT@" },
        stop_timeout = "1s" },
      verify = { { http = "http://127.0.0.1:@PORT@/", within = "50s", every = "0.1s" } },
    } } } },
}
]]

local function fill(text, values)
  return (text:gsub("@(%u+)@", function(name) return values[name] end))
end

local DOCKERFILE <const> = "FROM scratch\nCOPY app version mode /\nENTRYPOINT [\"/app\"]\n"
local APP_SECRET <const>, HOOK_TOKEN <const> = "MOONCANARY-app-7f3a", "MOONCANARY-hook-91bc"

-- Everything that any process of ours has on its command line or in its environment, sampled while the story runs.
local function watch_processes(seen)
  return task.spawn(function()
    while true do
      for _, pid in ipairs((fs.list("/proc"))) do
        if pid:match("^%d+$") then
          local argv = fs.read("/proc/" .. pid .. "/cmdline")
          if argv then seen[argv] = true end
        end
      end
      time.sleep(0.05)
    end
  end)
end

local function serve_hook(messages, tokens)
  return assert(serve.listen { address = "127.0.0.1", port = 0, handler = function(request)
    tokens[#tokens + 1] = request.headers["authorization"]
    messages[#messages + 1] = json.decode(request.body)
    return { status = 204 }
  end })
end

local function every_file(dir)
  local files = {}
  for path, kind in fs.walk(dir) do
    if kind == "file" then files[#files + 1] = dir .. "/" .. path end
  end
  return files
end

test("push, tag, bad release, reset and stop, with passwords everywhere and none shown", function()
  local why = require("lab.docker").unavailable()
  if why then check.skip(why) end
  local git, registry, docker = lab.git { auth = true }, lab.registry { auth = "htpasswd" }, lab.docker()
  local repo = git:repo "web"
  local messages, tokens, argvs = {}, {}, {}
  local hook = serve_hook(messages, tokens)
  check.defer(function() hook:close() end)
  local ports = { STAGING = tostring(base.port()), PRODUCTION = tostring(base.port()), HOOK = tostring(hook.port) }
  local values = {
    SOCKET = docker.socket, REGISTRY = registry.host, USER = registry.user, GITHOST = git.host, GITUSER = git.user,
    SOURCE = ("http://%s/git/web.git"):format(git.host), STAGING = ports.STAGING, PRODUCTION = ports.PRODUCTION,
    HOOK = ports.HOOK,
  }
  local host = hosts.new(fill(CONFIG, values), {
    env = { REGISTRY_PASSWORD = registry.password, APP_SECRET = APP_SECRET, HOOK_TOKEN = HOOK_TOKEN },
  })
  base.write(host.dir .. "/git-password", git.password .. "\n", 384)

  local function ask(port)
    local answer = require("http").get(("http://127.0.0.1:%s/"):format(port), { timeout = 1 })
    return answer and answer.status == 200 and answer.body:match("^hello ([^\n]*)") or nil
  end
  local function serves(name, word)
    return host:until_(name, "serves " .. word, 30, function(e)
      return e.state ~= "running" and e.current and ask(ports[name:upper()]) == word
    end)
  end
  local sampler = watch_processes(argvs)
  local one = repo:commit(lab.app { version = "one", dockerfile = DOCKERFILE })
  host:start()
  eq(serves("staging", "one").current.commit, one)
  repo:tag("v1.0.0", { message = "annotated" })
  eq(serves("production", "one").current.version, "v1.0.0")
  repo:commit(lab.app { version = "two", dockerfile = DOCKERFILE })
  serves("staging", "two")
  repo:commit(lab.app { version = "three", mode = "sick", dockerfile = DOCKERFILE })
  host:until_("staging", "takes the bad one back", 60, function(e)
    return e.last and e.last.kind == "rollback" and e.last.state == "done" and ask(ports.STAGING) == "two"
  end)
  repo:reset(one)
  local reset = serves("staging", "one")
  eq(reset.current.commit, one)
  check.eventually(function() return #messages >= 4 end, 10, "the channel hears of the releases")
  eq(tokens[1], "Bearer " .. HOOK_TOKEN)

  -- A broken reload leaves the old configuration running and says so; a good one is taken.
  local config = assert(fs.read(host.config))
  host:configure("return { apps = {")
  host.process:kill("HUP")
  check.eventually(function()
    return host.client:status().host.reload_error and host:log():find("refused", 1, true)
  end, 10, "the refused reload is told")
  host:configure((config:gsub('poll = "0.3s"', 'poll = "0.4s"')))
  host.process:kill("HUP")
  check.eventually(function() return not host.client:status().host.reload_error end, 10, "the good one is loaded")
  sampler:cancel()

  -- Every word that the host and its commands say, and every file it keeps.
  local said = { log = host:log() }
  for _, words in ipairs {
    { "status" }, { "history" }, { "why", "web" }, { "logs", "1" }, { "status", "-o", "json" }, { "check" },
  } do
    said[table.concat(words, " ")] = host:command(table.unpack(words)).stdout
  end
  local stopped = host:stop("TERM")
  eq(stopped.code, 0)
  for _, words in ipairs { { "status" }, { "history" }, { "why", "web" }, { "logs", "1" } } do
    local result = host:command(table.unpack(words))
    eq(result.code, 0, result.stdout)
    said["down: " .. table.concat(words, " ")] = result.stdout
  end
  has(said["down: history"], "v1.0.0")
  for _, path in ipairs(every_file(host.state)) do said[path] = fs.read(path, { max = 64 << 20 }) end
  for argv in pairs(argvs) do said["argv " .. argv:gsub("%z", " "):sub(1, 60)] = argv end
  -- The test's own git talks to the server with the password in its URL; that is the test's, not the host's.
  for where in pairs(said) do
    for _, own in ipairs { "argv git", "argv /usr/lib/git", "htpasswd" } do
      if where:find(own, 1, true) then said[where] = nil end
    end
  end
  for _, secret in ipairs { registry.password, git.password, APP_SECRET, HOOK_TOKEN } do
    local forms = {
      secret, hash.base64(secret), hash.base64(registry.user .. ":" .. secret),
      hash.base64(git.user .. ":" .. secret),
    }
    for where, text in pairs(said) do
      for _, form in ipairs(forms) do
        ok(not text:find(form, 1, true), ("a secret stands in %s"):format(where))
      end
    end
  end
end, 240)

test("a stop in the middle of a build parks it, and the next host finishes it", function()
  local why = require("lab.docker").unavailable()
  if why then check.skip(why) end
  local git, registry, docker = lab.git {}, lab.registry {}, lab.docker()
  local repo, port = git:repo "web", base.port()
  repo:commit(lab.app { version = "one", dockerfile = DOCKERFILE })
  local host = hosts.new(fill(BUILDS, {
    SOCKET = docker.socket, SOURCE = repo.url, REGISTRY = registry.host, PORT = tostring(port),
  }))
  host:start()
  host:until_("staging", "works", 30, function(e) return e.state == "running" end)
  host.process:kill("TERM")
  host.process:kill("TERM") -- twice: no grace
  eq(host:stop("TERM").code, 0)
  local result = host:command("once")
  eq(result.code, 0, result.stdout)
  local history = json.decode(host:command("history", "-o", "json").stdout)
  eq({ #history.runs, history.runs[1].state }, { 1, "done" })
end, 120)
