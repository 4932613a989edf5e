-- The helmsman target in a cluster: the stand-in of tests/cluster/helmsman and the real helm, against a real API
-- server.
---@diagnostic disable: discard-returns -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local base, stage, tools = require "lab.base", require "cluster.helmsman_stage", require "cluster.tools"
local fs, proc, task = require "fs", require "proc", require "task"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

-- ---- a program of this host ----

test("versions go out as one release, by variables; the same again changes nothing; what runs is known", function()
  local s = stage.open { { name = "api" }, { name = "web" } }
  local t = s:target()
  eq({ t:current() }, {})
  ok(t:apply(s:request(1, { api = "0.1.0", web = "0.1.0" })))
  ok(t:wait(s:request(1, { api = "0.1.0", web = "0.1.0" })))
  eq(s:releases(), { api = "api-0.1.0 deployed 1", web = "web-0.1.0 deployed 1" })
  has(s:words(), "progress: plan: 2 to install (api, web)")
  has(s:words(), "Plan applied")
  local now = ok(t:current())
  eq({ now.version, now.state, now.healthy, now.release }, { "api=0.1.0 web=0.1.0", "deployed", true, 1 })
  ok(s:target():apply(s:request(2, { api = "0.2.0", web = "0.1.0" }))) -- another process
  eq(s:releases(), { api = "api-0.2.0 deployed 2", web = "web-0.1.0 deployed 1" })
  eq(s:map("api").version, "0.2.0")
  s.said = {}
  ok(t:apply(s:request(3, { api = "0.2.0", web = "0.1.0" })))
  has(s:words(), "plan: 2 as they should be")
  eq(s:releases().api, "api-0.2.0 deployed 2")
  -- What a person changed is a difference; helm 4 leaves it to him unless it is told to take it over.
  s.c:kubectl { "patch", "configmap", "web", "-n", s.ns, "--type=merge", "-p", '{"data":{"text":"changed"}}' }
  local err = fails("conflict", t:apply(s:request(4, { api = "0.2.0", web = "0.1.0" })))
  has(err.message, ("%s/web was changed by somebody else (kubectl-patch owns .data.text)"):format(s.ns))
  eq(s:map("web").text, "changed")
  stage.write_files(s.dir, s.ns, { { name = "api" }, { name = "web", more = { helmFlags = "[ --force-conflicts ]" } } })
  ok(t:apply(s:request(5, { api = "0.2.0", web = "0.1.0" })))
  eq(s:map("web").text, "hello")
end, 120)

test("back to earlier versions is a release like any other, from its image alone", function()
  local s = stage.open { { name = "api" } }
  local t = s:target()
  ok(t:apply(s:request(1, { api = "0.1.0" })))
  ok(t:apply(s:request(2, { api = "0.2.0" })))
  local back = s:request(3, { api = "0.1.0" })
  back.versions, back.restored = nil, true
  ok(t:apply(back))
  eq(s:releases().api, "api-0.1.0 deployed 3")
  eq(t:current().version, "api=0.1.0")
end, 120)

test("a release that somebody else changed is not ours any more", function()
  local s = stage.open { { name = "api" } }
  local t = s:target()
  ok(t:apply(s:request(1, { api = "0.1.0" })))
  s.c:helm { "upgrade", "api", s.dir .. "/charts/api-0.2.0", "-n", s.ns }
  local now = ok(t:current())
  eq(now.digest, nil)
  has(now.state, s.ns .. "/api was changed by somebody else")
  ok(t:apply(s:request(2, { api = "0.1.0" })))
  eq(t:current().version, "api=0.1.0")
end, 120)

test("releases that the files name no more stay unless they are told to go; destroy takes the rest", function()
  local s = stage.open { { name = "api" }, { name = "old" } }
  local t = s:target()
  ok(t:apply(s:request(1, { api = "0.1.0", old = "0.1.0" })))
  stage.write_files(s.dir, s.ns, { { name = "api" } })
  ok(t:apply(s:request(2, { api = "0.2.0" })))
  eq(s:releases(), { api = "api-0.2.0 deployed 2", old = "old-0.1.0 deployed 1" })
  s.config.keep_untracked = false
  ok(s:target():apply(s:request(3, { api = "0.2.0" })))
  eq(s:releases(), { api = "api-0.2.0 deployed 2" })
  ok(t:destroy { release = "d1", hooks = s:request(1, { api = "0.2.0" }).hooks })
  has(s:words(), "1 to delete (api)")
  eq(s:releases(), {})
  eq({ t:current() }, {})
  eq(s:map "api", nil)
  ok(t:apply(s:request(4, { api = "0.1.0" }))) -- and up again
  eq(s:releases(), { api = "api-0.1.0 deployed 1" })
end, 180)

test("what helmsman, helm and the cluster refuse has its code", function()
  local s = stage.open { { name = "api" } }
  local t = s:target()
  has(fails("invalid", t:apply(s:request(1, { web = "0.1.0" }))).message, "uses $API_VERSION, which is not set")
  has(fails("not_found", t:apply(s:request(2, { api = "9.9.9" }))).message, s.dir .. "/charts/api-9.9.9 that helmsman")
  stage.write_files(s.dir, s.ns, { { name = "api", more = { version = "staging", chart = "./charts/api-0.1.0" } } })
  has(fails("invalid", t:apply(s:request(3, { api = "0.1.0" }))).message, '"staging" is no version')
  stage.write_files(s.dir, s.ns, { { name = "api", more = { version = '">=3"', chart = "./charts/api-0.1.0" } } })
  has(fails("invalid", t:apply(s:request(4, { api = "0.1.0" }))).message, "no version >=3: the repository gave 0.1.0")
  stage.write_files(s.dir, s.ns, { { name = "api", more = { priority = "3" } } })
  has(fails("invalid", t:apply(s:request(5, { api = "0.1.0" }))).message, "priority can only be 0 or negative")
  stage.write_files(s.dir, s.ns, { { name = "api", more = { chart = "oci://127.0.0.1:" .. base.port() .. "/api",
    version = "0.1.0" } } })
  has(fails("unreachable", t:apply(s:request(6, { api = "0.1.0" }))).message, "cannot be reached")
  -- A release of the same name that is not helmsman's.
  stage.write_files(s.dir, s.ns, { { name = "api" } })
  s.c:helm { "install", "api", s.dir .. "/charts/api-0.1.0", "-n", s.ns }
  has(fails("conflict", t:apply(s:request(7, { api = "0.1.0" }))).message, "belongs to another context")
end, 180)

test("without rights it says which, and with few it still works", function()
  local s = stage.open { { name = "api" } }
  local token = s.c:service_account(s.ns, "poor", { { verbs = { "get", "list" }, resources = { "secrets" } } })
  s.cfg.clusters.lab.kubeconfig = s.c:kubeconfig_for(token, s.ns)
  local err = fails("denied", s:target():apply(s:request(1, { api = "0.1.0" })))
  has(err.message, 'User "system:serviceaccount:' .. s.ns .. ':poor" cannot')
  local rich = s.c:service_account(s.ns, "rich", {
    { verbs = { "*" }, resources = { "secrets", "configmaps" } },
  })
  s.c:grant(s.ns, "rich", { { verbs = { "get" }, resources = { "namespaces" }, resourceNames = { s.ns } } })
  s.cfg.clusters.lab.kubeconfig = s.c:kubeconfig_for(rich, s.ns)
  ok(s:target():apply(s:request(2, { api = "0.1.0" }))) -- may not look for Jobs elsewhere
  eq(s:releases().api, "api-0.1.0 deployed 1")
end, 120)

test("a cluster that cannot be reached is told as such", function()
  local s = stage.open { { name = "api" } }
  local gone = base.write(s.dir .. "/gone", ok(fs.read(s.c.kubeconfig)):gsub("https://[^%s\"]+",
    "https://127.0.0.1:" .. base.port()))
  s.cfg.clusters.lab.kubeconfig = gone
  local err = select(2, s:target():apply(s:request(1, { api = "0.1.0" })))
  eq(err.code, "refused")
end, 120)

-- ---- one at a time, and deaths ----

local SLOW <const> = { wait = "true", timeout = "60", set = "{ stage: never }" }
local FINE <const> = { wait = "true", timeout = "60", set = "{ stage: ready }" }

local function revision(s, name, status)
  return base.eventually(name .. " is " .. status, 60, function()
    return (s:releases()[name] or ""):find(status, 1, true) and s:releases()[name]
  end)
end

-- Ends the helmsman and the helm that are under way, as a lost machine would.
local function kill_helmsman(s)
  local result = ok(proc.run { "ps", "-eo", "pid,args", max_output = 8 << 20 })
  local killed = 0
  for line in result.stdout:gmatch("[^\n]+") do
    local pid = line:match("^%s*(%d+)")
    if pid and line:find(s.ns, 1, true) and line:find(tools.cache() .. "/bin/helm", 1, true)
      or pid and line:find("helm upgrade", 1, true) and line:find(s.ns, 1, true)
      or pid and line:find(s.file, 1, true) and line:find("helmsman", 1, true) then
      proc.run { "kill", "-KILL", pid }
      killed = killed + 1
    end
  end
  ok(killed >= 2, killed)
end

test("helmsman killed in a first installation: the next attempt finishes it, and takes nothing away", function()
  local s = stage.open { { name = "api", more = SLOW } }
  local t = s:target()
  local running = task.spawn(function() return t:apply(s:request(1, { api = "0.1.0" })) end)
  revision(s, "api", "pending-install")
  kill_helmsman(s)
  local _, err = running:join()
  has(err.message, "SIGKILL")
  eq(s:releases().api, "api-0.1.0 pending-install 1")
  local before = s.c:get(("/apis/apps/v1/namespaces/%s/deployments/api"):format(s.ns)).metadata.uid
  stage.write_files(s.dir, s.ns, { { name = "api", more = FINE } })
  s.said = {}
  ok(s:target():apply(s:request(1, { api = "0.1.0" })))
  has(s:words(), "was left pending-install by a helmsman that was killed: helm rollback api 1")
  revision(s, "api", "deployed")
  eq(s.c:get(("/apis/apps/v1/namespaces/%s/deployments/api"):format(s.ns)).metadata.uid, before)
  local now = ok(s:target():current())
  eq({ now.version, now.healthy }, { "api=0.1.0", true })
end, 180)

test("helmsman killed in an upgrade: the next attempt goes on from what was whole", function()
  local s = stage.open { { name = "api", more = FINE } }
  ok(s:target():apply(s:request(1, { api = "0.1.0" })))
  stage.write_files(s.dir, s.ns, { { name = "api", more = SLOW } })
  local running = task.spawn(function() return s:target():apply(s:request(2, { api = "0.2.0" })) end)
  revision(s, "api", "pending-upgrade")
  kill_helmsman(s)
  running:join()
  eq(s:target():current().healthy, false)
  stage.write_files(s.dir, s.ns, { { name = "api", more = FINE } })
  ok(s:target():apply(s:request(2, { api = "0.2.0" })))
  eq(s:releases().api, "api-0.2.0 deployed 4") -- 3 is the way back
  eq(s:target():current().version, "api=0.2.0")
end, 180)

test("a pending release that nobody of ours left is not touched: who, where, since when and the way out", function()
  local s = stage.open { { name = "api", more = FINE } }
  ok(s:target():apply(s:request(1, { api = "0.1.0" })))
  local helm <close> = ok(proc.spawn {
    tools.path "helm", "upgrade", "api", s.dir .. "/charts/api-0.2.0", "-n", s.ns, "--wait", "--set", "stage=never",
    "--timeout", "60s", env = { KUBECONFIG = s.c.kubeconfig, HOME = s.dir, PATH = "/usr/bin:/bin" },
  })
  revision(s, "api", "pending-upgrade")
  local err = fails("busy", s:target():apply(s:request(2, { api = "0.2.0" })))
  has(err.message, ("in namespace %s is in the middle of an operation (pending-upgrade since 20"):format(s.ns))
  has(err.message, ("helm rollback api 1 -n %s"):format(s.ns))
  helm:kill "KILL"
  helm:wait()
  eq(s:releases().api, "api-0.2.0 pending-upgrade 2")
  s.c:helm { "rollback", "api", "1", "-n", s.ns }
  ok(s:target():apply(s:request(2, { api = "0.2.0" })))
end, 180)

test("two runs of one context never meet", function()
  local s = stage.open { { name = "api", more = FINE } }
  local first = task.spawn(function() return s:target():apply(s:request(1, { api = "0.1.0" })) end)
  local second = task.spawn(function() return s:target():apply(s:request(2, { api = "0.2.0" })) end)
  ok(first:join())
  ok(second:join())
  eq(s:releases().api, "api-0.2.0 deployed 2")
  has(s:words(), "progress: another run works on context " .. s.ns)
end, 120)

test("a release that does not become ready in its time fails in helm's words, and the next one mends it", function()
  local s = stage.open { { name = "api", more = { wait = "true", timeout = "3", set = "{ stage: never }" } } }
  local err = fails("unhealthy", s:target():apply(s:request(1, { api = "0.1.0" })))
  has(err.message, "release api: resource Deployment/" .. s.ns .. "/api not ready")
  eq(s:releases().api, "api-0.1.0 failed 1")
  eq(s:target():current().healthy, false)
  stage.write_files(s.dir, s.ns, { { name = "api", more = FINE } })
  ok(s:target():apply(s:request(2, { api = "0.1.0" })))
  eq(s:releases().api, "api-0.1.0 deployed 2")
end, 120)
