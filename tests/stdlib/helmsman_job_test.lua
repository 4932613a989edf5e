-- helmsman as a Job: what becomes of the template, whose Job it is after a crash, what its pod says and how it ends.
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-parameter -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local kubeapi = require "fixture.kubeapi"
local lab = require "lab"
local json, kubernetes, task, time = require "json", require "kubernetes", require "task", require "time"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local JOBS <const>, PODS <const> = "/apis/batch/v1/namespaces/tools/jobs", "/api/v1/namespaces/tools/pods"
local CRONJOB <const> = "/apis/batch/v1/namespaces/tools/cronjobs/helmsman"

local function digest(letter) return "sha256:" .. letter:rep(64) end

local function container(more)
  local c = {
    name = "helmsman", image = "lab.test/helmsman:4",
    args = { "--apply", "--debug", "-f", "/dss/shop.yaml", "-p=2", "-keep-untracked-releases=false" },
    env = { { name = "API_VERSION", value = "old" }, { name = "PASSWORD", valueFrom = {
      secretKeyRef = { name = "registry", key = "password" } } } },
  }
  for key, value in pairs(more or {}) do c[key] = value or nil end
  return c
end

local function line(text) return "2026-11-23T19:21:56.000000001Z " .. text .. "\n" end
local function say(text) return line("2026-11-23 19:21:56 NOTICE: " .. text) end
local PLAN <const> = say "-------- PLAN starts here --------------"
  .. say "Release [ api ] in namespace [ shop ] will be installed using version [ 1.2.3 ] -- priority: 0"
  .. say "-------- PLAN ends here --------------"

-- A cluster whose Jobs get a pod at once. `ends(act)` gives the exit status and the log of a pod.
local function stage(ends, options)
  options = options or {}
  local dir = lab.dir("job")
  local api = kubeapi.open(dir)
  api.objects[CRONJOB] = { metadata = { name = "helmsman", namespace = "tools", uid = "u1" }, spec = {
    jobTemplate = {
      metadata = { labels = { team = "shop" }, annotations = { note = "kept" } },
      spec = { backoffLimit = 6, template = {
        metadata = { labels = { team = "shop" } },
        spec = { serviceAccountName = "helmsman", restartPolicy = "OnFailure",
          containers = options.containers or { container(options.container) } },
      } },
    },
  } }
  function api.on_create(path, job)
    local name = path:match(JOBS .. "/(.+)$")
    if not name then return end
    local words = table.concat(job.spec.template.spec.containers[1].args, " ")
    local act = words:find("%-apply") and "apply" or words:find("%-dry%-run") and "plan destroy"
      or words:find("%-destroy") and "destroy" or "plan"
    local code, text, state = ends(act, job)
    job.metadata.namespace = "tools"
    if code then
      job.status = { conditions = { { type = code == 0 and "Complete" or "Failed", status = "True",
        reason = code ~= 0 and "BackoffLimitExceeded" or nil, message = code ~= 0 and "it has failed" or nil } } }
      state = { terminated = { exitCode = code, reason = code == 0 and "Completed" or "Error" } }
    end
    if not state then return end
    api.objects[PODS .. "/" .. name .. "-x"] = {
      metadata = { name = name .. "-x", namespace = "tools", labels = { ["batch.kubernetes.io/job-name"] = name } },
      status = { phase = code == 0 and "Succeeded" or code and "Failed" or "Pending",
        containerStatuses = { { name = "helmsman", state = state } } },
      said = text,
    }
  end
  function api.special(_, path)
    local pod = path:match("^(.+)/log$")
    if pod then return { status = 200, body = api.objects[pod].said or "" } end
  end
  check.defer(kubernetes.forget)
  local config = {
    kind = "helmsman", files = {}, context = "shop", cluster = "lab", namespaces = {},
    run = { cronjob = "tools/helmsman" }, command = { "helmsman" }, only = {}, groups = {}, keep_untracked = true,
    flags = {}, override_context = false,
    env = { COLOUR = "blue" }, variables = {}, timeout = 10,
  }
  for key, value in pairs(options.config or {}) do config[key] = value end
  local cfg = { state = dir .. "/state", dir = dir, clusters = { lab = { kubeconfig = api.kubeconfig } } }
  local function open()
    local t = require("targets").open({ name = "staging", app = "web", target = config, verify = {} },
      require("engine.world").of(cfg))
    t.pending_wait = 0
    return t
  end
  return open(), api, open
end

local function request(letter, release, said)
  return {
    image = "api=1.2.3@" .. digest(letter), digest = digest(letter), version = "api=1.2.3",
    versions = { api = "1.2.3" }, release = release, hooks = {
      output = function(_, text) if said then said[#said + 1] = text end end, progress = function() end,
    },
  }
end

local function jobs(api)
  local list = {}
  for path, object in pairs(api.objects) do
    if path:sub(1, #JOBS) == JOBS then list[#list + 1] = object end
  end
  table.sort(list, function(a, b) return a.metadata.name > b.metadata.name end) -- plan before apply
  return list
end

local function good(act) return act == "plan" and 2 or 0, PLAN end

test("a plan and an apply are made of the template: arguments and environment are ours, the rest is its own", function()
  local said = {}
  local t, api = stage(good)
  ok(t:apply(request("a", 7, said)))
  local list = jobs(api)
  eq(#list, 2)
  local job = list[2]
  has(job.metadata.name, "helmsman-web-staging-7-apply-")
  has(list[1].metadata.name, "helmsman-web-staging-7-plan-")
  eq(job.metadata.ownerReferences, nil)
  eq(job.metadata.labels, { team = "shop", ["app.kubernetes.io/managed-by"] = "moontide",
    ["moontide.dev/helmsman-context"] = "shop" })
  eq({ job.metadata.annotations.note, job.metadata.annotations["cronjob.kubernetes.io/instantiate"],
    job.metadata.annotations["moontide.dev/release"] }, { "kept", "manual", "7" })
  eq({ job.spec.backoffLimit, job.spec.ttlSecondsAfterFinished, job.spec.activeDeadlineSeconds },
    { 0, 3600, 10 })
  local pod = job.spec.template.spec
  eq({ pod.serviceAccountName, pod.restartPolicy }, { "helmsman", "Never" })
  local c = pod.containers[1]
  eq({ c.image, table.concat(c.args, " ") }, { "lab.test/helmsman:4",
    "-no-banner -no-color -no-fancy -apply -keep-untracked-releases -f=/dss/shop.yaml -p=2" })
  local env = {}
  for _, item in ipairs(c.env) do env[item.name] = item.value or item.valueFrom.secretKeyRef.key end
  eq({ env.API_VERSION, env.PASSWORD, env.COLOUR, env.APP, env.RELEASE }, { "1.2.3", "password", "blue", "web", "7" })
  has(table.concat(said, "\n"), "will be installed using version [ 1.2.3 ]")
  eq(table.concat(list[1].spec.template.spec.containers[1].args, " "),
    "-no-banner -no-color -no-fancy -detailed-exit-code -keep-untracked-releases -f=/dss/shop.yaml -p=2")
end)

test("files of the configuration take the place of the template's; flags may stand in the command", function()
  local t, api = stage(good, {
    container = { args = false, command = { "/bin/helmsman", "-apply", "-f=/a.yaml", "-group", "x" } },
    config = { files = { "/b.yaml", "/c.yaml" }, only = { "api" } },
  })
  ok(t:apply(request("a", 1)))
  local c = jobs(api)[2].spec.template.spec.containers[1]
  eq(c.command, { "/bin/helmsman" })
  eq(table.concat(c.args, " "), "-no-banner -no-color -no-fancy -apply -keep-untracked-releases -f=/b.yaml -f=/c.yaml"
    .. " -target=api")
end)

test("a template that is not helmsman's is refused with the reason", function()
  local t = stage(good, { container = { command = { "/bin/busybox", "ash", "-c", "helmsman -apply" }, args = false } })
  has(fails("invalid", t:apply(request("a", 1))).message, "is not called with helmsman's flags")
  t = stage(good, { containers = { container(), container { name = "sidecar" } } })
  has(fails("invalid", t:apply(request("a", 1))).message, "has 2 containers: name helmsman's in `container`")
  t = stage(good, { config = { container = "nope" } })
  has(fails("invalid", t:apply(request("a", 1))).message, "has no container nope")
  t = stage(good, { config = { run = { cronjob = "tools/nope" } } })
  fails("not_found", t:apply(request("a", 1)))
end)

test("a run that goes on finds its Jobs by their names and makes no second ones", function()
  local made = 0
  local t, api, again = stage(function(act, job)
    made = made + 1
    return good(act, job)
  end)
  ok(t:apply(request("a", 1)))
  ok(require("fs").remove(t.memory)) -- as if it had died before it knew
  local said = {}
  ok(again():apply(request("a", 1, said)))
  eq(made, 2)
  has(table.concat(said, "\n"), "will be installed") -- the log is read again
  ok(again():apply(request("b", 1))) -- something else of the same number: other Jobs
  eq(made, 4)
  eq(#jobs(api), 4)
end)

test("a plan without changes makes no second Job; exit statuses other than 2 are failures in its words", function()
  local t, api = stage(function() return 0, PLAN end)
  ok(t:apply(request("a", 1)))
  eq(#jobs(api), 1)
  t = stage(function() return 1, line("2026-11-23 19:21:56 CRITICAL: improper constraint: staging") end)
  has(fails("invalid", t:apply(request("a", 1))).message, '"staging" is no version')
  t = stage(function() return 2, line("flag provided but not defined: -detailed-exit-code") end)
  fails("unsupported", t:apply(request("a", 1)))
  t = stage(function() return 137, "" end)
  has(fails("failed", t:apply(request("a", 1))).message, "exit status 137")
end)

test("a pod that cannot start is told with its own reason", function()
  local t = stage(function()
    return nil, nil, { waiting = {
      reason = "ImagePullBackOff", message = 'Back-off pulling image "lab.test/helmsman:4"',
    } }
  end)
  has(fails("failed", t:apply(request("a", 1))).message, 'does not start: Back-off pulling image "lab.test/helmsman:4"')
end)

test("a Job that does not come to an end is deleted, and is under way as far as anybody knows", function()
  local t, api = stage(function(act)
    if act == "plan" then return 2, PLAN end
    return nil, nil, { waiting = { reason = "ContainerCreating" } }
  end, { config = { timeout = 4 } })
  has(fails("timeout", t:apply(request("a", 1))).message, "has not come to an end in time (ContainerCreating)")
  eq(#api.deleted, 1)
  has(api.deleted[1], "helmsman-web-staging-1-apply-")
  eq(json.decode(require("fs").read(t.memory)).underway.release, 1)
end)

test("an apply that ends with 2 or 137 was ended by somebody: it stays under way", function()
  for _, code in ipairs { 2, 137, 143 } do
    local t = stage(function(act) return act == "plan" and 2 or code, PLAN end)
    fails("failed", t:apply(request("a", 1)))
    eq(json.decode(require("fs").read(t.memory)).underway.release, 1)
  end
  local t = stage(function(act) return act == "plan" and 2 or 1, PLAN end)
  fails("failed", t:apply(request("a", 1)))
  eq(json.decode(require("fs").read(t.memory)).underway, nil)
end)

test("what a killed Job left pending is told with the way out: there is no helm here to do it", function()
  local t, api = stage(good)
  kubeapi.release(api, { namespace = "shop", name = "api", revision = 1, status = "pending-install" })
  ok(require("fs").mkdir(t.cfg.state .. "/helmsman", { parents = true }))
  ok(require("fs").write(t.memory, json.encode { underway = { release = 1, act = "apply", at = 1, plan = {
    { action = "install", release = "api", namespace = "shop" } } } }))
  local err = fails("busy", t:apply(request("b", 2)))
  has(err.message, "was left pending-install by a helmsman that was killed")
  has(err.message, "helm rollback api 1 -n shop")
end)

test("a Job that the CronJob's schedule made is waited for; its own of the same release is not", function()
  local t, api = stage(good, { config = { timeout = 20 } })
  local path = JOBS .. "/helmsman-29384756"
  api.objects[path] = { metadata = { name = "helmsman-29384756", namespace = "tools",
    ownerReferences = { { kind = "CronJob", name = "helmsman", uid = "u1" } } } }
  local began = time.monotonic()
  local working = task.spawn(function() return t:apply(request("a", 1)) end)
  time.sleep(0.5)
  eq(#jobs(api), 1)
  api.objects[path].status = { conditions = { { type = "Complete", status = "True" } } }
  ok(working:join())
  ok(time.monotonic() - began > 2)
end)

test("a log that may not be read is the reason, not the missing plan", function()
  local t, api = stage(good)
  local special = api.special
  function api.special(r, path)
    if path:find("/log$") then
      return { status = 403, headers = { ["Content-Type"] = "application/json" }, body = json.encode {
        kind = "Status", status = "Failure", code = 403, reason = "Forbidden",
        message = 'pods "x" is forbidden: User "me" cannot get resource "pods/log" in API group ""',
      } }
    end
    return special(r, path)
  end
  has(fails("denied", t:apply(request("a", 1))).message, "pods/log")
end)
