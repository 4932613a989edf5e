-- Approvals over HTTP, in the form that keel's clients know: GET, POST and PUT of /v1/approvals, with the token of
-- `api` as a bearer's or as anybody's password.
local errors, json, log, time = require "errors", require "json", require "log", require "time"
local text, token = require "base.text", require "people.control.token"

local M = {}

local function answer(status, value)
  return {
    status = status, body = text.visible_json(assert(json.encode(value))) .. "\n",
    headers = { ["Content-Type"] = "application/json", ["Cache-Control"] = "no-store" },
  }
end

local function refuse(status, words) return answer(status, { error = words }) end

---Refuses who may not come in, and notes who says so, where the request tells; needs its head only.
---@async
---@param engine EngineState
---@param request serve.Request
---@return table? refusal
function M.gate(engine, request)
  local ok, who = token.check(engine.config, request, { basic = true })
  if ok then
    request.user = who
    return nil
  end
  if who.code == "denied" then return refuse(404, "the configuration has no api.token, so there is no API here") end
  local refusal = refuse(who.code == "unauthorized" and 401 or who.code == "rate_limited" and 429 or 503, who.message)
  refusal.headers["WWW-Authenticate"] = who.code == "unauthorized" and 'Basic realm="moontide"' or nil
  refusal.headers["Retry-After"] = who.retry_after and ("%d"):format(math.ceil(who.retry_after)) or nil
  return refusal
end

-- keel's words for an approval.
local function shown(a)
  local voters = {}
  for _, voter in ipairs(a.voters) do voters[voter] = time.iso(a.at) end
  return {
    id = tostring(a.id), archived = a.archived or a.state ~= "pending" and a.state ~= "approved",
    provider = "kubernetes", identifier = a.name, message = a.title, currentVersion = a.current or "",
    newVersion = a.new or "", digest = a.digest or "", votesRequired = a.votes, votesReceived = #a.voters,
    voters = voters, rejected = a.state == "rejected", deadline = time.iso(a.deadline), createdAt = time.iso(a.at),
    updatedAt = time.iso(a.changed_at), state = a.state, app = a.app, environment = a.environment,
  }
end

local function list(engine)
  local all = {}
  for i, a in ipairs(engine:approvals { limit = 1000 }) do all[i] = shown(a) end
  return answer(200, json.array(all))
end

-- The newest approval that a request names, by its identifier; a number in `id` says exactly which.
local function find(engine, body)
  local id = type(body.id) == "string" and math.tointeger(tonumber(body.id)) or body.id
  if math.type(id) == "integer" then return engine:approval(id) end
  for _, a in ipairs(engine:approvals { limit = 1000 }) do
    if a.name == body.identifier then return a end
  end
end

local ACTIONS = {}

function ACTIONS.approve(engine, a, by)
  if a.state ~= "pending" then return refuse(409, "it is " .. a.state .. " already") end
  engine:vote(a, by)
end

function ACTIONS.reject(engine, a, by)
  if a.state ~= "pending" then return refuse(409, "it is " .. a.state .. " already") end
  engine:turn_down(a, by)
end

function ACTIONS.archive(engine, a) engine:archive_approval(a) end
function ACTIONS.delete(engine, a) engine:forget_approval(a) end

local function act(engine, body, user)
  local action = body.action == nil and "approve" or body.action
  if action == "" then action = "approve" end
  if not ACTIONS[action] then return refuse(400, "action is approve, reject, archive or delete") end
  local a = find(engine, body)
  if not a then return refuse(404, ("approval '%s' not found"):format(tostring(body.identifier or body.id))) end
  -- A name that is no text would make the list unreadable for everybody.
  local voter = text.clean(type(body.voter) == "string" and body.voter or "")
  if voter == "" then voter = text.clean(user or "") end
  if voter == "" then voter = "the API" end
  log.info("an operator's order", { act = action, approval = a.name, by = voter })
  local refusal = ACTIONS[action](engine, a, voter)
  if refusal then return refusal end
  return answer(200, action == "delete" and json.null or shown(engine:approval(a.id)))
end

-- The number of votes that a workload's updates need is an annotation on the workload, as with keel.
local function require_votes(engine, body)
  local votes = math.type(body.votesRequired) == "integer" and body.votesRequired
  if not votes or votes < 0 or votes > 100 then return refuse(400, "votesRequired should be between 0 and 100") end
  if body.provider ~= nil and body.provider ~= "kubernetes" then return refuse(400, "unsupported provider") end
  local kind, namespace, name = tostring(body.identifier or ""):match("^(%l+)/([^/]+)/([^/]+)$") ---@cast kind string
  local app = kind and engine.config.apps[namespace .. "/" .. name]
  local environment = app and app.follows == "workload" and app.environments[kind]
  if not environment then
    return refuse(404, ("resource with identifier '%s' not found"):format(tostring(body.identifier)))
  end
  local client, err = engine.world.cluster(environment.target.cluster)
  local ok
  if client then
    ok, err = client:patch(require("kubernetes").path(kind, namespace, name), { metadata = {
      annotations = { ["keel.sh/approvals"] = tostring(votes) }, labels = { ["keel.sh/approvals"] = json.null },
    } }, "merge")
  end
  if not ok then return refuse(502, tostring(err and err.message)) end
  engine:require_votes(app.name, kind, votes)
  return answer(200, { status = "updated" })
end

-- keel's clients read the reason of a failure as text.
local function keels(act_on)
  return function(engine, request)
    local body = json.decode(request.body or "")
    if type(body) ~= "table" or body == json.null then return refuse(400, "the body must be a JSON object") end
    local ok, answered = pcall(act_on, engine, body, request.user)
    if ok then return answered --[[@as table]] end
    if errors.is(answered, "cancelled") or errors.is(answered, "deadline") then error(answered, 0) end
    local err = errors.wrap(answered)
    if not errors.is(err, "internal") then return refuse(500, tostring(err.message)) end
    log.error("the API failed", { path = request.path, error = tostring(err) })
    return refuse(500, "the API failed; the host's log says why")
  end
end

M.routes = {
  ["GET /v1/approvals"] = list, ["POST /v1/approvals"] = keels(act), ["PUT /v1/approvals"] = keels(require_votes),
}

return M
