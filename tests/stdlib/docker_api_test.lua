-- One version of the Docker Engine's API for everything that talks to an engine: engines of all ages, stand-ins that
-- refuse as they do, and the real one.
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local lab = require "lab"
local api, engines, fs, serve = require "containers.api", require "containers.engine", require "fs", require "serve"
local choice, errors, world = require "images.builder.choice", require "errors", require "engine.world"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

-- An engine that speaks versions from `oldest` to `newest` and refuses others as dockerd does.
local function number(version) return tonumber(version:match("%.(%d+)$")) end

local function engine(about)
  local self = { log = {}, about = about, socket = lab.dir("engine") .. "/run/docker.sock" }
  self.start = function()
    self.server = ok(serve.listen { unix = self.socket, handler = function(request)
      self.log[#self.log + 1] = request.method .. " " .. request.path
      if self.about.status and request.path ~= self.about.except then
        return { status = self.about.status, body = "upstream is away" }
      end
      if request.path == "/version" then
        if self.about.shut then return { status = 403, body = "forbidden by the proxy" } end
        return { body = { ApiVersion = self.about.newest, MinAPIVersion = self.about.oldest } }
      elseif request.path == "/_ping" then
        if self.about.no_ping then return { status = 403, body = "forbidden by the proxy" } end
        return { body = "OK", headers = { ["Api-Version"] = self.about.newest } }
      end
      local version, path = request.path:match("^/v(1%.%d+)(/.*)$")
      if not version then return { status = 404 } end
      local words
      if number(version) < number(self.about.oldest) then
        words = ("client version %s is too old. Minimum supported API version is %s"):format(version,
          self.about.oldest)
      elseif number(version) > number(self.about.newest) then
        words = ("client version %s is too new. Maximum supported API version is %s"):format(version,
          self.about.newest)
      elseif path == "/containers/json" then
        return { body = "[]", headers = { ["Content-Type"] = "application/json" } }
      else
        return { status = 404, body = { message = "no such thing" } }
      end
      return { status = 400, body = { message = words } }
    end })
    check.defer(function() self.server:close() end)
  end
  self.start()
  self.drain = function()
    local seen = self.log
    self.log = {}
    return seen
  end
  return self
end

test("the version is the nearest to ours that the engine speaks", function()
  for _, case in ipairs {
    { "1.41", "1.12", "1.41" }, { "1.47", "1.24", "1.41" }, { "1.52", "1.44", "1.44" }, { "1.60", "1.50", "1.50" },
    { "1.40", "1.12", "1.40" }, { "1.30", "1.12", "1.30" }, { "1.41", nil, "1.41" }, { "1.43", nil, "1.41" },
    { "1.44", nil, "1.44" }, { "1.52", nil, "1.44" }, { "1.40", nil, "1.40" }, { "2.0", "1.44", "1.44" },
  } do
    eq(api.choose(case[1], case[2]), case[3], tostring(case[1]))
  end
  for _, bad in ipairs { "1.24", "1.12", "0.9", "", "one", "1.41; x", "1", 5, {} } do
    local version, why = api.choose(bad, nil)
    eq(version, nil, tostring(bad))
    ok(why)
  end
  has(select(2, api.choose("1.24", "1.12")), "upgrade")
end)

test("engines with a floor above ours, or a ceiling below it, are spoken with", function()
  for _, case in ipairs {
    { { newest = "1.52", oldest = "1.44" }, "1.44" }, { { newest = "1.40", oldest = "1.12" }, "1.40" },
    { { newest = "1.52", oldest = "1.44", shut = true }, "1.44" }, { { newest = "1.41", oldest = "1.12" }, "1.41" },
    { { newest = "1.41", oldest = "1.12", shut = true }, "1.41" },
  } do
    local e = engine(case[1])
    local client = engines.open(e.socket)
    eq(client:list {}, {})
    eq(client:list {}, {})
    local asked = case[1].shut and { "GET /version", "GET /_ping" } or { "GET /version" }
    asked[#asked + 1] = ("GET /v%s/containers/json"):format(case[2])
    asked[#asked + 1] = asked[#asked]
    eq(e.drain(), asked) -- asked for once
    eq(api.version(e.socket), case[2])
  end
  local old = engine { newest = "1.24", oldest = "1.12" }
  has(tostring(fails("unsupported", engines.open(old.socket):list {})), "upgrade")
end)

test("an engine that was exchanged is asked again, and a refusal of ours is no exchange", function()
  local e = engine { newest = "1.41", oldest = "1.12" }
  local client = engines.open(e.socket)
  eq(client:list {}, {})
  e.about = { newest = "1.52", oldest = "1.44" }
  eq(client:list {}, {})
  e.about = { newest = "1.43", oldest = "1.24" }
  e.drain()
  eq(client:list {}, {})
  eq(e.drain(), { "GET /v1.44/containers/json", "GET /version", "GET /v1.41/containers/json" })
  e.server:close(0)
  fails("refused", client:list {})
  e.about = { newest = "1.60", oldest = "1.50" }
  e.start()
  e.drain()
  eq(client:list {}, {})
  eq(e.drain(), { "GET /version", "GET /v1.50/containers/json" })
end)

test("an engine that is not there, or is shut to us, is told with what to do", function()
  has(tostring(fails("refused", engines.open("/nonexistent/docker.sock"):list {})), "is docker started?")
  local path = lab.dir("silent") .. "/docker.sock"
  ok(fs.write(path, ""))
  has(tostring(fails("refused", engines.open(path):list {})), path)
end)

test("a proxy whose engine is away is transient, and asked again", function()
  for status, code in pairs { [502] = "busy", [503] = "busy", [429] = "rate_limited" } do
    local e = engine { newest = "1.52", oldest = "1.44", status = status }
    local err = fails(code, engines.open(e.socket):list {})
    ok(errors.passing(err), tostring(err))
    has(tostring(err), "upstream is away")
    e.about.status = nil
    eq(engines.open(e.socket):list {}, {})
  end
  -- One that shuts /_ping tells by /version alone.
  local half = engine { newest = "1.52", oldest = "1.44", status = 503, except = "/_ping", no_ping = true }
  ok(errors.passing(fails("busy", engines.open(half.socket):list {})))
  local shut = engine { newest = "1.52", oldest = "1.44", status = 403 }
  has(tostring(fails("unsupported", engines.open(shut.socket):list {})), "does not tell")
end)

test("the real engine says what it speaks, and is spoken with", function()
  local why = require("lab.docker").unavailable()
  if why then check.skip(why) end
  local docker = lab.docker()
  local about = ok(docker:call("GET", "/version"))
  eq(api.version(docker.socket), api.choose(about.ApiVersion, about.MinAPIVersion))
  eq(engines.open(docker.socket):list { ["moontide.dev/app"] = "nobody" }, {})
end)

-- ---- auto ----

local function hooks()
  local said = {}
  return { output = function(_, line) said[#said + 1] = line end, progress = function() end }, said
end

test("auto chooses once, says so, and keeps to docker while its engine is down", function()
  local e = engine { newest = "1.52", oldest = "1.44" }
  local state = lab.dir("state")
  local function config()
    return { state = state, builder = { kind = "auto", socket = e.socket, env = {} }, apps = {} }
  end
  local said, lines = hooks()
  eq(choice.kind(world.of(config()), said), "docker")
  eq(#lines, 1)
  has(lines[1], "docker")
  eq(fs.read(state .. "/builder"), "docker\n")
  e.server:close(0)
  eq(choice.kind(world.of(config()), said), "docker") -- another configuration, as after a restart
  eq(#lines, 1)
end)

test("docker that belongs here but is down is an error with its name, and no reason for another builder", function()
  local said = hooks()
  local socket = lab.dir("down") .. "/docker.sock"
  local cfg = { state = lab.dir("state"), builder = { kind = "auto", socket = socket, env = {} }, apps = {} }
  local err = fails("refused", choice.kind(world.of(cfg), said))
  has(err.message, socket)
  has(err.message, "builder.kind")
  eq(fs.exists(cfg.state .. "/builder"), false)
  -- Once it is up, it is chosen.
  local e = engine { newest = "1.41", oldest = "1.12" }
  cfg.builder.socket = e.socket
  eq(choice.kind(world.of(cfg), said), "docker")
end)

test("a chosen kind is taken as it is", function()
  local said, lines = hooks()
  eq(choice.kind(world.of { state = lab.dir("state"), builder = { kind = "podman" } }, said), "podman")
  eq(lines, {})
end)
