-- What the tests of the kubernetes target begin with: a target on a namespace of its own, requests, a repository.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: return-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local cluster = require "cluster.lab"
local base, lab, targets, time = require "lab.base", require "lab", require "targets", require "time"
local ok = check.ok

local M = {}

M.REPOSITORY = "lab.test/team/web"

---@param letter string
---@return string digest
function M.digest(letter) return "sha256:" .. letter:rep(64) end

---@param letter string
---@return string image
function M.image(letter) return M.REPOSITORY .. "@" .. M.digest(letter) end

---A request that keeps what its hooks were told in `lines` and `steps`.
---@param letter string Of the digest and the commit.
---@param release integer
---@param more? table
---@return TargetRequest
function M.request(letter, release, more)
  local lines, steps = {}, {}
  local r = {
    image = M.image(letter), digest = M.digest(letter), commit = letter:rep(40), version = "v1.0." .. release,
    release = release, run = 100 + release, by = "alice", generation = 1, host = "host-one", since = time.now(),
    lines = lines, steps = steps, hooks = {
      output = function(_, line) lines[#lines + 1] = line end,
      progress = function(text) steps[#steps + 1] = text end,
    },
  }
  for k, v in pairs(more or {}) do r[k] = v end
  return r
end

---A target on a namespace.
---@param ns string
---@param config? table
---@param c? Cluster The shared one, unless named.
---@return Target target
---@return Config cfg
function M.open(ns, config, c)
  c = c or cluster.open()
  local target = {
    kind = "kubernetes", cluster = "lab", namespace = ns, workload = "deployment/web", containers = {},
    init_containers = {}, patience = 1.5, timeout = 30, server_side = false,
  }
  for k, v in pairs(config or {}) do target[k] = v end
  local environment = { name = "staging", app = "web", target = target, verify = {} }
  local cfg = {
    state = base.dir("state"), apps = {}, clusters = { lab = { name = "lab", kubeconfig = c.kubeconfig } },
  }
  return ok(targets.open(environment, require("engine.world").of(cfg))), cfg
end

---A whole release, as a run does it.
---@param target Target
---@param r TargetRequest
function M.release(target, r)
  ok(target:apply(r))
  ok(target:wait(r))
  ok(target:settle(r))
end

---The cluster, and a namespace of it with a Deployment "web".
---@param options? LabWorkload
---@return Cluster
---@return string namespace
function M.web(options)
  local c = cluster.open()
  local ns = c:namespace "target"
  c:deployment(ns, "web", options)
  return c, ns
end

---@param ns string
---@return string path Of the Deployment "web".
function M.path(ns) return "/apis/apps/v1/namespaces/" .. ns .. "/deployments/web" end

---The description of pods.
---@param name string Their label `app`.
---@param containers? table[]
---@param stage? string
---@return table
function M.pods(name, containers, stage)
  return { metadata = { labels = { app = name }, annotations = cluster.annotations(stage) },
    spec = { containers = containers or { { name = "app", image = "lab.test/app:1" } } } }
end

---An app whose repository holds files.
---@param files table<string, string>
---@return table repo
---@return string commit
---@return AppConfig app
function M.repository(files)
  local repo = lab.git({}):repo "web"
  local commit = repo:commit(files)
  return repo, commit, { name = "web", source = { url = repo.url }, poll = 1, branch = "main" }
end

return M
