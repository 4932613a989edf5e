-- What tests of several hosts stand on: one Lease of a real API server, hosts that are processes of their own in one
-- simulated world, and a way to the API server that can be cut. What they release is put in place by a program that
-- leaves a line with the time every 50 ms: who judges whether two acted at the same time reads those lines, not what
-- Moontide says.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local base, check, cluster = require "lab.base", require "check", require "cluster.lab"
local fs, http, json, proc, serve, sim, sys, time = require "fs", require "http", require "json", require "proc",
  require "serve", require "sim", require "base.sys", require "time"

local M = { DURATION = 4, RENEW = 2.5, RETRY = 0.5 }

-- What a host needs of the API, and nothing else.
local RULES <const> = { { apiGroups = { "coordination.k8s.io" }, resources = { "leases" },
  verbs = { "get", "create", "update" } } }

local PROGRAM <const> = [[#!/bin/sh
if [ "$1" = current ]; then cat "$RUNS/$ENVIRONMENT" 2>/dev/null; exit 0; fi
trap 'echo "$(date +%s.%N) stopped $HOST" >>"$LOG"; exit 1' TERM
echo "$(date +%s.%N) begin $HOST $ENVIRONMENT $COMMIT" >>"$LOG"
last=$(( $(date +%s%N) / 1000000 + WORK ))
while [ "$(( $(date +%s%N) / 1000000 ))" -lt "$last" ]; do
  echo "$(date +%s.%N) tick $HOST" >>"$LOG"
  sleep 0.05
done
echo "$DIGEST" >"$RUNS/$ENVIRONMENT"
echo "$(date +%s.%N) end $HOST $ENVIRONMENT $COMMIT" >>"$LOG"
]]

-- ---- a stage: a world, a Lease, hosts ----

---@class LeaderStage
local Stage = {}
Stage.__index = Stage

---@param rules? table[] More of what the hosts may do.
function M.stage(rules)
  local c = cluster.open()
  local dir = base.dir("leader")
  local self = setmetatable({ c = c, dir = dir, ns = c:namespace "ha", hosts = {}, world = sim.open(dir .. "/world") },
    Stage)
  local all = { table.unpack(RULES) }
  for _, rule in ipairs(rules or {}) do all[#all + 1] = rule end
  self.token = c:service_account(self.ns, "moontide", all)
  self.kubeconfig = c:kubeconfig_for(self.token, self.ns)
  base.write(dir .. "/program", PROGRAM, 493) -- 0755
  assert(fs.mkdir(dir .. "/runs"))
  assert(fs.write(dir .. "/acts", ""))
  self.world:push("main", "one")
  return self
end

---@class LeaderHost
local Host = {}
Host.__index = Host

-- Starts a host. options: state (a folder of its own unless told), kubeconfig, work (milliseconds), wrap (argv), env,
-- deployment (what staging is, instead of the program).
function Stage:start(name, options)
  options = options or {}
  local file = ("%s/%s.json"):format(self.dir, name)
  local port = base.port()
  assert(fs.write(file, json.encode {
    state = self.dir .. "/" .. (options.state or "state-" .. name), kubeconfig = options.kubeconfig or self.kubeconfig,
    namespace = self.ns, name = name, duration = M.DURATION, renew = M.RENEW, retry = M.RETRY, port = port,
    program = self.dir .. "/program", log = self.dir .. "/acts", work = tostring(options.work or 500),
    runs = self.dir .. "/runs", world = self.dir .. "/world", deployment = options.deployment,
  }))
  local out = ("%s/%s.out"):format(self.dir, name)
  local argv = { table.unpack(options.wrap or {}) }
  for _, word in ipairs { sys.exe(), "exec", "tests/leader_host.lua", file } do argv[#argv + 1] = word end
  argv.stdin, argv.stdout, argv.stderr, argv.env = false, { file = out, append = true }, "stdout", options.env
  local host = setmetatable({ name = name, process = assert(proc.spawn(argv)), out = out, port = port,
    state = self.dir .. "/" .. (options.state or "state-" .. name) }, Host)
  self.hosts[#self.hosts + 1] = host
  check.defer(function() host.process:kill("KILL") end)
  return host
end

function Host:events()
  local list = {}
  for line in (fs.read(self.out, { max = 16 << 20 }) or ""):gmatch("[^\n]+") do
    list[#list + 1] = json.decode(line) or { text = line }
  end
  return list
end

-- The runs that a host finished.
function Host:done()
  local done = {}
  for _, e in ipairs(self:events()) do
    if e.state == "done" then done[#done + 1] = e.run end
  end
  return done
end

-- When a host said something, the last time.
function Host:said(pattern)
  local at
  for _, e in ipairs(self:events()) do
    if e.text and e.text:find(pattern) then at = e.at or 0 end
  end
  return at
end

function Host:wait_for(pattern, seconds)
  local done, err = pcall(base.eventually, self.name .. " says " .. pattern, seconds or 15, function()
    return self:said(pattern)
  end)
  if not done then error(("%s\n%s"):format(tostring(err), fs.read(self.out) or ""), 2) end
  return self:said(pattern)
end

function Host:get(path)
  local answer = assert(http.get(("http://127.0.0.1:%d%s"):format(self.port, path)))
  return answer.status, answer.body
end

function Host:status()
  return assert(require("people.client").open(self.state,
    ("%s/control-%s.sock"):format(self.state, self.name)):status()).host
end

-- What the programs wrote: { at, what, host, environment, commit }.
function Stage:acts()
  local list = {}
  for line in fs.read(self.dir .. "/acts", { max = 16 << 20 }):gmatch("[^\n]+") do
    local at, what, host, environment, commit = line:match("^(%S+) (%S+) (%S+) ?(%S*) ?(%S*)")
    list[#list + 1] = { at = tonumber(at), what = what, host = host, environment = environment, commit = commit }
  end
  return list
end

function Stage:count(what, commit)
  local n = 0
  for _, act in ipairs(self:acts()) do
    if act.what == what and (not commit or act.commit == sim.commit(commit)) then n = n + 1 end
  end
  return n
end

function Stage:await(what, commit, seconds, times)
  base.eventually(("%s of %s"):format(what, commit), seconds or 20, function()
    return self:count(what, commit) >= (times or 1)
  end)
end

-- The hosts act one after the other: between two lines of one there is none of another.
function Stage:never_two()
  local gone, last = {}, nil
  local acts = self:acts()
  table.sort(acts, function(a, b) return a.at < b.at end)
  for _, act in ipairs(acts) do
    if act.host ~= last then
      if gone[act.host] then
        error(("%s acted again at %.3f, after another one had begun"):format(act.host, act.at), 2)
      end
      if last then gone[last] = true end
      last = act.host
    end
  end
end

function Stage:last_act(host)
  local at = 0
  for _, act in ipairs(self:acts()) do
    if act.host == host then at = math.max(at, act.at) end
  end
  return at
end

function Stage:lease()
  return self.c:get(("/apis/coordination.k8s.io/v1/namespaces/%s/leases/moontide"):format(self.ns)).spec
end

-- Pairs of a leader and a standby of it.
function Stage:pair(options_a, options_b)
  local a = self:start("a", options_a)
  a:wait_for "^leads from now on"
  local b = self:start("b", options_b)
  b:wait_for "^stands by: a_"
  return a, b
end

-- A way to the API server that a test can cut: "pass", "hang" or "refuse" (with 503).
function M.relay(s)
  local way = { mode = "pass", requests = 0 }
  way.server = assert(serve.listen { address = "127.0.0.1", port = 0, handler = function(request)
    way.requests = way.requests + 1
    if way.mode == "hang" then time.sleep(60) end
    if way.mode == "refuse" then return { status = 503, body = "cut off" } end
    local answer, err = http.request {
      method = request.method, url = s.c.server .. request.target, body = request.body ~= "" and request.body or nil,
      headers = { ["Content-Type"] = request.headers["content-type"], Accept = "application/json" },
      ca = s.c.ca, auth = { bearer = s.token },
    }
    if not answer then return { status = 502, body = tostring(err) } end
    return { status = answer.status, body = answer.body, headers = { ["Content-Type"] = "application/json" } }
  end })
  check.defer(function() way.server:close(0) end)
  way.kubeconfig = base.write(base.dir("relay") .. "/config", json.encode {
    apiVersion = "v1", kind = "Config", ["current-context"] = "c",
    clusters = { { name = "c", cluster = { server = "http://127.0.0.1:" .. way.server.port } } },
    users = { { name = "u", user = {} } },
    contexts = { { name = "c", context = { cluster = "c", user = "u", namespace = s.ns } } },
  })
  return way
end

return M
