-- The podman target with real podman and a real registry; its YAML as text.
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local app, lab, yaml = require "lab.app", require "lab", require "yaml"
local fs, time = require "fs", require "time"
local manifest = require "targets.manifest"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

-- ---- the YAML ----

local IMAGE <const> = "127.0.0.1:5000/team/web@sha256:" .. ("a"):rep(64)

local function render(text, container)
  return manifest.render(text, {
    path = "web.yaml", container = container, image = IMAGE, labels = { app = "web", release = "7" },
  })
end

local TWO <const> = [[
apiVersion: v1
kind: ConfigMap
metadata: { name: web-cfg }
data: { GREETING: "yes", VERSION: "1.10" }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 1
  template:
    metadata: { labels: { app: web } }
    spec:
      hostNetwork: true
      initContainers: [ { name: prepare, image: "tools:1" } ]
      containers:
        - name: app
          image: "team/web:v1"
          ports: [ { containerPort: 80 } ]
          env: [ { name: PORT, value: "8097" } ]
        - { name: side, image: "proxy:2", imagePullPolicy: Always }
        - { name: own, image: "localhost/own", imagePullPolicy: Never }
      volumes: [ { name: v, configMap: { name: web-cfg, defaultMode: 0644 } } ]
]]

test("the image goes into exactly the named container, and everything else stays as it was", function()
  local m = ok(render(TWO, "app"))
  local all = ok(yaml.decode_all(m.text))
  eq(all[1].data, { GREETING = "yes", VERSION = "1.10" })
  local template = all[2].spec.template
  local images = {}
  for i, c in ipairs(template.spec.containers) do images[i] = c.image end
  eq(images, { IMAGE, "proxy:2", "localhost/own" })
  eq(template.spec.initContainers[1].image, "tools:1")
  eq(template.spec.containers[1].env[1].value, "8097")
  eq(template.metadata.labels, {
    app = "web", ["moontide.dev/app"] = "web", ["moontide.dev/release"] = "7", ["moontide.dev/container"] = "app",
  })
  eq({ m.pods, m.container, m.count }, { { "web" }, "app", 3 })
end)

test("what podman refuses, or would do too late, is taken out", function()
  local m = ok(render(TWO, "app"))
  local spec = ok(yaml.decode_all(m.text))[2].spec.template.spec
  eq(spec.containers[1].ports, nil, "ports beside hostNetwork")
  eq({ spec.containers[1].imagePullPolicy, spec.containers[2].imagePullPolicy, spec.containers[3].imagePullPolicy },
    { "IfNotPresent", "IfNotPresent", "Never" })
  eq(m.images, { { name = "proxy:2", always = true }, { name = "tools:1", always = false } })
  eq(spec.volumes[1].configMap.defaultMode, 420)
end)

test("a container that cannot be told is an error, before anything is touched", function()
  has(fails("invalid", render(TWO)).message, "it has 4 containers: `container` must name one")
  has(fails("invalid", render(TWO, "ap")).message, "it has no container 'ap'")
  has(fails("invalid", render("kind: ConfigMap\n")).message, "it has no container")
  has(fails("invalid", render("kind: Pod\nspec: { containers: [ { image: a } ] }\n")).message, "has no name")
  has(fails("invalid", render("a: [\n")).message, "line")
  local twice = "kind: Pod\nmetadata: { name: x }\nspec: { containers: [ { name: a }, { name: a } ] }"
  has(fails("invalid", render(twice, "a")).message, "two containers are called 'a'")
  for _, hostile in ipairs { "", "~", "[]", "kind: Pod", "kind: Pod\nspec: 7", "kind: Pod\nspec: { containers: 7 }",
    "kind: Deployment\nspec: { template: { spec: { containers: [ 7, ~ ] } } }" } do
    fails("invalid", render(hostile))
  end
end)

test("rendering what was rendered gives the same", function()
  local once = ok(render(TWO, "app"))
  eq(ok(render(once.text, "app")).text, once.text)
end)

-- ---- for real ----

local missing = require("lab.podman").unavailable()

local DEPLOYMENT <const> = [[
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, labels: { app: web } }
spec:
  replicas: 1
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      hostNetwork: true
      restartPolicy: Always
      terminationGracePeriodSeconds: 2
      containers:
        - name: app
          image: put-in-by-moontide
          env: [ { name: PORT, value: "@PORT@" } ]
]]

local registry ---@type LabRegistry

-- A place for one test: its own port, state and YAML.
local function place(more)
  if missing then check.skip(missing) end
  local podman = lab.podman()
  registry = registry or lab.registry {}
  check.defer(function() podman:clear() end)
  local dir, port = lab.dir("podman"), lab.port()
  lab.write(dir .. "/web.yaml", (DEPLOYMENT:gsub("@PORT@", tostring(port))))
  local environment = {
    name = "staging", app = "web", verify = more and more.verify or { {} },
    target = { kind = "podman", yaml = dir .. "/web.yaml", env = podman.env, timeout = 20 },
  }
  local cfg = { dir = dir, state = dir .. "/state", registries = more and more.registries or {} }
  return {
    dir = dir, port = port, podman = podman,
    target = require("targets").open(environment, require("engine.world").of(cfg)),
    environment = environment, cfg = cfg,
  }
end

local function request(image, release, more)
  local r = {
    image = image.image, digest = image.digest, commit = image.commit, version = "v" .. release .. ".0.0",
    release = release,
  }
  for k, v in pairs(more or {}) do r[k] = v end
  return r
end

local function put(p, image, release, more)
  local r = request(image, release, more)
  ok(p.target:apply(r))
  ok(p.target:wait(r))
  ok(p.target:settle(r))
end

local function answers(p, text)
  check.eventually(function() return app.ask(p.port) == "hello " .. text .. "\n" end, 5, text .. " answers")
end

local function pods(p)
  local names = {}
  for name in p.podman:run { "podman", "pod", "ps", "--format", "{{.Name}}" }:gmatch("%S+") do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

test("a release runs, is reported by podman itself, and the next one replaces it", function()
  local p = place()
  local one, two = lab.image(registry, { version = "one" }), lab.image(registry, { version = "two" })
  eq({ p.target:current() }, {})
  put(p, one, 1)
  answers(p, "one")
  local now = ok(p.target:current())
  eq(now, {
    digest = one.digest, image = one.image, commit = one.commit, version = "v1.0.0", release = 1, state = "running",
  })
  local id = p.podman:run { "podman", "ps", "-q", "--filter", "label=moontide.dev/app=web" }
  ok(p.target:apply(request(one, 1))) -- asked again after a crash: nothing happens
  eq(p.podman:run { "podman", "ps", "-q", "--filter", "label=moontide.dev/app=web" }, id)
  put(p, two, 2)
  answers(p, "two")
  eq(p.target:current().digest, two.digest)
  eq(pods(p), { "web-pod-0" })
end)

test("pods that an earlier release labelled are known and replaced, and played again with our labels now", function()
  local p = place()
  local one, two = lab.image(registry, { version = "one" }), lab.image(registry, { version = "two" })
  put(p, one, 1)
  local file = p.cfg.state .. "/podman/web@staging/good.yaml"
  local text = ok(require("fs").read(file)):gsub("moontide%.dev/", "moontide.")
  lab.write(file, text)
  p.podman:run { "podman", "kube", "play", "--replace", file }
  local function old() return p.podman:run { "podman", "ps", "-q", "--filter", "label=moontide.app=web" } end
  ok(old() ~= "")
  local cfg = {} ---@type any Of a host that was upgraded.
  for key, value in pairs(p.cfg) do cfg[key] = value end
  p.target = require("targets").open(p.environment, require("engine.world").of(cfg))
  eq({ p.target:current().release, p.target:current().commit }, { 1, one.commit })
  put(p, two, 2)
  answers(p, "two")
  eq({ old(), p.target:current().release }, { "", 2 })
  put(p, one, 3, { restored = true })
  answers(p, "one")
  eq({ old(), p.target:current().release, pods(p) }, { "", 3, { "web-pod-0" } })
end)

test("an image that the registry lacks leaves what runs alone", function()
  local p = place()
  local one = lab.image(registry, { version = "one" })
  put(p, one, 1)
  local digest = "sha256:" .. ("0"):rep(64)
  local gone = { image = one.image:gsub("@.*", "@") .. digest, digest = digest }
  has(fails("failed", p.target:apply(request(gone, 2))).message, "manifest unknown")
  answers(p, "one")
  eq(p.target:current().release, 1)
  eq(p.podman:run { "podman", "ps", "--format", "{{.Names}}", "--filter", "label=moontide.dev/app=web" },
    "web-pod-0-app\n")
end)

test("a rollback plays the YAML that was good, whatever the file says now, in a moment", function()
  local p = place()
  local one, two = lab.image(registry, { version = "one" }), lab.image(registry, { version = "two" })
  put(p, one, 1)
  put(p, two, 2)
  lab.write(p.dir .. "/web.yaml", "kind: broken\n")
  local started = time.monotonic()
  put(p, one, 3, { restored = true })
  answers(p, "one")
  print(("    podman rollback: %.2f s"):format(time.monotonic() - started))
  eq(p.target:current().release, 3)
  fails("invalid", p.target:apply(request(two, 4))) -- not a rollback: the file counts
  answers(p, "one")
  local mode = ok(fs.stat(p.target.folder .. "/good.yaml")).mode
  eq(mode & 63, 0, "nobody else may read it")
end)

test("what crashes at once is unhealthy with its last words, and goes back", function()
  local p = place { verify = {} }
  local one, bad = lab.image(registry, { version = "one" }), lab.image(registry, { version = "bad", mode = "crash" })
  put(p, one, 1)
  ok(p.target:apply(request(bad, 2)))
  local err = fails("unhealthy", p.target:wait(request(bad, 2)))
  has(err.message, "cannot start")
  has(err.message, "web-pod-0-app")
  put(p, one, 3, { restored = true })
  answers(p, "one")
end)

test("a YAML that podman cannot start brings back what ran", function()
  local p = place()
  local one, two = lab.image(registry, { version = "one" }), lab.image(registry, { version = "two" })
  put(p, one, 1)
  local text = ok(fs.read(p.dir .. "/web.yaml"))
  lab.write(p.dir .. "/web.yaml", text .. '          command: ["/no/such/program"]\n')
  local err = fails("unhealthy", p.target:apply(request(two, 2)))
  has(err.message, "/no/such/program")
  has(err.message, "what ran before is back")
  answers(p, "one")
  eq(p.target:current().digest, one.digest)
end)

test("a health check is asked, since nobody else does: well, and unwell", function()
  local p = place { verify = {} }
  local text = ok(fs.read(p.dir .. "/web.yaml"))
  lab.write(p.dir .. "/web.yaml", text .. '          livenessProbe: { exec: { command: [ "/app", "--check" ] },'
    .. " periodSeconds: 1, timeoutSeconds: 2, failureThreshold: 2 }\n")
  local one = lab.image(registry, { version = "one" })
  put(p, one, 1)
  eq(p.target:current().healthy, true)
  local sick = lab.image(registry, { version = "sick", mode = "sick" })
  ok(p.target:apply(request(sick, 2)))
  has(fails("unhealthy", p.target:wait(request(sick, 2))).message, "health check of web-pod-0-app says unhealthy")
  eq(p.target:current().healthy, false)
  local slow = lab.image(registry, { version = "slow", mode = "slow 30" })
  text = ok(fs.read(p.dir .. "/web.yaml"))
  lab.write(p.dir .. "/web.yaml", (text:gsub("failureThreshold: 2", "failureThreshold: 99")))
  ok(p.target:apply(request(slow, 3)))
  has(fails("unhealthy", p.target:wait(request(slow, 3, { timeout = 2 }))).message, "did not become healthy in 2")
end, 90)

test("what somebody removed by hand is nothing, and comes again when it is asked for", function()
  local p = place()
  local one = lab.image(registry, { version = "one" })
  put(p, one, 1)
  p.podman:run { "podman", "rm", "-f", "-t", "0", "web-pod-0-app" }
  local now, err = p.target:current()
  eq({ now, err }, {})
  has(fails("unhealthy", p.target:wait(request(one, 1))).message, "its pods are gone")
  ok(p.target:apply(request(one, 1)))
  answers(p, "one")
  p.podman:run { "podman", "stop", "-t", "0", "web-pod-0-app" }
  now = ok(p.target:current())
  eq({ now.healthy, now.state }, { false, "exited" })
end)

test("a pod that changed its name does not go on beside the new one", function()
  local p = place()
  local one = lab.image(registry, { version = "one" })
  put(p, one, 1)
  local text = ok(fs.read(p.dir .. "/web.yaml"))
  lab.write(p.dir .. "/web.yaml", (text:gsub("metadata: { name: web,", "metadata: { name: site,")))
  put(p, one, 2)
  answers(p, "one")
  eq(pods(p), { "site-pod-0" })
end)

test("podman logs in with a secret that no error, argument or log shows", function()
  local guarded = missing and check.skip(missing) or lab.registry { auth = "htpasswd" }
  local dir = lab.dir("secret")
  lab.write(dir .. "/password", guarded.password .. "\n")
  local p = place { registries = { [guarded.host] = {
    username = guarded.user, password = require("config.secret").new("file", dir .. "/password"), plain_http = true,
  } } }
  local one = lab.image(guarded, { version = "guarded one" })
  put(p, one, 1)
  answers(p, "guarded one")
  lab.write(dir .. "/password", "canary-of-podman")
  local two = lab.image(guarded, { version = "guarded two" })
  local err = fails("failed", p.target:apply(request(two, 2)))
  eq(tostring(err):find("canary", 1, true), nil)
  eq(require("json").encode(require("errors").plain(err)):find("canary", 1, true), nil)
  answers(p, "guarded one")
end)

test("certificates are checked unless a registry is on this machine or says that it is plain", function()
  local p = place()
  p.environment.target.env = { PATH = lab.dir("bin") }
  local program = p.environment.target.env.PATH .. "/podman"
  lab.write(program, '#!/usr/bin/perl\nopen my $f, ">", "$0.said"; print $f "@ARGV"; exit 1\n', 493) -- 0755
  for name, insecure in pairs { ["127.0.0.1:5000/web"] = true, ["127.evil.example/web"] = false, ["tools"] = false } do
    fails("failed", p.target:pull(name .. ":1", true))
    local option = insecure and "--tls-verify=false " or ""
    eq(ok(fs.read(program .. ".said")), ("pull %s%s:1"):format(option, name))
  end
end)

test("what podman found busy is done again, and told when it stays so", function()
  local p = place()
  local folder = lab.dir("bin")
  p.environment.target.env = { PATH = folder }
  lab.write(folder .. "/podman", "#!/usr/bin/perl\n" .. [[
open my $f, ">>", "$0.calls"; print $f "x"; close $f;
if (-s "$0.calls" <= $ENV{BUSY}) { print STDERR "unlinkat /shm: device or resource busy\n"; exit 125 }
print "[]"]], 493) -- 0755
  p.environment.target.env.BUSY = "2"
  eq(ok(p.target:list { "ps" }), {})
  eq(ok(fs.read(folder .. "/podman.calls")), "xxx")
  p.environment.target.env.BUSY = "100"
  has(fails("failed", p.target:list { "ps" }).message, "busy")
end)

test("podman that is not there is said so", function()
  local p = place()
  p.environment.target.env = { PATH = "/nonexistent" }
  has(fails("not_found", p.target:current()).message, "podman is not installed")
end)

test("what a host of another state left running is waited for by its image, whatever its number", function()
  local p = place()
  local one, two = lab.image(registry, { version = "one" }), lab.image(registry, { version = "two" })
  put(p, one, 7)
  local function id() return p.podman:run { "podman", "ps", "-q", "--filter", "label=moontide.dev/app=web" } end
  local before = id()
  ok(fs.remove(p.cfg.state, { recursive = true }))
  eq(p.target:current().release, 7)
  ok(p.target:wait(request(one, 8)))
  ok(p.target:settle(request(one, 8)))
  eq(id(), before)
  fails("unhealthy", p.target:wait(request(two, 8)))
  put(p, two, 9)
  answers(p, "two")
end)

test("two branches have pods of their own from one YAML; one that is taken down is gone, with what was kept", function()
  local p = place()
  local yaml_of = DEPLOYMENT:gsub("@PORT@", tostring(p.port)):gsub("app: web", "app: {place}")
  lab.write(p.dir .. "/web.yaml", (yaml_of:gsub("name: web,", "name: \"web-{branch}\",")))
  local image = lab.image(registry, { version = "one" })
  local function of_branch(label)
    local environment = {
      name = "preview-" .. label, app = "web", branch = "feature/" .. label, label = label, verify = {},
      target = p.environment.target,
    }
    return require("targets").open(environment, require("engine.world").of(p.cfg))
  end
  local one, two = of_branch "one", of_branch "two"
  ok(one:apply(request(image, 1)))
  ok(one:settle(request(image, 1)))
  ok(two:apply(request(image, 2)))
  eq(pods(p), { "web-one-pod-0", "web-two-pod-0" })
  ok(one:destroy {})
  eq(pods(p), { "web-two-pod-0" })
  eq({ one:current(), fs.exists(p.cfg.state .. "/podman/web@preview-one") }, { nil, false })
  ok(one:destroy {})
end)
