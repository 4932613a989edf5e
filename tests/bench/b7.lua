-- B7: a cluster of 100 Deployments on nodes that kwok plays, followed by their keel annotations: memory, processor
-- time, requests to the API server, and how long a new tag takes until Deployments have it. More of them the peer does
-- not follow.
--
-- The API server's own audit log counts the requests, for every follower alike. Each follower has the cluster for
-- itself while it is measured; the Deployments are the same. The peer is not keel, which could not be had: it is a
-- stand-in that does what keel does, with the client library that keel uses (tests/cluster/keel). Like keel it lists
-- the pods of every workload twice at each look; unlike keel it may ask more than five times a second, or it would not
-- know all repositories before the bench is over. So its figures are better than keel's own.
---@diagnostic disable: inject-field, need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local fs, json, proc, sys, task, time =
  require "fs", require "json", require "proc", require "base.sys", require "task", require "time"
local cluster, tools = require "cluster.lab", require "cluster.tools"
local kit = require "bench.kit"
local lab = require "lab"

local REPOSITORIES <const> = 10
local NAMESPACE <const> = "bench"
local POLL <const> = 10 -- seconds, said in the manifests: the same for all followers

-- Rights that the followers need, keel's among them: it replaces whole objects.
local RIGHTS <const> = {
  {
    verbs = { "get", "list", "watch", "patch", "update" },
    resources = { "deployments", "statefulsets", "daemonsets", "cronjobs" },
  },
  { verbs = { "get", "list", "watch" }, resources = { "pods", "replicasets", "nodes", "namespaces" } },
  { verbs = { "create", "patch" }, resources = { "events" } },
}

local AUDIT <const> = [[
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: ["system:serviceaccount:%s:follower"]
- level: None
]]

local function in_parallel(list, fn)
  local at, tasks = 0, {}
  for i = 1, 16 do
    tasks[i] = task.spawn(function()
      while at < #list do
        at = at + 1
        fn(list[at])
      end
      return true
    end)
  end
  for _, each in ipairs(tasks) do assert(each:join()) end
end

-- Requests of the follower between two moments; a watch counts when it begins.
local function requests(audit, from, to)
  local count, watches = 0, 0
  for line in assert(fs.read(audit, { max = 1 << 30 })):gmatch "[^\n]+" do
    local event = json.decode(line)
    local at = event and time.parse_iso(event.stageTimestamp) or 0
    if at >= from and at < to then
      if event.verb == "watch" then
        if event.stage == "ResponseStarted" then watches = watches + 1 end
      elseif event.stage == "ResponseComplete" then
        count = count + 1
      end
    end
  end
  return count + watches
end

local function memory(pid)
  local text = assert(fs.read(("/proc/%d/smaps_rollup"):format(pid)))
  return tonumber(text:match "\nRss:%s*(%d+)") / 1024
end

-- Processor seconds, user and system (proc(5)).
local function cpu(pid)
  local fields = {}
  for word in assert(fs.read(("/proc/%d/stat"):format(pid))):gsub("^.*%) ", ""):gmatch "%S+" do
    fields[#fields + 1] = word
  end
  return (tonumber(fields[12]) + tonumber(fields[13])) / 100
end

-- Images of a repository: what the Deployments run first, and what a follower must find.
local function push(registry, repository, version)
  return lab.image(registry, { name = ("bench/app%d"):format(repository), tag = version, version = version })
end

local function deployments_of(c, repository)
  local answer = c:request("GET", ("/apis/apps/v1/namespaces/%s/deployments?labelSelector=repository%%3Dapp%d")
    :format(NAMESPACE, repository))
  return assert(json.decode(answer.body)).items
end

local function with_version(c, repository, version)
  local count = 0
  for _, d in ipairs(deployments_of(c, repository)) do
    if d.spec.template.spec.containers[1].image:find(":" .. version, 1, true) then count = count + 1 end
  end
  return count
end

-- A new tag of each of some repositories, one after the other: seconds to the first Deployment and to all of them.
local function detect(c, registry, bench, name, each, version, rounds)
  for repository = 1, rounds do
    time.sleep(POLL * repository / (rounds + 1) % POLL) -- at another moment of the interval each time
    push(registry, repository, version)
    local pushed, first = time.monotonic(), nil
    repeat
      time.sleep(0.1)
      local done = with_version(c, repository, version)
      if done > 0 and not first then first = time.monotonic() - pushed end
      if time.monotonic() - pushed > 20 * POLL then
        error(("%s did not follow app%d to %s: %d of %d"):format(name, repository, version, done, each))
      end
    until done == each
    bench:add(name, "first", first)
    bench:add(name, "all", time.monotonic() - pushed)
  end
end

-- Measures one follower: start, quiet, a quiet minute, new tags.
local function follow(c, registry, bench, audit, follower, each, version)
  local name, quiet = follower.name, kit.size(60, 30)
  local started, argv = time.monotonic(), follower.argv
  local log = ("%s/%s.log"):format(lab.dir("b7"), name:gsub("%W", "-"))
  argv.stdout, argv.stderr = { file = log }, "stdout"
  local handle = assert(proc.spawn(argv))
  follower.ready(log)
  bench:add(name, "start", time.monotonic() - started)
  time.sleep(POLL * 2)
  for _ = 1, kit.size(3, 1) do
    local from, used = time.now(), cpu(handle.pid)
    time.sleep(quiet)
    bench:add(name, "requests", requests(audit, from, time.now()) * 60 / quiet)
    bench:add(name, "cpu", (cpu(handle.pid) - used) * 100 / quiet)
    bench:add(name, "resident", memory(handle.pid))
  end
  detect(c, registry, bench, name, each, version, kit.size(REPOSITORIES, 3))
  bench:add(name, "resident after", memory(handle.pid))
  handle:kill("TERM")
  handle:wait(30)
  handle:close()
end

return function()
  local each = kit.size(10, 2)
  local count = each * REPOSITORIES
  local bench = kit.begin("B7",
    ("%d Deployments of %d repositories, polled every %d s"):format(count, REPOSITORIES, POLL))
  local dir = lab.dir("audit")
  local audit = dir .. "/audit.log"
  lab.write(dir .. "/policy.yaml", AUDIT:format(NAMESPACE))
  local c = cluster.private {
    nodes = 4, api_flags = { "--audit-policy-file=" .. dir .. "/policy.yaml", "--audit-log-path=" .. audit },
  }
  local registry = lab.registry {}
  c:create("/api/v1/namespaces", { apiVersion = "v1", kind = "Namespace", metadata = { name = NAMESPACE } })
  local kubeconfig = c:kubeconfig_for(c:service_account(NAMESPACE, "follower", RIGHTS, { cluster = true, ttl = 36000 }))
  local list = {}
  for repository = 1, REPOSITORIES do
    push(registry, repository, "1.0.0")
    for i = 1, each do
      list[#list + 1] = cluster.deployment(("app%d-%d"):format(repository, i), {
        image = ("%s/bench/app%d:1.0.0"):format(registry.host, repository),
        labels = { repository = "app" .. repository },
        annotations = {
          ["keel.sh/policy"] = "minor", ["keel.sh/trigger"] = "poll",
          ["keel.sh/pollSchedule"] = ("@every %ds"):format(POLL),
        },
      })
    end
  end
  local deployments = ("/apis/apps/v1/namespaces/%s/deployments"):format(NAMESPACE)
  in_parallel(list, function(object) c:create(deployments, object) end)

  local state = lab.dir("moontide")
  local config = lab.write(state .. "/moontide.json", json.encode {
    state = state .. "/state", clusters = { default = { kubeconfig = kubeconfig } },
    keel = { namespaces = { NAMESPACE } }, registries = { [registry.host] = { plain_http = true } },
  })
  local followers = { {
    name = "moontide", argv = { sys.exe(), "run", "--config", config, env = lab.env() },
    ready = function()
      repeat
        time.sleep(0.2)
        local status = proc.run {
          sys.exe(), "status", "--config", config, "-o", "json", env = lab.env(), max_output = 64 << 20,
        }
        local apps = status and status.ok and assert(json.decode(status.stdout)).apps or {}
      until #apps == count
    end,
  } }
  followers[2] = {
    name = "keel's stand-in", argv = {
      tools.path("keel-stand-in"), "-kubeconfig", kubeconfig, "-namespace", NAMESPACE, "-qps", "5000", "-listen",
      "127.0.0.1:" .. lab.port(), env = lab.env(),
    },
    ready = function(log)
      local known
      repeat
        time.sleep(0.2)
        known = select(2, assert(fs.read(log, { max = 1 << 26 })):gsub("watching %g+app", ""))
      until known >= REPOSITORIES
    end,
  }
  -- The peer comes first: it cannot go on from an image that is pinned by digest.
  for i, follower in ipairs { followers[2], followers[1] } do
    follow(c, registry, bench, audit, follower, each, ("1.%d.0"):format(i))
  end

  bench:show("start", "s until all are known")
  bench:show("resident", "resident MiB")
  bench:show("resident after", "resident MiB after rollouts")
  bench:show("cpu", "% of a core, nothing new")
  bench:show("requests", "API requests a minute")
  bench:show("first", "s to the first Deployment")
  bench:show("all", ("s to all %d Deployments"):format(each))
  local other = followers[2].name
  local function ratio(metric) return bench:median("moontide", metric) / bench:median(other, metric) end
  bench:judge("resident, over " .. other, ratio "resident", "<=", 1)
  bench:judge("processor time without news, over " .. other, ratio "cpu", "<=", 1)
  -- No ratio: both only follow, and a watch that begins again now and then is all there is.
  bench:judge("API requests a minute", bench:median("moontide", "requests"), "<=", 10)
  -- Both look each POLL seconds, so half of that is chance; ours then makes a run of each update.
  bench:judge("from a new tag to the first Deployment, over " .. other, ratio "first", "<=", 1)
  bench:judge(("from a new tag to all %d Deployments, over %s"):format(each, other), ratio "all", "<=", 1)
  bench:judge("resident for each Deployment", bench:median("moontide", "resident") * 1024 / count, nil, nil, " KiB")
  bench:close()
end
