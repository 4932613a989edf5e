-- The real node: real containers from a real registry, with addresses of their own.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local base, lab = require "lab.base", require "lab"
local fs, sys = require "fs", require "base.sys"
local cluster = require "cluster.lab"
local test, eq, has = check.test, check.eq, check.has

test("a Deployment of the sample app runs on the real node, answers, and is replaced by its next version", function()
  local c = cluster.open()
  c:need_real()
  local ns, registry = c:namespace "real", lab.registry {}
  local one = lab.image(registry, { version = "one", tag = "v1" })
  local two = lab.image(registry, { version = "two", tag = "v2" })
  local path = ("/apis/apps/v1/namespaces/%s/deployments"):format(ns)
  c:create(path, cluster.app_deployment("web", one.image))
  c:rolled_out(ns, "web")
  eq(c:ask(ns, "app=web"), "one")
  local pod = c:pods(ns, "app=web")[1]
  eq(pod.spec.nodeName, c.real)
  eq(pod.status.containerStatuses[1].imageID, one.image)
  has(c:kubectl { "logs", "-n", ns, "deploy/web" }, "version one, mode good, port 8080")
  eq(c:kubectl { "exec", "-n", ns, "deploy/web", "--", "/app", "--check" }, "")
  c:kubectl { "set", "image", "-n", ns, "deploy/web", "app=" .. two.image }
  c:rolled_out(ns, "web")
  eq(c:ask(ns, "app=web"), "two")
end, 120)

test("releases that cannot start, cannot be pulled or are sick look as they do everywhere", function()
  local c = cluster.open()
  c:need_real()
  local ns, registry = c:namespace "real-bad", lab.registry {}
  local path = ("/apis/apps/v1/namespaces/%s/deployments"):format(ns)
  local crash = lab.image(registry, { version = "three", mode = "crash", tag = "v3" })
  local sick = lab.image(registry, { version = "four", mode = "sick", tag = "v4" })
  c:create(path, cluster.app_deployment("crash", crash.image))
  c:create(path, cluster.app_deployment("sick", sick.image))
  c:create(path, cluster.app_deployment("missing", registry.host .. "/team/web:none"))
  local function status_of(app)
    local pod = c:pods(ns, "app=" .. app)[1]
    return pod and pod.status.containerStatuses and pod.status.containerStatuses[1]
  end
  local function waits(app, reason)
    base.eventually(("%s: %s"):format(app, reason), 60, function()
      local status = status_of(app)
      return status and status.state.waiting and status.state.waiting.reason == reason
    end)
  end
  waits("crash", "CrashLoopBackOff")
  has(c:kubectl { "logs", "-n", ns, "deploy/crash" }, "fatal: this release cannot start")
  waits("missing", "ImagePullBackOff")
  base.eventually("the sick one runs", 30, function()
    local status = status_of "sick"
    return status and status.state.running and status.started
  end)
  eq(status_of("sick").ready, false)
end, 180)

-- Files for an image: a program, and the libraries that it is linked to.
local function with_libraries(path, name)
  local files = { { name, assert(fs.read(path, { max = 256 << 20 })), 493 } }
  for line in base.run({ "ldd", path }):gmatch("[^\n]+") do
    local file = line:match("=> (/%S+)") or line:match("^%s*(/%S+)")
    if file then files[#files + 1] = { file:sub(2), assert(fs.read(file, { max = 64 << 20 })), 493 } end
  end
  return files
end

-- What the container runs: asks the API server who it is, as any client in a pod does.
local ASK <const> = [[
local fs, http, json = require "fs", require "http", require "json"
local sys = require "base.sys"
local dir = "/var/run/secrets/kubernetes.io/serviceaccount"
local url = ("https://%s:%s/apis/authentication.k8s.io/v1/selfsubjectreviews"):format(
  sys.env "KUBERNETES_SERVICE_HOST", sys.env "KUBERNETES_SERVICE_PORT")
local answer = assert(http.post(url, { apiVersion = "authentication.k8s.io/v1", kind = "SelfSubjectReview" },
  { ca = dir .. "/ca.crt", auth = { bearer = assert(fs.read(dir .. "/token")) } }))
print("I am " .. json.decode(answer.body).status.userInfo.username .. " in " .. assert(fs.read(dir .. "/namespace")))
]]

test("a Job's pod reaches the API server with its token and CA, from an address of its own", function()
  local c = cluster.open()
  c:need_real()
  local ns, registry = c:namespace "real-job", lab.registry {}
  local files = with_libraries(sys.exe(), "moontide")
  files[#files + 1] = { "ask.lua", ASK }
  local image = lab.image(registry, { name = "team/asks", files = files, entrypoint = { "/moontide" } })
  c:create(("/apis/batch/v1/namespaces/%s/jobs"):format(ns), {
    apiVersion = "batch/v1", kind = "Job", metadata = { name = "ask" },
    spec = { backoffLimit = 0, template = { spec = cluster.on_real_node {
      restartPolicy = "Never",
      containers = { { name = "app", image = image.image, args = { "exec", "/ask.lua" } } },
    } } },
  })
  local job
  base.eventually("the Job ends", 60, function()
    job = c:get(("/apis/batch/v1/namespaces/%s/jobs/ask"):format(ns))
    return job.status.succeeded == 1 or job.status.failed == 1
  end)
  eq(c:kubectl { "logs", "-n", ns, "job/ask" }, ("I am system:serviceaccount:%s:default in %s\n"):format(ns, ns))
  eq(job.status.succeeded, 1)
end, 120)
