-- How a cluster is reached: kubeconfigs, tokens that change, exec plugins of every kind. No secret is in an error.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local apiserver = require "fixture.apiserver"
local access, exec = require "cluster.access", require "cluster.exec"
local fs, hash, json, log = require "fs", require "hash", require "json", require "log"
local kubernetes = require "kubernetes"
local proc, sys, task, time = require "proc", require "base.sys", require "task", require "time"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has
local object, status = apiserver.object, apiserver.status

local CANARY <const> = "MOONCANARY-0123456789abcdef"
local PATH <const> = "/api/v1/namespaces/ns"

-- A server that answers with what it was sent.
local function echo(handle)
  local api = apiserver.open(handle or function(request)
    return object { auth = request.headers.authorization, host = request.headers.host, path = request.path,
      user = request.headers["impersonate-user"], groups = request.headers["impersonate-group"],
      extra = request.headers["impersonate-extra-acme.com%2froles"] }
  end)
  check.defer(function() api:close() end)
  return api
end

local function clean(err)
  local seen = json.encode(require("errors").plain(err)) .. tostring(err) .. tostring(err.cause)
  eq(seen:find("MOONCANARY", 1, true), nil)
  return err
end

-- ---- kubeconfigs ----

test("tokens, passwords, impersonation and paths below a server's address", function()
  local api = echo()
  local got = ok(api:client("token: " .. CANARY):get(PATH))
  eq({ got.auth, got.path }, { "Bearer " .. CANARY, PATH })
  eq(log.redact("a " .. CANARY .. " b"):find("MOONCANARY", 1, true), nil)
  eq(ok(api:client("username: u, password: 'p w'"):get(PATH)).auth, "Basic " .. hash.base64 "u:p w")
  eq(ok(api:client("token: 123456789"):get(PATH)).auth, "Bearer 123456789")
  got = ok(api:client("as: robot, as-groups: [a, b], as-user-extra: {acme.com/roles: [x]}"):get(PATH))
  eq({ got.user, got.groups, got.extra, got.auth }, { "robot", "a, b", "x", nil })
  local file = api:file("below", ([[
current-context: c
contexts: [{name: c, context: {cluster: c}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:%d/k8s/one/"}}]
]]):format(api.server.port))
  local client = ok(kubernetes.open { kubeconfig = file, namespace = "mine" })
  eq(ok(client:get(PATH)).path, "/k8s/one" .. PATH)
  eq(client.namespace, "mine")
  eq(rawequal(client, ok(kubernetes.open { kubeconfig = file, namespace = "mine" })), true)
end)

test("a server of another name is asked for by that name", function()
  local api = echo()
  local file = api:file("named", ([[
current-context: c
contexts: [{name: c, context: {cluster: c}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:%d", tls-server-name: kube.example.com}}]
]]):format(api.server.port))
  -- connect_to leads here; the Host header is the server's own address, as client-go's is
  eq(ok(ok(kubernetes.open { kubeconfig = file }):get(PATH)).host, "127.0.0.1:" .. api.server.port)
end)

test("several files merge, the first that says something wins, paths start where they stand", function()
  local api = echo()
  ok(fs.mkdir(api.dir.path .. "/a"))
  ok(fs.write(api.dir.path .. "/a/token", CANARY .. "\n"))
  ok(fs.write(api.dir.path .. "/a/one", [[
contexts: [{name: x, context: {cluster: c, user: me, namespace: first}}]
users: [{name: me, user: {tokenFile: token}}]
]]))
  ok(fs.write(api.dir.path .. "/two", ([[
current-context: x
contexts: [{name: x, context: {cluster: none}}, {name: y, context: {cluster: c, user: me}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:%d"}}]
users: [{name: me, user: {token: other}}]
]]):format(api.server.port)))
  local files = { api.dir.path .. "/a/one", api.dir.path .. "/none", api.dir.path .. "/two" }
  local way = ok(access.kubeconfig(files))
  eq({ way.namespace, ok(way:options()).auth.bearer }, { "first", CANARY })
  eq(ok(access.kubeconfig(files, "y")).namespace, "default")
  fails("not_found", access.kubeconfig { "/nowhere/1", "/nowhere/2" })
  fails("not_found", access.kubeconfig { "/nowhere/1" })
end)

test("what a kubeconfig asks for and we cannot do is said, never ignored", function()
  local api = echo()
  local function wrong(code, part, user, cluster)
    local err = clean(fails(code, kubernetes.open { kubeconfig = api:kubeconfig(user, cluster) }))
    has(err.message, part)
  end
  wrong("unsupported", "auth-provider was removed", "auth-provider: {name: gcp}")
  wrong("unsupported", "proxy-url", "token: t", "proxy-url: 'http://proxy'")
  wrong("invalid", "exclude each other", "token: t", "insecure-skip-tls-verify: true, certificate-authority-data: QUJD")
  wrong("invalid", "no base64", "token: t", "certificate-authority-data: '" .. CANARY .. "'")
  wrong("invalid", "needs its key", "client-certificate: /x")
  wrong("invalid", "both a token and a password", "token: " .. CANARY .. ", username: u, password: p")
  wrong("invalid", "names no command", "exec: {apiVersion: client.authentication.k8s.io/v1}")
  wrong("invalid", "exec speaks", "exec: {command: x, apiVersion: client.authentication.k8s.io/v1alpha1}")
  wrong("invalid", "a person at a terminal",
    "exec: {command: x, apiVersion: client.authentication.k8s.io/v1, interactiveMode: Always}")
  wrong("invalid", "need as", "as-groups: [a]")
  wrong("unauthorized", "holds no token", "tokenFile: /nowhere/token")
  local file = api:kubeconfig("token: t")
  has(fails("invalid", kubernetes.open { kubeconfig = file, context = "other" }).message, "it has: here")
  for text, part in pairs {
    ["contexts: []"] = "names no current-context", ["current-context: x"] = "has no context x",
    ["[1"] = "no kubeconfig", ["just text"] = "no kubeconfig",
    ["current-context: x\ncontexts: [{name: x, context: {cluster: c}}]"] = "names the cluster c",
    ["current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n"
      .. "clusters: [{name: c, cluster: {server: 'http://h'}}]"] = "names the user u",
    ["current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\n"
      .. "clusters: [{name: c, cluster: {server: 'ftp://h'}}]"] = "no server address",
  } do
    has(fails("invalid", kubernetes.open { kubeconfig = api:file("odd", text) }).message, part)
  end
  fails("not_found", kubernetes.open("nothing", { clusters = {} }))
  check.raises("usage: kubernetes.open", kubernetes.open, 7)
end)

test("keys given as data are files of ours alone, for as long as the client lives", function()
  local api = echo()
  local pem = "-----BEGIN PRIVATE KEY-----\n" .. CANARY .. "\n-----END PRIVATE KEY-----\n"
  local data = hash.base64(pem)
  local client = api:client(("client-certificate-data: %s, client-key-data: %s"):format(data, data))
  local options = ok(client.access:options())
  eq(ok(fs.read(options.key)), pem)
  eq({ ok(fs.stat(options.key)).mode, ok(fs.stat(options.key:match("^(.*)/"))).mode }, { 384, 448 })
  eq(log.redact(CANARY):find("MOONCANARY", 1, true), nil)
  client:close()
  check.eventually(function() return not fs.exists(options.key) end)
end)

-- ---- tokens that change ----

test("a token file is read again in time and after a 401; the old token serves while it cannot be read", function()
  local good, seen = "one-0123456789", {}
  local api = echo(function(request)
    local token = (request.headers.authorization or ""):match("^Bearer (.+)$")
    seen[#seen + 1] = token
    if token ~= good then return status(401, "Unauthorized", "Unauthorized") end
    return object {}
  end)
  local file = api:file("token", good .. "\n")
  local client = api:client("tokenFile: " .. file)
  ok(client:get(PATH))
  api:file("token", "two-0123456789")
  ok(client:get(PATH)) -- read a moment ago: the old one
  good = "two-0123456789"
  ok(client:get(PATH)) -- refused once, read again
  eq(seen, { "one-0123456789", "one-0123456789", "one-0123456789", "two-0123456789" })
  local before = #seen
  good = "nobody has it"
  has(clean(fails("unauthorized", client:get(PATH))).message, "does not accept our credentials")
  eq(#seen, before + 1) -- the same token is not tried twice
  good = "two-0123456789"
  access.reread = 0
  check.defer(function() access.reread = 60 end)
  for _, broken in ipairs { "", "two words", "line\nbreak" } do
    api:file("token", broken)
    ok(client:get(PATH))
  end
  ok(fs.remove(file))
  ok(client:get(PATH))
  good = "three-0123456789"
  api:file("token", " three-0123456789 \n")
  before = #seen
  ok(client:get(PATH)) -- by time alone
  eq(#seen, before + 1)
end)

test("a kubeconfig that was renewed is read again after a 401", function()
  local good = "one-0123456789"
  local api = echo(function(request)
    if request.headers.authorization == "Bearer " .. good then return object {} end
    return status(401, "Unauthorized", "Unauthorized")
  end)
  local file = api:kubeconfig("token: one-0123456789")
  local client = ok(kubernetes.open { kubeconfig = file })
  ok(client:get(PATH))
  good = "two-0123456789"
  fails("unauthorized", client:get(PATH))
  ok(fs.write(file, (ok(fs.read(file)):gsub("one%-", "two-"))))
  ok(client:get(PATH))
end)

-- ---- exec plugins ----

local function plugin(api, script, more)
  local file = api:file("plugin", "#!/bin/sh\n" .. script, 493)
  return ("exec: {apiVersion: client.authentication.k8s.io/v1, command: %s, args: [one, 'two words']%s}"):format(
    file, more and ", " .. more or "")
end

local function credential(fields)
  local version = "client.authentication.k8s.io/v1"
  return assert(json.encode { apiVersion = version, kind = "ExecCredential", status = fields })
end

test("a plugin is run by its argv once, until its credential expires or is refused", function()
  local good = "tok-1-abcdefgh"
  local api
  api = echo(function(request)
    if request.headers.authorization == "Bearer " .. good then return object {} end
    return status(401, "Unauthorized", "Unauthorized")
  end)
  local count = api.dir.path .. "/count"
  local script = ([[
echo x >> %s
n=$(wc -l < %s)
echo "$1|$2|$VALUE|$KUBERNETES_EXEC_INFO" > %s.seen
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",'
echo '"status":{"token":"tok-'$n'-abcdefgh"'$EXTRA'}}'
]]):format(count, count, count)
  local client = api:client(plugin(api, script, "env: [{name: VALUE, value: 'a b'}], provideClusterInfo: true"))
  local function runs() return select(2, ok(fs.read(count)):gsub("x", "")) end
  local jobs = {}
  for i = 1, 8 do jobs[i] = function() return ok(client:get(PATH)) end end
  task.all(jobs) -- side by side: one run
  eq(runs(), 1)
  local seen = ok(fs.read(count .. ".seen"))
  has(seen, "one|two words|a b|{")
  local info = ok(json.decode(seen:match("|({.*})")))
  eq({ info.kind, info.spec.interactive, info.spec.cluster.server }, { "ExecCredential", false, client.server })
  good = "tok-2-abcdefgh"
  ok(client:get(PATH))
  eq(runs(), 2)
  good = "never"
  clean(fails("unauthorized", client:get(PATH)))
  eq(runs(), 3)
  -- one whose credential is good for ten more seconds is run for each request
  good = "tok-1-abcdefgh"
  ok(fs.remove(count))
  local function expiring(seconds)
    local stamp = time.iso(time.now() + seconds)
    return ([[env: [{name: EXTRA, value: ',"expirationTimestamp":"%s"'}] ]]):format(stamp)
  end
  client = api:client(plugin(api, script, expiring(10)))
  ok(client:get(PATH))
  good = "tok-2-abcdefgh"
  ok(client:get(PATH))
  eq(runs(), 2)
  ok(fs.remove(count))
  good = "tok-1-abcdefgh"
  client = api:client(plugin(api, script, expiring(3600)))
  ok(client:get(PATH))
  ok(client:get(PATH))
  eq(runs(), 1)
end)

test("a plugin's certificate is used, and its files go with the client", function()
  local api = echo()
  local printed = credential { clientCertificateData = "CERT", clientKeyData = CANARY }
  local client = api:client(plugin(api, "cat <<'END'\n" .. printed .. "\nEND\n"))
  local options = ok(client.access:options())
  eq({ ok(fs.read(options.cert)), ok(fs.read(options.key)) }, { "CERT", CANARY })
  eq(ok(fs.stat(options.key)).mode, 384)
  eq(client.access:refused(options), true) -- a new pair under new names, and the old one is gone
  local fresh = ok(client.access:options())
  eq({ fresh.key ~= options.key, fs.exists(options.key), fs.exists(fresh.key) }, { true, false, true })
  client:close()
end)

test("plugins that fail are told apart, and none of their output is in an error", function()
  local api = echo()
  exec.timeout = 0.5
  check.defer(function() exec.timeout = 60 end)
  local function wrong(code, part, script)
    local client = api:client(plugin(api, script))
    has(clean(fails(code, client:get(PATH))).message, part)
    eq(#api.requests, 0)
  end
  local function print_it(text) return "cat <<'END'\n" .. text .. "\nEND\n" end
  wrong("failed", "ended with status 3: please log in", "echo " .. CANARY .. "\necho please log in >&2\nexit 3\n")
  wrong("failed", "ended by SIGKILL", "kill -9 $$\n")
  wrong("timeout", "did not end within", "echo " .. CANARY .. "\nsleep 30\n")
  wrong("protocol", "printed no ExecCredential", "echo " .. CANARY .. "\n")
  wrong("protocol", "printed no ExecCredential", "true\n")
  wrong("protocol", "printed no ExecCredential", "head -c 100000 /dev/zero\n")
  wrong("too_large", "more than 1 MiB", "head -c 3000000 /dev/zero\n")
  wrong("protocol", "another apiVersion", print_it((credential { token = CANARY }:gsub("io/v1", "%0beta1"))))
  wrong("protocol", "neither a token nor", print_it(credential {}))
  wrong("protocol", "neither a token nor", print_it(credential { token = "" }))
  wrong("protocol", "without its key", print_it(credential { clientCertificateData = "x" }))
  wrong("protocol", "blanks or line breaks", print_it(credential { token = CANARY .. "\r\nX-Evil: 1" }))
  wrong("protocol", "no time", print_it(credential { token = CANARY, expirationTimestamp = "tomorrow" }))
  local missing = "exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-plugin, "
    .. "installHint: 'apt install it'}"
  has(fails("not_found", api:client(missing):get(PATH)).message, "no-such-plugin cannot be run: apt install it")
end)

test("whoever waits for a plugin hears of its failure too", function()
  local api = echo()
  local client = api:client(plugin(api, "sleep 0.2\nexit 1\n"))
  local codes = {}
  local jobs = {}
  for i = 1, 5 do
    jobs[i] = function()
      local _, err = client:get(PATH)
      codes[#codes + 1] = err.code
      return true
    end
  end
  task.all(jobs)
  eq(codes, { "failed", "failed", "failed", "failed", "failed" })
  -- and when the one who ran it is ended, who waits runs it
  local started = api:file("started", "") .. ".now"
  client = api:client(plugin(api, ("if [ -e %s ]; then exit 1; fi\ntouch %s\nsleep 3600\n"):format(started, started)))
  local first = task.spawn(function() return client:get(PATH) end)
  check.eventually(function() return fs.exists(started) end)
  local asked = false
  local second = task.spawn(function()
    asked = true -- and then it waits in the same slice
    return client:get(PATH)
  end)
  check.eventually(function() return asked end)
  first:cancel()
  local _, err = second:join(100)
  eq(err.code, "failed")
end)

-- ---- in a pod ----

test("a pod finds its cluster by its environment and its service account's files", function()
  local api = echo()
  local root = api.dir.path .. "/account"
  ok(fs.mkdir(root))
  ok(fs.write(root .. "/token", CANARY .. "\n"))
  ok(fs.write(root .. "/namespace", "shop\n"))
  local script = api:file("in_pod.lua", [[
local access, sys = require "cluster.access", require "base.sys"
local way, err = access.in_cluster(...)
if not way then print(err and err.code or "no pod") return end
local options = assert(way:options())
print(way.server, way.namespace, #options.auth.bearer, options.ca:match("[^/]+$"))
]])
  local function run(env)
    return ok(proc.check(proc.run { sys.exe(), "exec", script, root, env = env })).stdout
  end
  local here = { KUBERNETES_SERVICE_HOST = "10.0.0.1", KUBERNETES_SERVICE_PORT = "443" }
  eq(run(here), ("https://10.0.0.1:443\tshop\t%d\tca.crt\n"):format(#CANARY))
  here.KUBERNETES_SERVICE_HOST, here.POD_NAMESPACE = "fd00::1", "other"
  eq(run(here), ("https://[fd00::1]:443\tother\t%d\tca.crt\n"):format(#CANARY))
  eq(run {}, "no pod\n")
  ok(fs.write(root .. "/token", "\n"))
  eq(run(here), "unauthorized\n")
  ok(fs.remove(root .. "/token"))
  eq(run(here), "no pod\n")
end)

test("without a pod and without KUBECONFIG there is no cluster", function()
  local api = echo()
  local script = api:file("open.lua", [[
local client, err = require("kubernetes").open "default"
print(client and client.namespace or err.message)
]])
  local function run(env)
    return ok(proc.check(proc.run { sys.exe(), "exec", script, env = env })).stdout
  end
  has(run {}, "no cluster: this is no pod, KUBECONFIG is not set")
  eq(run { KUBECONFIG = "/nowhere/x:" .. api:kubeconfig("token: t") }, "ns\n")
end)
