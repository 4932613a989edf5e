-- The whole story by the image itself, as its pod would live it: nobody's user, a read-only root, no capabilities, the
-- token of the chart's service account with exactly the chart's rights, the chart's configuration, a real API server;
-- a real BuildKit builds, and where there is a real node, real pods answer.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check, cluster, lab = require "check", require "cluster.lab", require "lab"
local fs, http, json, registry_of = require "fs", require "http", require "json", require "images.registry"
local box = require "image.box"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local SCRATCH <const> = "FROM scratch\nCOPY app version mode /\nENV PORT=8080\nENTRYPOINT [\"/app\"]\n"

-- A folder that the image's user can read, with files in it.
local function folder(name, files)
  local dir = lab.dir(name)
  for file, text in pairs(files) do lab.write(dir .. "/" .. file, text) end
  lab.run { "chmod", "-R", "a+rX", dir }
  return dir
end

local function values_of(w)
  local function environment(ns)
    return {
      target = { kind = "kubernetes", namespace = ns, workload = "deployment/web", containers = { "app" } },
      watch_for = "2s",
    }
  end
  return {
    replicas = 0, secrets = { "git" }, certificates = { "buildkit" },
    config = {
      poll = "0.5s",
      credentials = {
        [w.git.host] = { username = w.git.user, password = { file = "/etc/moontide/secrets/git/password" } },
      },
      builder = {
        kind = "buildkit", address = w.builder.address, network = "host", command = { "/tools/buildctl" },
        ca = "/etc/moontide/certificates/buildkit/ca.crt", cert = "/etc/moontide/certificates/buildkit/tls.crt",
        key = "/etc/moontide/certificates/buildkit/tls.key",
      },
      apps = { web = {
        source = ("http://%s/git/web.git"):format(w.git.host), image = w.image,
        environments = { staging = environment(w.stage), production = environment(w.prod) },
      } },
    },
  }
end

-- Installs the chart without a pod, and gives the configuration that it made for it.
local function install(c, w)
  local file = lab.write(lab.dir("values") .. "/values.json", ok(json.encode(values_of(w))))
  c:helm { "install", "demo", "config/chart", "--namespace", w.own, "--values", file, "--wait" }
  check.defer(function() c:helm { "uninstall", "demo", "--namespace", w.own, "--wait" } end)
  local map = ok(c:get(("/api/v1/namespaces/%s/configmaps/demo-moontide"):format(w.own)))
  local config = ok(json.decode(map.data["moontide.json"]))
  eq(config.listen, "0.0.0.0:8420")
  config.listen = "127.0.0.1:" .. lab.port() -- the container is on this machine's network
  return config
end

-- Runs a command inside the running container.
local function inside(id, argv)
  local docker = box.docker()
  local made = ok(docker:call("POST", "/containers/" .. id .. "/exec",
    { json = { Cmd = argv, AttachStdout = true, AttachStderr = true, Tty = true } }))
  local output = docker:call("POST", "/exec/" .. made.Id .. "/start", { json = { Detach = false, Tty = true } })
  local code = ok(docker:call("GET", "/exec/" .. made.Id .. "/json")).ExitCode
  return code, tostring(output)
end

local function world(c)
  local why = require("lab.buildkit").unavailable()
  if why then check.skip(why) end
  box.need()
  local w = { git = lab.git { auth = true }, registry = lab.registry {} }
  w.builder = require("lab.buildkit").open().builder
  w.repo, w.image = w.git:repo "web", w.registry.host .. "/team/web"
  w.own, w.stage, w.prod = c:namespace "moon", c:namespace "stage", c:namespace "prod"
  local zero = lab.image(w.registry, { version = "zero", tag = "zero" })
  for _, ns in ipairs { w.stage, w.prod } do
    if c.real then
      c:create(("/apis/apps/v1/namespaces/%s/deployments"):format(ns), cluster.app_deployment("web", zero.image))
    else
      c:deployment(ns, "web", { containers = { { name = "app", image = zero.image } } })
    end
    c:rolled_out(ns, "web", 90)
  end
  return w
end

-- The word of the version that runs: asked from a real pod, else read from the revision of the image.
local function running(c, w, ns)
  if c.real then return c:ask(ns, "app=web") end
  local deployment = ok(c:get(("/apis/apps/v1/namespaces/%s/deployments/web"):format(ns)))
  local digest = deployment.spec.template.spec.containers[1].image:match("@(.*)$")
  local labels = digest and registry_of.repository(w.image, { registries = {} }):labels(digest)
  return labels and w.words[labels["org.opencontainers.image.revision"] or ""]
end

test("push, staging, tag, production, rollback: all by the image, with the chart's rights alone", function()
  local c = cluster.open()
  local w = world(c)
  w.words = {}
  local function push(word, mode)
    local commit = w.repo:commit(lab.app { version = word, mode = mode, dockerfile = SCRATCH })
    w.words[commit] = word
    return commit
  end
  local config = install(c, w)
  local pki = lab.dir("pki")
  lab.write(pki .. "/ca.crt", ok(fs.read(w.builder.ca)))
  lab.write(pki .. "/tls.crt", ok(fs.read(w.builder.cert)))
  lab.write(pki .. "/tls.key", ok(fs.read(w.builder.key)))
  lab.run { "chmod", "-R", "a+rX", pki }
  local account = c:pod_secrets(c:token(w.own, "demo-moontide"), w.own)
  lab.run { "chmod", "-R", "a+rX", account }
  local one = push "one"
  local address, port = c.server:match("^https://([^:]+):(%d+)$")
  local id = box.start {
    "run", "--config", "/etc/moontide/moontide.json",
    env = { KUBERNETES_SERVICE_HOST = address, KUBERNETES_SERVICE_PORT = port, POD_IP = "127.0.0.1" },
    binds = {
      folder("config", { ["moontide.json"] = ok(json.encode(config)) })
        .. "/moontide.json:/etc/moontide/moontide.json:ro",
      folder("git", { password = w.git.password }) .. ":/etc/moontide/secrets/git:ro",
      pki .. ":/etc/moontide/certificates/buildkit:ro",
      account .. ":/var/run/secrets/kubernetes.io/serviceaccount:ro",
      w.builder.command[1]:match("^(.*)/") .. ":/tools:ro",
      folder("test", { ["test.lua"] = ok(fs.read("config/chart/files/test.lua")) }) .. ":/test:ro",
    },
  }
  local function serves(ns, word)
    local fine, why = pcall(check.eventually, function() return running(c, w, ns) == word end, 90, word)
    if fine then return end
    error(("%s: no %s in %s; it said:\n%s"):format(tostring(why), word, ns, box.output(id):sub(-3000)))
  end
  serves(w.stage, "one")
  local d = ok(c:get(("/apis/apps/v1/namespaces/%s/deployments/web"):format(w.stage)))
  has(d.spec.template.spec.containers[1].image, w.image .. "@sha256:")
  has(json.encode(d.metadata.annotations) .. json.encode(d.spec.template.metadata.annotations or {}), one)

  push "two"
  serves(w.stage, "two")
  w.repo:tag "v1.0.0"
  serves(w.prod, "two")
  push "three"
  serves(w.stage, "three")
  w.repo:tag "v1.1.0"
  serves(w.prod, "three")

  -- A person takes it back, at the prompt inside the pod.
  check.eventually(function()
    local code, said = inside(id, { "moontide", "status" })
    return code == 0 and said:find("v1.1.0", 1, true)
  end, 30, "status inside tells v1.1.0")
  -- What `helm test` runs, and the names that the service and its ingress have.
  local code, said = inside(id, { "moontide", "exec", "/test/test.lua", "http://" .. config.listen })
  eq(code, 0, said)
  local function asked_as(name)
    return ok(http.get("http://" .. config.listen .. "/readyz", { headers = { Host = name .. ":8420" } })).status
  end
  eq({ asked_as("demo-moontide." .. w.own), asked_as("demo-moontide"), asked_as("elsewhere") }, { 200, 200, 421 })
  code, said = inside(id, { "/usr/bin/moontide", "rollback", "web", "production" })
  eq(code, 0, said)
  serves(w.prod, "two")
  code, said = inside(id, { "moontide", "history", "web" })
  eq(code, 0, said)
  has(said, "v1.0.0")
  local events = c:kubectl { "-n", w.prod, "get", "events.events.k8s.io", "-o", "json" }
  has(events, '"reportingController": "moontide"')

  -- Nothing came into its root but the places of mounts, and it stops when it is told.
  local changes = ok(box.docker():call("GET", "/containers/" .. id .. "/changes"))
  for _, change in ipairs(type(changes) == "table" and changes or {}) do
    ok(not change.Path:find("^/usr") and not change.Path:find("^/home"), change.Path)
  end
  ok(not box.output(id):find(w.git.password, 1, true), "a password in the log")
  ok(not box.output(id):find("denied", 1, true), box.output(id))
  box.docker():call("POST", "/containers/" .. id .. "/stop?t=40")
  eq(ok(box.docker():call("GET", "/containers/" .. id .. "/json")).State.ExitCode, 0)
end, 600)
