-- Container engines of the lab: they work, and nothing outlives them.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: return-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local lab = require "lab"
local victims = require "lab.victims"
local app = require "lab.app"
local fs, json = require "fs", require "json"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local docker_missing = require("lab.docker").unavailable()
local podman_missing = require("lab.podman").unavailable()
local function needs(missing)
  if missing then check.skip(missing) end
end

-- A build context with one version of the sample app.
local function context(options)
  local dir = lab.dir("context")
  for path, value in pairs(lab.app(options)) do
    if type(value) == "table" then
      lab.write(dir .. "/" .. path, value.text, value.mode)
    else
      lab.write(dir .. "/" .. path, value)
    end
  end
  return dir
end

local function docker_run(docker, image, port, ...)
  local argv = { "docker", "run", "-d", "--network", "host", "-e", "PORT=" .. port, ... }
  argv[#argv + 1] = image
  argv.env = docker.env
  return lab.run(argv):match("%x+")
end

test("docker builds the sample app and runs it", function()
  needs(docker_missing)
  local docker, port = lab.docker(), lab.port()
  check.defer(function() docker:clear() end)
  lab.run { "docker", "build", "-q", "-t", "app:one", context { version = "one" }, env = docker.env }
  docker_run(docker, "app:one", port, "--name", "web")
  eq(check.eventually(function() return (app.ask(port)) end, 10), "hello one\n")
  eq(docker:containers()[1].name, "web")
  docker:clear()
  eq(#docker:containers(), 0)
  eq(app.ask(port), nil)
end)

test("docker reports the health of a version that is never well", function()
  needs(docker_missing)
  local docker, port = lab.docker(), lab.port()
  check.defer(function() docker:clear() end)
  lab.run { "docker", "build", "-q", "-t", "app:sick", context { version = "two", mode = "sick" }, env = docker.env }
  local id = docker_run(docker, "app:sick", port)
  local body, status = nil, nil
  check.eventually(function()
    body, status = app.ask(port)
    return body
  end, 10)
  eq(status, 503)
  has(body, "sick two")
  check.eventually(function()
    return assert(docker:call("GET", "/containers/" .. id .. "/json")).State.Health.Status == "unhealthy"
  end, 15, "the engine calls it unhealthy")
end)

test("versions crash at once, later, or fade", function()
  needs(docker_missing)
  local docker = lab.docker()
  check.defer(function() docker:clear() end)
  local function start(mode)
    local port = lab.port()
    local image = "app:" .. mode:gsub(" ", "")
    lab.run { "docker", "build", "-q", "-t", image, context { version = "x", mode = mode }, env = docker.env }
    return docker_run(docker, image, port), port
  end
  local function state(id) return assert(docker:call("GET", "/containers/" .. id .. "/json")).State end

  local crash = start "crash"
  check.eventually(function() return state(crash).Status == "exited" end, 5)
  eq(state(crash).ExitCode, 1)
  has(lab.run { "docker", "logs", crash, env = docker.env, stderr = "stdout" }, "cannot start")

  local late, late_port = start "late 1"
  check.eventually(function() return app.ask(late_port) end, 5)
  check.eventually(function() return state(late).Status == "exited" end, 5)
  eq(state(late).ExitCode, 14)

  local _, fade_port = start "fade 1"
  check.eventually(function() return select(2, app.ask(fade_port)) == 200 end, 5)
  check.eventually(function() return select(2, app.ask(fade_port)) == 503 end, 5)
end)

test("images go from docker to the registry and into podman", function()
  needs(docker_missing or podman_missing)
  local docker, podman, registry = lab.docker(), lab.podman(), lab.registry {}
  local image = registry.host .. "/team/app:one"
  lab.run { "docker", "build", "-q", "-t", image, context { version = "one" }, env = docker.env }
  lab.run { "docker", "push", "-q", image, env = docker.env }
  podman:run { "podman", "pull", "-q", image }
  has(podman:run { "podman", "images" }, registry.host .. "/team/app")
end)

test("buildah builds, podman plays Kubernetes YAML", function()
  needs(podman_missing)
  local podman, port = lab.podman(), lab.port()
  check.defer(function() podman:clear() end)
  podman:run { "buildah", "build", "-q", "--timestamp", "0", "-t", "localhost/app:one", context { version = "one" } }
  local pod = lab.dir() .. "/pod.yaml"
  lab.write(pod, ([[
apiVersion: v1
kind: Pod
metadata: { name: web, labels: { app: web } }
spec:
  hostNetwork: true
  containers:
    - name: app
      image: localhost/app:one
      imagePullPolicy: Never
      env: [{ name: PORT, value: "%d" }]
]]):format(port))
  podman:run { "podman", "kube", "play", pod }
  eq(check.eventually(function() return (app.ask(port)) end, 10), "hello one\n")
  podman:run { "podman", "kube", "down", pod }
  eq(app.ask(port), nil)
end)

test("the commands podman and buildah work for whoever has the environment", function()
  needs(podman_missing)
  local podman = lab.podman()
  local result = ok(require("proc").run { "podman", "version", "--format", "json", env = podman.env, timeout = 60 })
  ok(result.ok, result.stderr)
  has(json.decode(result.stdout).Client.Version, ".")
end)

test("engines leave the machine's own folders alone", function()
  needs(docker_missing or podman_missing)
  local function listing(path)
    return table.concat((fs.list(path)) or {}, " ")
  end
  local watched = { "/var/lib", "/var/lib/docker", "/var/lib/containers", "/run/runc", "/run/docker", "/etc/docker" }
  local before = {}
  for i, path in ipairs(watched) do before[i] = listing(path) end
  local docker, podman = lab.docker(), lab.podman()
  podman:run { "podman", "images" }
  lab.run { "docker", "images", env = docker.env }
  for i, path in ipairs(watched) do eq(listing(path), before[i], path) end
end)

test("after SIGKILL no container, mount, control group or folder survives", function()
  needs(docker_missing or podman_missing)
  local victim, said = victims.start "cage"
  local name = said.dir:match("(moontide%-lab%.[^/]+)")
  local function processes()
    local count = 0
    for _, pid in ipairs((assert(fs.list("/proc")))) do
      if pid:find("^%d+$") then
        local command = fs.read("/proc/" .. pid .. "/cmdline", { max = 1 << 20 }) or ""
        if command:find(name, 1, true) or command == "/busybox\0sleep\0001000\0" then count = count + 1 end
      end
    end
    return count
  end
  ok(processes() >= 4, "docker, its container, podman's container, the cage")
  victim:kill("KILL")
  check.eventually(function() return processes() == 0 end, 10, "everything in the cage ends")
  victims.sweep()
  ok(not fs.exists(said.dir), "the folder is swept")
  eq((fs.read("/proc/self/mounts", { max = 1 << 20 }) or ""):find(name, 1, true), nil)
  for _, root in ipairs { "/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/systemd" } do
    ok(not fs.exists(root .. "/" .. said.cgroup), "control group")
  end
end, 120)

test("closing the lab ends the engines and removes the scratch folder", function()
  needs(docker_missing)
  local docker = lab.docker()
  local dir, pid = docker.cage.dir, docker.cage.pid
  lab.close()
  ok(not fs.exists(dir))
  check.eventually(function() return not fs.exists("/proc/" .. pid) end, 2, "the cage is gone")
end)
