-- Builds as Jobs of a cluster: the Job against a real API server, with nodes that only play; buildah's part, the very
-- commands of its containers, against a real registry.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check, cluster, lab = require "check", require "cluster.lab", require "lab"
local fs, kubernetes, task, time = require "fs", require "kubernetes", require "task", require "time"
local contexts, job = require "images.builder.contexts", require "images.builder.job"
local manifest = require "images.builder.manifest"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local COMMIT <const> = ("a1b2"):rep(10)

local registry

-- A request as image.lua makes it, for a registry where the image already is, as if a node had pushed it.
local function request_of(options)
  options = options or {}
  registry = registry or lab.registry {}
  local name = registry.host .. "/team/" .. (options.name or "web")
  local r = {
    lines = {}, progress = {}, name = name .. ":sha-" .. COMMIT, repository = name, tag = "sha-" .. COMMIT,
    archive = lab.write(lab.dir("context") .. "/context.tar", "no tar\n"), dockerfile = "Dockerfile",
    app = { name = "web", image = name, context = ".",
      build = { args = { WORD = "a b" }, timeout = options.timeout or 60 } },
    labels = { ["org.opencontainers.image.revision"] = COMMIT }, work = lab.dir("work"),
    cfg = { clusters = {}, registries = {}, listen = { address = "0.0.0.0", port = 8420 }, builder = {
      kind = "job", image = "lab.test/buildah:1", url = "http://10.0.0.7:8420/", cpu = "250m", memory = "2Gi",
      keep = 3600, privileged = false, env = {}, login = "registry-login", authorities = "registry-ca",
    } },
  }
  for k, v in pairs(options.builder or {}) do r.cfg.builder[k] = v end
  r.hooks = {
    output = function(stream, line) r.lines[#r.lines + 1] = stream .. ": " .. line end,
    progress = function(text) r.progress[#r.progress + 1] = text end,
  }
  r.registry, r.world = require("images.registry").repository(name, r.cfg), require("engine.world").of(r.cfg)
  return r
end

local function b_of(r, ns)
  return { request = r, namespace = ns, name = manifest.name(r), context_name = ("0a"):rep(32),
    base = ok(manifest.base(r.cfg)) }
end

-- A namespace, and a client that may do there what the chart grants: nothing but this.
local RULES <const> = {
  { apiGroups = { "batch" }, resources = { "jobs" }, verbs = { "create", "get", "list", "watch", "delete" } },
  { apiGroups = { "" }, resources = { "pods" }, verbs = { "get", "list", "watch" } },
  { apiGroups = { "" }, resources = { "pods/log" }, verbs = { "get" } },
}

local function place(r, c)
  local ns = c:namespace "build"
  c:kubectl { "label", "ns", ns, "pod-security.kubernetes.io/enforce=baseline" }
  local token = c:service_account(ns, "moontide", RULES)
  r.cfg.clusters.default = { name = "default", kubeconfig = c:kubeconfig_for(token, ns), namespace = ns }
  return ns
end

local function stage(word)
  local made = manifest.job
  check.defer(function() manifest.job = made end)
  manifest.job = function(b)
    local object = made(b)
    local annotations = object.spec.template.metadata.annotations
    annotations["lab.moontide/stage"] = word
    annotations["lab.moontide/after"] = "0.5s"
    return object
  end
end

local function push(r) return lab.image(registry, { name = r.repository:match("/(.*)$"), tag = r.tag }).digest end

test("the API server takes the Job as it is, in a namespace with pod security baseline", function()
  local c = cluster.open()
  local ns = c:namespace "build"
  c:kubectl { "label", "ns", ns, "pod-security.kubernetes.io/enforce=baseline" }
  local client = ok(kubernetes.open({ kubeconfig = c.kubeconfig }))
  local query = { dryRun = "All", fieldValidation = "Strict" }
  local path = kubernetes.path("job", ns)
  local made = ok(client:create(path, manifest.job(b_of(request_of(), ns)), query))
  eq(made.spec.backoffLimit, 0)
  eq(made.spec.template.spec.automountServiceAccountToken, false)
  -- Its pod is what baseline looks at: the same template as a pod.
  local function pod(r)
    local template = manifest.job(b_of(r, ns)).spec.template
    return client:create(kubernetes.path("pod", ns), {
      apiVersion = "v1", kind = "Pod", spec = template.spec,
      metadata = { name = "x", labels = template.metadata.labels },
    }, query)
  end
  ok(pod(request_of()))
  ok(pod(request_of { builder = { login = false, authorities = false, service_account = "default" } }))
  has(tostring(fails("denied", pod(request_of { builder = { privileged = true } }))), "privileged")
end)

test("a name is the same for the same build, and another for another", function()
  local a, b = request_of(), request_of()
  eq(manifest.name(a), manifest.name(b))
  ok(#manifest.name(a) <= 63 and manifest.name(a):find("^build%-web%-%x+$"), manifest.name(a))
  b.app.build.args.WORD = "other"
  ok(manifest.name(a) ~= manifest.name(b))
  b.app.name = "Shop/Web_" .. ("x"):rep(200)
  ok(#manifest.name(b) <= 63 and manifest.name(b):find("^[a-z0-9-]+$"), manifest.name(b))
end)

test("a Job is made, followed and read back from the registry, with nothing but the chart's rights", function()
  local c, r = cluster.open(), request_of { name = "done" }
  local ns = place(r, c)
  stage "ready"
  local digest = push(r)
  eq(ok(job.build(r)), digest)
  local made = ok(c:get(("/apis/batch/v1/namespaces/%s/jobs/%s"):format(ns, manifest.name(r))))
  eq(made.spec.ttlSecondsAfterFinished, 3600)
  local text = table.concat(r.lines, "\n")
  has(text, "job " .. ns .. "/" .. made.metadata.name)
  has(text, "lab: listening") -- the logs of the pod
  eq(r.cfg.builder.kind, "job")
  -- Asked again, it is made again: who asks knows that the registry has not got it.
  local uid = made.metadata.uid
  ok(job.build(r))
  ok(c:get(("/apis/batch/v1/namespaces/%s/jobs/%s"):format(ns, made.metadata.name)).metadata.uid ~= uid)
end, 120)

test("a host that comes back goes on with the Job under way, and offers its context again", function()
  local c, r = cluster.open(), request_of { name = "again" }
  local ns = place(r, c)
  stage "never"
  local path = ("/apis/batch/v1/namespaces/%s/jobs/%s"):format(ns, manifest.name(r))
  local handle = task.spawn(function() return job.build(r) end)
  local first = check.eventually(function() return c:get(path) end, 20, "the job")
  handle:cancel()
  pcall(handle.join, handle, 5)
  local digest = push(r)
  local second = task.spawn(function() return job.build(r) end)
  local name = first.metadata.annotations[manifest.CONTEXT]
  check.eventually(function() return contexts.answer("/contexts/" .. name .. ".tar") end, 20, "the offer")
  c:kubectl { "-n", ns, "patch", "job", first.metadata.name, "--subresource=status", "--type=merge", "-p",
    '{"status":{"completionTime":"2099-01-01T00:00:01Z","active":0,"ready":0,"succeeded":1,'
      .. '"uncountedTerminatedPods":{},"conditions":[{"type":"SuccessCriteriaMet","status":"True"},'
      .. '{"type":"Complete","status":"True"}]}}' }
  eq(ok(second:join(30)), digest)
  eq(c:get(path).metadata.uid, first.metadata.uid)
  has(table.concat(r.lines, "\n"), "going on with job")
  eq(contexts.answer("/contexts/" .. name .. ".tar"), nil)
end, 120)

test("a Job that fails, cannot start or takes too long says so", function()
  local c = cluster.open()
  local r = request_of { name = "fails" }
  place(r, c)
  stage "fail"
  has(tostring(fails("failed", job.build(r))), "buildah push ended with 1")
  r = request_of { name = "image" }
  place(r, c)
  stage "image"
  has(tostring(fails("failed", job.build(r))), "cannot start: ")
  r = request_of { name = "late", timeout = 4 }
  place(r, c)
  stage "never"
  fails("timeout", job.build(r))
  -- Pushed something else than the registry shows: nobody may take it for the commit's image.
  r = request_of { name = "absent" }
  place(r, c)
  stage "ready"
  fails("not_found", job.build(r))
  r.cfg.builder.namespace = "kube-system"
  has(tostring(fails("denied", job.build(r))), "jobs")
end, 180)

test("the containers' own commands build and push, from a context that this host hands out", function()
  local why = require("lab.podman").unavailable()
  if why then check.skip(why) end
  local podman, where = lab.buildah(), lab.registry {}
  local files = lab.dir("files")
  local dockerfile = "FROM scratch\nARG WORD\nCOPY . /\nENV SAID=$WORD\n"
  for name, content in pairs(lab.app { version = "one", dockerfile = dockerfile }) do
    lab.write(files .. "/" .. name, type(content) == "table" and content.text or content)
  end
  local r = request_of {}
  r.archive = lab.dir("context") .. "/context.tar"
  lab.run { "tar", "-C", files, "-cf", r.archive, "." }
  r.name = where.host .. "/team/real:sha-" .. COMMIT
  r.registry = require("images.registry").repository(where.host .. "/team/real", r.cfg)
  r.cfg.builder.authorities = nil
  local engine = { health = function() return { live = true, ready = true } end, metrics = function() return {} end }
  local door <close> = ok(require("serve").listen { address = "127.0.0.1", port = 0,
    handler = require("people.control").public_handler(engine) })
  local name = contexts.name()
  local offer <close> = contexts.offer(name, r.archive)
  local base = "http://127.0.0.1:" .. door.port
  eq(ok(require("http").get(base .. "/contexts/" .. ("00"):rep(32) .. ".tar")).status, 404)
  local got = ok(require("http").get(base .. "/contexts/" .. name .. ".tar"))
  eq(got.body, ok(fs.read(r.archive)))
  local work, told = lab.dir("work"), lab.dir("told") .. "/digest"
  local function run(argv)
    argv[1] = podman.buildah
    for i, word in ipairs(argv) do argv[i] = word:gsub("^/scratch/", work .. "/") end
    argv.env = { BUILDAH_ISOLATION = "chroot", STORAGE_DRIVER = "vfs", TMPDIR = work }
    for k, v in pairs(podman.env) do argv.env[k] = argv.env[k] or v end
    return lab.run(argv)
  end
  run(manifest.build_command(r, contexts.url(base, name)))
  run(manifest.push_command(r, told))
  local digest = ok(r.registry:digest(r.tag))
  eq(ok(fs.read(told)):match("%S+"), digest)
  eq(ok(r.registry:labels(digest))["org.opencontainers.image.revision"], COMMIT)
  offer:close()
  eq(ok(require("http").get(base .. "/contexts/" .. name .. ".tar")).status, 404)
end, 120)

-- An image with buildah, put together from this machine's package.
local function buildah_image(where)
  local base = require "lab.base"
  local files = { { "usr/bin/buildah", ok(fs.read(ok(base.exists "buildah"), { max = 64 << 20 })), 493 } }
  for line in base.run({ "ldd", ok(base.exists "buildah") }):gmatch("[^\n]+") do
    local path = line:match("=> (/%S+)") or line:match("^%s*(/%S+)")
    if path then files[#files + 1] = { path:sub(2), ok(fs.read(path, { max = 64 << 20 })), 493 } end
  end
  files[#files + 1] = { "etc/containers/policy.json", '{"default":[{"type":"insecureAcceptAnything"}]}' }
  files[#files + 1] = { "etc/containers/registries.conf", "unqualified-search-registries = []\n" }
  files[#files + 1] = { "etc/passwd", "root:x:0:0:root:/:/nonexistent\n" }
  files[#files + 1] = { "etc/group", "root:x:0:\n" }
  return lab.image(where, { name = "tools/buildah", files = files, entrypoint = { "/usr/bin/buildah" } }).image
end

-- Puts the Job's pod on the real node, on this machine's network: registry and context are at 127.0.0.1.
local function on_real_node()
  local made = manifest.job
  check.defer(function() manifest.job = made end)
  manifest.job = function(b)
    local object = made(b)
    local spec = cluster.on_real_node(object.spec.template.spec)
    spec.hostNetwork, spec.dnsPolicy = true, "Default"
    object.spec.template.spec = spec
    return object
  end
end

local function in_a_real_pod(privileged)
  local c = cluster.open()
  c:need_real()
  if not require("lab.base").exists "buildah" then check.skip("buildah is not installed") end
  local where = lab.registry {}
  registry = where
  local ns = c:namespace "build"
  local r = request_of { name = "real", timeout = 120, builder = {
    image = buildah_image(where), command = { "/usr/bin/buildah" }, privileged = privileged, memory = "512Mi",
    cpu = "50m", login = false, authorities = false,
  } }
  local token = c:service_account(ns, "moontide", RULES)
  r.cfg.clusters.default = { name = "default", kubeconfig = c:kubeconfig_for(token, ns), namespace = ns }
  local files = lab.dir("files")
  local dockerfile = "FROM scratch\nARG WORD\nCOPY app version /\n"
  for name, content in pairs(lab.app { version = "one", dockerfile = dockerfile }) do
    lab.write(files .. "/" .. name, type(content) == "table" and content.text or content)
  end
  lab.run { "tar", "-C", files, "-cf", r.archive, "." }
  local engine = { health = function() return { live = true, ready = true } end, metrics = function() return {} end }
  local door <close> = ok(require("serve").listen { address = "127.0.0.1", port = 0,
    handler = require("people.control").public_handler(engine) })
  r.cfg.builder.url = "http://127.0.0.1:" .. door.port
  on_real_node()
  local digest, err = job.build(r)
  ok(digest, tostring(err) .. "\n" .. table.concat(r.lines, "\n"))
  eq(r.registry:digest(r.tag), digest)
  eq(ok(r.registry:labels(digest))["org.opencontainers.image.revision"], COMMIT)
  has(table.concat(r.lines, "\n"), "STEP 3/")
  ok(#r.progress > 2, "progress was told")
  -- A build that cannot work says why, in buildah's words, and pushes nothing.
  r.tag, r.name = "sha-broken", r.repository .. ":sha-broken"
  r.dockerfile = "missing"
  has(tostring(fails("failed", job.build(r))), "buildah build ended with")
  fails("not_found", r.registry:digest("sha-broken"))
end

test("a real pod fetches the context, builds with buildah and pushes", function() in_a_real_pod(false) end, 300)

test("so does a privileged one, where nodes forbid user namespaces", function() in_a_real_pod(true) end, 300)

test("where pods find this host is configured, or the pod's own address", function()
  local r = request_of()
  eq(manifest.base(r.cfg), "http://10.0.0.7:8420")
  r.cfg.builder.url = nil
  has(tostring(fails("invalid", manifest.base(r.cfg))), "POD_IP")
  ok(time.now() > 0)
end)
