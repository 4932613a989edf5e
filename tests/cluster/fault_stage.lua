-- What the tests of section "what goes wrong" stand on: a whole host, whose source, builder and registry are simulated,
-- and whose staging is a Deployment of a real API server. Between both a wire that can be told to do harm.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local base, check = require "lab.base", require "check"
local http, json, serve, sim, task = require "http", require "json", require "serve", require "sim", require "task"
local kubernetes, targets = require "kubernetes", require "targets"

local M = {}

-- What a host needs for the rollout of a Deployment, and nothing else.
M.RIGHTS = {
  { apiGroups = { "apps" }, resources = { "deployments" }, verbs = { "get", "list", "watch", "patch" } },
  { apiGroups = { "apps" }, resources = { "replicasets" }, verbs = { "list" } },
  { apiGroups = { "" }, resources = { "pods" }, verbs = { "list", "watch" } },
  { apiGroups = { "" }, resources = { "pods/log" }, verbs = { "get" } },
  { apiGroups = { "events.k8s.io" }, resources = { "events" }, verbs = { "create" } },
}

---The digest of the image that the simulated builder makes of a commit.
---@param name string
---@return string
function M.digest(name) return "sha256:" .. require("hash").sha256("image of " .. sim.commit(name)) end

-- ---- the wire ----

---A kubeconfig for a server.
---@param fields {server: string, ca?: string, token?: string, token_file?: string, namespace: string}
---@return string path
function M.kubeconfig(fields)
  return base.write(base.dir("kubeconfig") .. "/config", json.encode {
    apiVersion = "v1", kind = "Config", ["current-context"] = "c",
    clusters = { { name = "c", cluster = { server = fields.server, ["certificate-authority"] = fields.ca } } },
    users = { { name = "u", user = { token = fields.token, tokenFile = fields.token_file } } },
    contexts = { { name = "c", context = { cluster = "c", user = "u", namespace = fields.namespace } } },
  })
end

---@class FaultWire
---@field url string
---@field counts table<string, integer> Answers by status, and "harmed".
---@field gone? boolean A watch was told that its version is gone.
---@field harm? fun(request: table, watch: boolean): table? An answer instead, or { cut = fn }: asked with each piece of
--- a stream, it says how many bytes of it get through before the cut, nil for all and no cut.
local Wire = {}
Wire.__index = Wire

-- Hands a stream on, as far as the harm lets it.
local function stream_on(wire, answer, harm)
  return function(write)
    local stream <close> = answer
    while true do
      local piece = stream:read()
      if not piece then return end
      wire.gone = wire.gone or piece:find('"code":410', 1, true) ~= nil
      local keep = harm and harm.cut(piece)
      if keep then
        if keep > 0 then write(piece:sub(1, keep)) end
        error(require("errors").new("cancelled", "cut"), 0)
      end
      write(piece)
    end
  end
end

function Wire:pass(request)
  local watch = request.target:find("[?&]watch=1") ~= nil
  local harm = self.harm and self.harm(request, watch)
  if harm and not harm.cut then
    self.counts.harmed = (self.counts.harmed or 0) + 1
    return harm
  end
  local answer, err = http.request {
    method = request.method, url = self.server .. request.target, body = request.body ~= "" and request.body or nil,
    headers = { ["Content-Type"] = request.headers["content-type"], Accept = "application/json",
      Authorization = request.headers.authorization },
    ca = self.ca, stream = watch, max_body = not watch and 64 << 20 or nil, idle_timeout = watch and 600 or nil,
  }
  if not answer then return { status = 502, body = tostring(err) } end
  if answer.status == 410 then self.gone = true end
  self.counts[tostring(answer.status)] = (self.counts[tostring(answer.status)] or 0) + 1
  local out = { status = answer.status, headers = { ["Content-Type"] = answer.headers["content-type"] } }
  if watch then out.body = stream_on(self, answer, harm) else out.body = answer.body end
  return out
end

---A wire to a cluster.
---@param c Cluster
---@return FaultWire
function M.wire(c)
  local self = setmetatable({ server = c.server, ca = c.ca, counts = {} }, Wire)
  local server = assert(serve.listen { address = "127.0.0.1", port = 0, connections = 256, per_address = 256,
    max_body = 16 << 20, handler = function(request) return self:pass(request) end })
  check.defer(function() server:close(0) end)
  self.url = "http://127.0.0.1:" .. server.port
  return self
end

---An answer like the API server's own.
---@param code integer
---@param reason string
---@param message string
---@param headers? table<string, string>
---@return table
function M.status(code, reason, message, headers)
  return serve.json(code, { kind = "Status", apiVersion = "v1", metadata = {}, status = "Failure", message = message,
    reason = reason, code = code }, headers)
end

---A stream that ends, or is cut, after some bytes.
---@param text string
---@param cut? string "cut"
---@return table
function M.stream(text, cut)
  return { status = 200, headers = { ["Content-Type"] = "application/json" }, body = function(write)
    if text ~= "" then write(text) end
    if cut then error(require("errors").new("cancelled", "cut"), 0) end
  end }
end

-- ---- the host ----

---@class FaultStage
---@field c Cluster
---@field ns string
---@field wire? FaultWire
---@field engine table
---@field said string[]
local Stage = {}
Stage.__index = Stage

---@class FaultStageOptions
---@field web? LabWorkload
---@field target? table More of the target's configuration.
---@field direct? boolean Without a wire.
---@field token_file? string Instead of a token.
---@field before? fun(stage: FaultStage) Called when the account is there, before the host starts.
---@field rights? table[]
---@field engine? table

---A namespace with the Deployment "web", and a host that follows a branch into it.
---@param c Cluster
---@param options? FaultStageOptions
---@return FaultStage
function M.open(c, options)
  options = options or {}
  local dir = base.dir "faults"
  local self = setmetatable({ c = c, dir = dir, ns = c:namespace "fault", said = {}, options = options,
    world = sim.open(dir .. "/world") }, Stage)
  c:deployment(self.ns, "web", options.web)
  self.token = c:service_account(self.ns, "moontide", options.rights or M.RIGHTS)
  if options.before then options.before(self) end
  if not options.direct then self.wire = M.wire(c) end
  self.kubeconfig = M.kubeconfig {
    server = self.wire and self.wire.url or c.server, ca = not self.wire and c.ca or nil,
    token = not options.token_file and self.token or nil, token_file = options.token_file, namespace = self.ns,
  }
  self.engine, self.running = self:host "state"
  return self
end

---Another host of the same world and cluster, with a state folder of its own.
---@param name string
---@return table engine
---@return Task running
function Stage:host(name)
  local world = self.world:world()
  local simulated = world.target
  function world.target(environment, outside)
    if environment.name == "staging" then return targets.open(environment, outside) end
    return simulated(environment)
  end
  local options = { world = world }
  for key, value in pairs(self.options.engine or {}) do options[key] = value end
  local settings = { poll = 0.2, watch_for = 0, engine = options,
    on_event = function(event) self.said[#self.said + 1] = event.text end }
  local function configured(config)
    config.clusters = { default = { name = "default", kubeconfig = self.kubeconfig, namespace = self.ns } }
    local target = { kind = "kubernetes", cluster = "default", workload = "deployment/web", containers = {},
      init_containers = {}, patience = 1.5, timeout = 60, server_side = false }
    for k, v in pairs(self.options.target or {}) do target[k] = v end
    config.app_list[1].environment_list[1].target = target
    return config
  end
  local engine = sim.host(self.world, ("%s/%s"):format(self.dir, name), settings)
  configured(engine.config)
  engine.load = function() return configured(sim.config(self.dir .. "/" .. name, settings)) end
  local running = task.spawn(function() return engine:run() end)
  check.defer(function()
    engine:stop(0)
    running:join(15)
    kubernetes.forget()
  end)
  return engine, running
end

function Stage:path() return ("/apis/apps/v1/namespaces/%s/deployments/web"):format(self.ns) end
function Stage:web() return assert(self.c:get(self:path())) end
function Stage:image() return self:web().spec.template.spec.containers[1].image end
function Stage:digest() return self:image():match("@(.*)$") end

---How many pod templates it had.
function Stage:revision() return tonumber(self:web().metadata.annotations["deployment.kubernetes.io/revision"]) end

function Stage:push(name) self.world:push("main", name) end

---The runs, the newest first.
function Stage:runs() return assert(self.engine:history { limit = 50 }).runs end

---Whether the host said it, in a log or as progress.
function Stage:told(words)
  for _, text in ipairs(self.said) do
    if text:find(words, 1, true) then return true end
  end
  return false
end

---Waits until a run of a kind has come to an end.
---@param kind? string "change"
---@param seconds? number
---@param after? integer A run's number: only later ones count.
---@return table run
function Stage:ended(kind, seconds, after)
  return base.eventually("a run ends", seconds or 60, function()
    local run = self:runs()[1]
    return run and run.kind == (kind or "change") and run.id > (after or 0)
      and (run.state == "done" or run.state == "failed") and run
  end)
end

---Pushes and waits for the end of its run.
---@return table run
function Stage:released(name, seconds)
  local newest = self:runs()[1]
  self:push(name)
  return self:ended("change", seconds, newest and newest.id)
end

---Waits until the Deployment has a commit's image.
function Stage:begun(name, seconds)
  return base.eventually(name .. " is being rolled out", seconds or 30, function()
    return self:digest() == M.digest(name)
  end)
end

return M
