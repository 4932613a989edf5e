-- The client of the Kubernetes API against a fake server: what it sends, how it reads refusals, when it tries again.
-- tests/cluster/kubernetes_test.lua asks a real one.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local apiserver = require "fixture.apiserver"
local errors, json, kubernetes, serve = require "errors", require "json", require "kubernetes", require "serve"
local task, time = require "task", require "time"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has
local status, object = apiserver.status, apiserver.object

local function open(handle)
  local api = apiserver.open(handle)
  check.defer(function() api:close() end)
  return api, api:client("token: tok-0123456789")
end

local WEB <const> = kubernetes.path("deployment", "shop", "web")

test("paths of known kinds, by any of their names", function()
  eq(WEB, "/apis/apps/v1/namespaces/shop/deployments/web")
  eq(kubernetes.path("sts", "a"), "/apis/apps/v1/namespaces/a/statefulsets")
  eq(kubernetes.path("Pod"), "/api/v1/pods")
  eq(kubernetes.path("ns", "ignored", "x"), "/api/v1/namespaces/x")
  eq(kubernetes.path("CronJob", "a", "b"), "/apis/batch/v1/namespaces/a/cronjobs/b")
  eq(kubernetes.path("cm", "a/b", "../c"), "/api/v1/namespaces/a%2Fb/configmaps/..%2Fc")
  check.raises("unknown kind 'widget'", kubernetes.path, "widget", "a")
end)

test("our token follows no redirect, wherever a server sends us", function()
  local thief = apiserver.open(function() return object { metadata = { name = "stolen" } } end)
  check.defer(function() thief:close() end)
  local api, client = open(function()
    return { status = 307, headers = { Location = ("http://127.0.0.1:%d/x"):format(thief.server.port) }, body = "" }
  end)
  fails("status", client:get(WEB))
  fails("status", client:create("/api/v1/namespaces/a/configmaps", { kind = "ConfigMap" }))
  fails("status", client:watch("/api/v1/namespaces/a/configmaps", {}, function() end))
  ok(#api.requests >= 3)
  eq(#thief.requests, 0)
end)

test("each verb sends what the API expects", function()
  local api, client = open(function() return object { metadata = { name = "web" } } end)
  ok(client:get(WEB))
  ok(client:create("/api/v1/namespaces/a/configmaps", { kind = "ConfigMap" }))
  ok(client:replace(WEB, { kind = "Deployment" }, { fieldManager = "other" }))
  ok(client:patch(WEB, { spec = {} }, "strategic"))
  ok(client:patch(WEB, { spec = {} }, "merge", { dryRun = "All" }))
  ok(client:patch(WEB, json.array { { op = "remove", path = "/x" } }, "json"))
  ok(client:patch(WEB, { spec = {} }, "apply", { force = true, fieldManager = "a b&c" }))
  ok(client:delete(WEB, { preconditions = { uid = "u" } }))
  local seen = {}
  for i, request in ipairs(api.requests) do
    seen[i] = ("%s %s %s"):format(request.method, request.target, request.headers["content-type"] or "-")
    eq(request.headers.authorization, "Bearer tok-0123456789")
    eq(request.headers.accept, "application/json")
  end
  eq(seen, {
    "GET " .. WEB .. " -",
    "POST /api/v1/namespaces/a/configmaps?fieldManager=moontide application/json",
    "PUT " .. WEB .. "?fieldManager=other application/json",
    "PATCH " .. WEB .. "?fieldManager=moontide application/strategic-merge-patch+json",
    "PATCH " .. WEB .. "?dryRun=All&fieldManager=moontide application/merge-patch+json",
    "PATCH " .. WEB .. "?fieldManager=moontide application/json-patch+json",
    "PATCH " .. WEB .. "?fieldManager=a%20b%26c&force=true application/apply-patch+yaml",
    "DELETE " .. WEB .. " application/json",
  })
  eq(api.requests[8].object, {
    apiVersion = "v1", kind = "DeleteOptions", propagationPolicy = "Background", preconditions = { uid = "u" },
  })
  eq(client.counters.requests, 8)
  check.raises("usage: client:patch", client.patch, client, WEB, {}, "yaml")
  check.raises("has no query", client.get, client, WEB .. "?x=1")
  check.raises("has no query", client.get, client, "//evil host/")
  check.raises("starts with a slash", client.get, client, "http://evil/")
end)

test("objects keep their empty lists and tables, lose their nulls and managedFields", function()
  local sent = '{"apiVersion":"v1","big":9007199254740993,"data":{},"items":[],"kind":"X","metadata":{"name":"x",'
    .. '"managedFields":[{"manager":"a"}],"creationTimestamp":null},"spec":{"list":[],"none":null,"ratio":0.5}}'
  local api, client = open(function(request)
    if request.method == "PUT" then return { status = 200, body = request.body } end
    return { status = 200, body = sent }
  end)
  local got = ok(client:get(WEB))
  eq(got.spec.none, nil)
  eq(got.metadata, { name = "x" })
  ok(client:replace(WEB, got))
  eq(api.requests[2].body, '{"apiVersion":"v1","big":9007199254740993,"data":{},"items":[],"kind":"X",'
    .. '"metadata":{"name":"x"},"spec":{"list":[],"ratio":0.5}}')
  local whole = ok(client:get(WEB, nil, { managed_fields = true, nulls = true }))
  eq(whole.metadata.managedFields[1].manager, "a")
  eq(whole.spec.none, json.null)
end)

-- ---- refusals ----

test("a denied call says who may not do what to which resource where", function()
  local answer
  local _, client = open(function() return answer end)
  local function denied(message)
    answer = status(403, "Forbidden", message)
    return fails("denied", client:patch(WEB, {}, "merge"))
  end
  local err = denied('deployments.apps "web" is forbidden: User "system:serviceaccount:shop:bot" cannot patch resource '
    .. '"deployments" in API group "apps" in the namespace "shop"')
  eq(err.message, "may not patch deployments in namespace shop as system:serviceaccount:shop:bot")
  eq({ err.verb, err.resource, err.namespace, err.user, err.status, err.reason }, {
    "patch", "deployments", "shop", "system:serviceaccount:shop:bot", 403, "Forbidden" })
  err = denied 'nodes is forbidden: User "u" cannot list resource "nodes" in API group "" at the cluster scope'
  eq(err.message, "may not list nodes in the whole cluster as u")
  err = denied 'forbidden: User "system:anonymous" cannot get path "/metrics"'
  eq(err.message, "may not get /metrics as system:anonymous")
  err = denied('pods "x" is forbidden: User "u" cannot get resource "pods/log" in API group "" in the namespace "a": '
    .. 'RBAC: role.rbac.authorization.k8s.io "gone" not found')
  eq(err.message, 'may not get pods/log in namespace a as u (RBAC: role.rbac.authorization.k8s.io "gone" not found)')
  err = denied 'pods "x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2'
  has(err.message, "the cluster does not let us patch deployments web in namespace shop: pods")
  has(err.message, "exceeded quota: q")
  answer = { status = 403, body = "<html>\27[31mno\0</html>" }
  err = fails("denied", client:get(WEB))
  has(err.message, "does not let us get deployments web in namespace shop")
  eq(err.message:find("%c"), nil)
end)

test("refusals have codes, reasons and what is wrong with which field", function()
  local answer
  local _, client = open(function() return answer end)
  local function refused(code, ...)
    answer = status(...)
    return fails(code, client:with { attempts = 1 }:patch(WEB, {}, "apply"))
  end
  local err = refused("unauthorized", 401, "Unauthorized", "Unauthorized")
  eq(err.message, "the cluster does not accept our credentials")
  has(refused("not_found", 404, "NotFound", 'deployments.apps "web" not found').message, "in namespace shop")
  eq(refused("exists", 409, "AlreadyExists", "already there").reason, "AlreadyExists")
  eq(refused("conflict", 409, "Conflict", "the object has been modified").message, "the object has been modified")
  eq(refused("conflict", 410, "Expired", "too old").reason, "Expired")
  eq(refused("conflict", 410, nil, "too old").reason, "Expired")
  err = refused("rate_limited", 429, "TooManyRequests", "slow down", { headers = { ["Retry-After"] = "7" } })
  eq(err.retry_after, 7)
  eq(refused("status", 500, "InternalError", "oops").status, 500)
  eq(refused("unsupported", 415, "UnsupportedMediaType", "no").status, 415)
  eq(refused("too_large", 413, "RequestEntityTooLarge", "no").status, 413)
  err = refused("invalid", 422, "Invalid", 'Deployment.apps "web" is invalid: spec.replicas: Invalid value: -1', {
    details = { causes = { { field = "spec.replicas", reason = "FieldValueInvalid", message = "Invalid value: -1" } } },
  })
  eq(err.causes, { { field = "spec.replicas", reason = "FieldValueInvalid", message = "Invalid value: -1" } })
  err = refused("conflict", 409, "Conflict", "Apply failed with 2 conflicts", { details = { causes = {
    { reason = "FieldManagerConflict", message = 'conflict with "kubectl" using apps/v1', field = ".spec.replicas" },
    { reason = "FieldManagerConflict", message = 'conflict with "helm" using apps/v1', field = ".spec.paused" },
    { reason = "FieldManagerConflict", message = 'conflict with "helm" using apps/v1', field = ".spec.x" },
  } } })
  eq(err.managers, { "kubectl", "helm" })
  eq(err.message, "deployments web in namespace shop: .spec.replicas, .spec.paused, .spec.x belong to kubectl, helm")
end)

test("what was sent is not repeated in an error", function()
  local value = '{\\"data\\":{\\"password\\":\\"aHVudGVyMg==hunter2hunter2hunter2hunter2hunter2hunter2hunter2\\"}}'
  local _, client = open(function()
    local said = 'Secret "s" is invalid: patch: Invalid value: "' .. value .. '": json: cannot do that'
    local cause = { message = 'Invalid value: "' .. value .. '": x' }
    return status(422, "Invalid", said, { details = { causes = { cause } } })
  end)
  local err = fails("invalid", client:patch("/api/v1/namespaces/a/secrets/s", {}, "merge"))
  eq((tostring(err) .. err.causes[1].message):find("hunter2", 1, true), nil)
  has(err.message, "json: cannot do that")
end)

test("an answer that is no object is an error, whatever its status", function()
  local answer
  local _, client = open(function() return answer end)
  for _, body in ipairs { "", "null", "[1,2", "<html>", '"text"', '{"a":1}{"b":2}', "{\"a\":\"\xff\"}" } do
    answer = { status = 200, body = body }
    has(fails("protocol", client:get(WEB)).message, "no JSON object")
  end
  answer = { status = 302, headers = { Location = "http://127.0.0.1:1/" }, body = "" }
  eq(fails("status", client:get(WEB)).status, 302)
  answer = { status = 200, body = '{"items":["x",null,{"metadata":"none"},7],"metadata":[]}' }
  eq(#ok(client:list(WEB)).items > 0, true) -- odd, but nothing raises
end)

-- ---- trying again ----

test("what asks for it by Retry-After is tried again, whatever it is", function()
  local answers
  local api, client = open(function(_, n) return answers[n] or object { n = n } end)
  answers = {
    status(429, "TooManyRequests", "later", { headers = { ["Retry-After"] = "1" } }),
    status(503, "ServiceUnavailable", "later", { headers = { ["Retry-After"] = "0" } }),
  }
  local began = time.monotonic()
  eq(ok(client:create("/api/v1/namespaces/a/pods", {})).n, 3)
  eq(time.monotonic() - began >= 1, true)
  eq(client.counters.retries, 2)
  -- but not for ever, and not when it asks for too much
  for i = 4, 30 do answers[i] = status(429, "TooManyRequests", "later", { headers = { ["Retry-After"] = "0" } }) end
  fails("rate_limited", client:get(WEB))
  eq(#api.requests, 3 + 11)
  answers = { [15] = status(503, "ServiceUnavailable", "later", { headers = { ["Retry-After"] = "999" } }) }
  eq(fails("status", client:get(WEB)).retry_after, 999)
end)

test("only what does no harm is tried again when nobody asked for it", function()
  local answers = {}
  local api, client = open(function(_, n) return answers[n] or object { n = n } end)
  answers[1] = status(500, "InternalError", "etcdserver: leader changed")
  fails("status", client:create("/api/v1/namespaces/a/pods", {}))
  answers[2], answers[3] = status(502), status(504)
  eq(ok(client:get(WEB)).n, 4)
  answers[5] = status(500)
  eq(ok(client:patch(WEB, { spec = {} }, "strategic")).n, 6)
  answers[7] = status(500)
  fails("status", client:patch(WEB, { metadata = { resourceVersion = "1" } }, "strategic"))
  answers[8] = status(500)
  fails("status", client:patch(WEB, json.array(), "json"))
  answers[9] = status(500)
  fails("status", client:replace(WEB, {}))
  answers[10] = status(500)
  fails("status", client:delete(WEB))
  answers[11] = status(500)
  fails("status", client:with { attempts = 1 }:get(WEB))
  eq(#api.requests, 11)
end)

test("a server that is down is asked again for a while, and then said to be down", function()
  local api, client = open(function() return object {} end)
  local port = api.server.port
  api.server:close(0)
  local err = fails("refused", client:with { attempts = 2 }:create("/api/v1/namespaces/a/pods", {}))
  eq({ err.op, client.counters.requests }, { "kubernetes.create", 2 })
  local _ <close> = task.spawn(function()
    time.sleep(0.6)
    local _ <close> = ok(serve.listen { port = port, handler = function() return object { back = true } end })
    time.sleep(30)
  end)
  eq(ok(client:get(WEB)).back, true)
end)

test("a server that has just come up is not believed that nobody may do anything; another one is", function()
  local api, client = open(function() return object {} end)
  local port = api.server.port
  ok(client:get(WEB))
  api.server:close(0)
  local answers = { status(403, "Forbidden", "no roles yet"), status(401, "Unauthorized", "no accounts yet") }
  local asked = 0
  local _ <close> = task.spawn(function()
    time.sleep(0.4)
    local _ <close> = ok(serve.listen { port = port, handler = function()
      asked = asked + 1
      return answers[asked] or asked > 10 and status(403, "Forbidden", "really not") or object { back = true }
    end })
    time.sleep(30)
  end)
  eq(ok(client:patch(WEB, {}, "merge")).back, true)
  eq(asked, 3)
  asked, client.known.away = 10, nil
  fails("denied", client:patch(WEB, {}, "merge"))
  eq(asked, 11)
end)

test("a call ends in its time", function()
  local _, client = open(function() time.sleep(600) return object {} end)
  task.deadline(25, function() -- without a time of its own each would have 30 s
    fails("timeout", client:with { timeout = 0.2, attempts = 1 }:get(WEB))
    fails("timeout", client:request { method = "POST", path = WEB, timeout = 0.2 })
  end)
end)

-- ---- lists ----

local function page(first, last, continue)
  local items = json.array()
  for i = first, last do items[#items + 1] = { metadata = { name = "n" .. i, resourceVersion = "1" } } end
  return object { metadata = { resourceVersion = "77", continue = continue }, items = items }
end

test("a list comes in pages, of which only what is kept stays", function()
  local api, client = open(function(request)
    if request.query.continue == "two" then return page(3, 4, "th/ree") end
    if request.query.continue == "th/ree" then return page(5, 5, "") end
    return page(1, 2, "two")
  end)
  local list = ok(client:list("/api/v1/pods", { labelSelector = "a in (b,c)" }))
  eq({ #list.items, list.items[5].metadata.name, list.resource_version }, { 5, "n5", "77" })
  eq(api.requests[1].query, { limit = "500", labelSelector = "a in (b,c)" })
  eq(api.requests[3].query.continue, "th/ree")
  list = ok(client:list("/api/v1/pods", nil, { keep = function(pod)
    return pod.metadata.name ~= "n2" and pod.metadata.name or nil
  end }))
  eq(list.items, { "n1", "n3", "n4", "n5" })
end)

test("a list that expires between two pages begins again, three times at most", function()
  local expired = 0
  local api, client = open(function(request)
    if not request.query.continue then return page(1, 2, "two") end
    if expired > 0 then
      expired = expired - 1
      return status(410, "Expired", "The provided continue parameter is too old")
    end
    return page(3, 3)
  end)
  expired = 2
  eq(#ok(client:list("/api/v1/pods")).items, 3)
  eq(#api.requests, 6)
  expired = 9
  eq(fails("conflict", client:list("/api/v1/pods")).reason, "Expired")
  eq(#api.requests, 12)
end)

test("pages that are too large are asked for in smaller pieces", function()
  local fat = ("x"):rep(1 << 20)
  local api, client = open(function(request)
    local from, limit = tonumber(request.query.continue or "0"), tonumber(request.query.limit)
    local items, last = {}, math.min(from + limit, 40)
    for i = from + 1, last do items[#items + 1] = ('{"metadata":{"name":"n%d"},"data":"%s"}'):format(i, fat) end
    local more = last < 40 and tostring(last) or ""
    return { status = 200, body = ('{"metadata":{"resourceVersion":"1","continue":"%s"},"items":['):format(more)
      .. table.concat(items, ",") .. "]}" }
  end)
  local list = ok(client:list("/api/v1/secrets", nil, { keep = function(o) return o.metadata.name end }))
  eq({ #list.items, list.items[1], list.items[40] }, { 40, "n1", "n40" })
  local limits = {}
  for i, request in ipairs(api.requests) do limits[i] = request.query.limit end
  eq({ limits[1], limits[2], limits[3], limits[4] }, { "100", "20", "4", "4" })
end)

-- ---- finding out ----

test("kinds that we do not know are asked for, and remembered", function()
  local there = false
  local api, client = open(function(request)
    if request.path ~= "/apis/example.com/v1" then return status(404, "NotFound", "nothing") end
    return object { kind = "APIResourceList", resources = {
      { name = "widgets", kind = "Widget", namespaced = true }, { name = "widgets/status", kind = "Widget" },
      there and { name = "gears", kind = "Gear", namespaced = false } or nil,
    } }
  end)
  eq(ok(client:resource("example.com/v1", "Widget")).plural, "widgets")
  eq(ok(client:path_of { apiVersion = "example.com/v1", kind = "Widget", metadata = { name = "w" } }),
    "/apis/example.com/v1/namespaces/ns/widgets/w")
  local web = { apiVersion = "apps/v1", kind = "Deployment", metadata = { name = "w", namespace = "o" } }
  eq(ok(client:path_of(web, "p")), "/apis/apps/v1/namespaces/o/deployments/w")
  local space = { apiVersion = "v1", kind = "Namespace", metadata = { name = "w" } }
  eq(ok(client:path_of(space, "p")), "/api/v1/namespaces/w")
  eq(#api.requests, 1)
  has(fails("not_found", client:resource("example.com/v1", "Gear")).message, "no kind Gear in example.com/v1")
  has(fails("not_found", client:resource("other.com/v1", "X")).message, "no kind X")
  fails("not_found", client:resource("other.com/v1", "X"))
  eq(#api.requests, 2)
  fails("invalid", client:resource("../../x", "Y"))
  fails("invalid", client:path_of { kind = "Pod" })
  fails("invalid", client:path_of { apiVersion = "v1", kind = "Pod" })
  there = true
  client.known.groups["example.com/v1"].at = time.monotonic() - 6 -- what was missing may have been made since
  eq(ok(client:resource("example.com/v1", "Gear")).namespaced, false)
end)

test("errors of the client are values with all they need", function()
  local _, client = open(function() return status(404, "NotFound", "no") end)
  local err = fails("not_found", client:get(WEB))
  eq(errors.is(err, "not_found"), true)
  eq({ err.op, err.target }, { "kubernetes.get", client.server .. WEB })
end)
