-- The helmsman target with programs that only say what helmsman would: exit codes, words, what they see, what is left.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: inject-field, missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local kubeapi = require "fixture.kubeapi"
local lab = require "lab"
local errors, fs, json, task, time = require "errors", require "fs", require "json", require "task", require "time"
local flags, output = require "extensions.helmsman.flags", require "extensions.helmsman.output"
local plans = require "extensions.helmsman.plan"
local secret = require "config.secret"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local function digest(letter) return "sha256:" .. letter:rep(64) end

-- A helmsman in Perl: notes how it was called, then does what `body` says. $plan is true when it is only to plan.
local FAKE <const> = [[#!/usr/bin/perl
use strict; $| = 1; my $dir = '%s';
my $plan = !grep { $_ eq '-apply' || $_ eq '-destroy' } @ARGV; $plan = 1 if grep { $_ eq '-dry-run' } @ARGV;
my $destroy = grep { $_ eq '-destroy' } @ARGV;
open my $f, '>>', "$dir/calls" or die; print $f join(' ', @ARGV), "\n"; close $f;
open $f, '>', "$dir/env" or die; print $f map { "$_=$ENV{$_}\n" } sort keys %%ENV; close $f;
sub say_at { my ($level, $text) = @_; print "2026-11-23 19:21:56 $level: $text\n"; }
sub plan { say_at('NOTICE', '-------- PLAN starts here --------------');
  say_at('NOTICE', "$_ -- priority: 0") for @_; say_at('NOTICE', '-------- PLAN ends here --------------'); }
sub fatal { say_at('CRITICAL', $_[0]); exit 1; }
%s
]]

local PUT <const> = [[
plan('Release [ api ] in namespace [ shop ] will be installed using version [ 1.2.3 ]'); exit($plan ? 2 : 0);
]]

local function stage(body, more, helm)
  local dir = lab.dir("helmsman")
  lab.write(dir .. "/bin/helmsman", FAKE:format(dir, body), 493) -- 0755
  lab.write(dir .. "/bin/helm", helm and FAKE:format(dir, helm):gsub("calls", "helm") or "#!/bin/false\n", 493)
  lab.write(dir .. "/staging.yaml", "context: shop\n")
  local api = kubeapi.open(dir)
  local config = {
    kind = "helmsman", files = { dir .. "/staging.yaml" }, context = "shop", cluster = "lab", namespaces = {},
    run = "process", command = { "helmsman" }, only = {}, groups = {}, keep_untracked = true, flags = {},
    override_context = false, env = { PATH = dir .. "/bin:/usr/bin:/bin" }, variables = {}, timeout = 20,
  }
  for key, value in pairs(more or {}) do config[key] = value end
  local cfg = { state = dir .. "/state", dir = dir, clusters = { lab = { kubeconfig = api.kubeconfig } } }
  local function again()
    local t = require("targets").open({ name = "staging", app = "web", target = config, verify = {} },
      require("engine.world").of(cfg))
    t.pending_wait = 0.5
    return t
  end
  return again(), dir, api, again
end

local function request(letter, release, more)
  local r = {
    image = "api=1.2.3@" .. digest(letter) .. " web-app=2.0.0", digest = digest(letter), version = "api=1.2.3",
    versions = { api = "1.2.3", ["web-app"] = "2.0.0" }, release = release,
  }
  for key, value in pairs(more or {}) do r[key] = value end
  return r
end

local function lines(path)
  local list = {}
  for line in (fs.read(path) or ""):gmatch("[^\n]+") do list[#list + 1] = line end
  return list
end

-- ---- a release ----

test("it plans, then applies with safe flags; versions are variables, the environment is clean", function()
  local said, progress = {}, {}
  local t, dir = stage(PUT, nil)
  t.config.env.COLOUR = "blue"
  ok(t:apply(request("a", 7, { hooks = {
    output = function(stream, line) said[#said + 1] = stream .. ": " .. line end,
    progress = function(text) progress[#progress + 1] = text end,
  } })))
  local file = dir .. "/staging.yaml"
  eq(lines(dir .. "/calls"), {
    "-no-banner -no-color -no-fancy -detailed-exit-code -keep-untracked-releases -f=" .. file,
    "-no-banner -no-color -no-fancy -apply -keep-untracked-releases -f=" .. file,
  })
  local env = {}
  for _, line in ipairs(lines(dir .. "/env")) do
    local name, value = line:match("^([^=]+)=(.*)$")
    env[name] = value
  end
  eq({ env.API_VERSION, env.WEB_APP_VERSION, env.COLOUR, env.APP, env.ENVIRONMENT, env.RELEASE, env.DIGEST },
    { "1.2.3", "2.0.0", "blue", "web", "staging", "7", digest "a" })
  for _, name in ipairs { "HOME", "TMPDIR", "KUBECONFIG", "HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME" } do
    eq(env[name]:sub(1, #dir + 7), dir .. "/state/", name)
  end
  eq(fs.exists(env.KUBECONFIG), false) -- it held the credentials of one call
  eq(env.USER, nil)
  has(said[1], "PLAN starts here")
  eq(progress, { "plan: 1 to install (api)" })
end)

test("without changes nothing is applied, and that is a release, too", function()
  local t, dir, api = stage [[plan('Release [ api ] installed and up-to-date'); exit 0;]]
  kubeapi.release(api, { namespace = "shop", name = "api", revision = 3, status = "deployed", context = "shop" })
  ok(t:apply(request("a", 1)))
  eq(#lines(dir .. "/calls"), 1)
  local now = ok(t:current())
  eq({ now.digest, now.state, now.healthy, now.release }, { digest "a", "deployed", true, 1 })
  ok(t:wait(request("a", 1)))
end)

test("asked again for the same release it does nothing", function()
  local t, dir, _, again = stage(PUT)
  ok(t:apply(request("a", 1)))
  ok(again():apply(request("a", 1)))
  eq(#lines(dir .. "/calls"), 2)
  ok(again():apply(request("a", 2)))
  eq(#lines(dir .. "/calls"), 4)
end)

test("a restored release has its versions from its image", function()
  local t, dir = stage(PUT)
  local r = request("a", 1, { restored = true })
  r.versions = nil
  ok(t:apply(r))
  has(table.concat(lines(dir .. "/env"), "\n"), "API_VERSION=1.2.3\n")
  has(table.concat(lines(dir .. "/env"), "\n"), "WEB_APP_VERSION=2.0.0")
end)

test("untracked releases go, apps are chosen and flags are added only when the configuration says so", function()
  local t, dir = stage(PUT, {
    keep_untracked = false, only = { "api", "web" }, flags = { "-p=4", "-update-deps" }, override_context = true,
    command = { "helmsman", "-verbose" },
  })
  ok(t:apply(request("a", 1)))
  has(lines(dir .. "/calls")[2], "-verbose -no-banner -no-color -no-fancy -apply -context-override=shop -f=")
  has(lines(dir .. "/calls")[2], ".yaml -target=api -target=web -p=4 -update-deps")
  t.config.only, t.config.groups = {}, { "back" }
  ok(t:apply(request("a", 2)))
  has(lines(dir .. "/calls")[4], " -group=back ")
end)

test("a secret of the configuration reaches helmsman, and no log and no error", function()
  local dir = lab.dir("secret")
  lab.write(dir .. "/token", "canary-of-helmsman\n")
  local t, where = stage([[fatal("denied for $ENV{TOKEN}");]], {})
  t.config.env.TOKEN = secret.new("file", dir .. "/token")
  local err = fails("failed", t:apply(request("a", 1)))
  has(table.concat(lines(where .. "/env"), "\n"), "TOKEN=canary-of-helmsman")
  has(err.message, "denied for ")
  eq(err.message:find("canary", 1, true), nil)
end)

-- ---- what is not a plan ----

test("a status of 2 without a plan is no plan: Go's flag package ends so, too", function()
  local t, dir = stage [[
    print STDERR "flag provided but not defined: -keep-untracked-releases\nUsage of helmsman:\n"; exit 2;]]
  local err = fails("unsupported", t:apply(request("a", 1)))
  has(err.message, "does not know the flag -keep-untracked-releases")
  eq(#lines(dir .. "/calls"), 1)
  t = stage [[say_at('NOTICE', '-------- PLAN starts here --------------'); exit 2;]] -- cut off
  fails("failed", t:apply(request("a", 1)))
  t = stage [[exit 0;]]
  has(fails("failed", t:apply(request("a", 1))).message, "exit status 0 and said nothing")
end)

test("a helmsman that is missing, hangs or is killed is named; what it did is not known", function()
  local t = stage(PUT, { command = { "no-such-helmsman" } })
  has(fails("not_found", t:apply(request("a", 1))).message, "helmsman must be in PATH")
  t = stage([[sleep 30;]], { timeout = 1 })
  fails("timeout", t:apply(request("a", 1)))
  local dir
  t, dir = stage [[plan('Release [ api ] in namespace [ shop ] will be installed using version [ 1 ]');
    exit 2 if $plan; kill 'KILL', $$;]]
  has(fails("failed", t:apply(request("a", 1))).message, "SIGKILL")
  local memory = ok(json.decode(fs.read(t.memory)))
  eq({ memory.underway.release, memory.underway.plan[1].release, memory.applied }, { 1, "api", nil })
  eq(#lines(dir .. "/calls"), 2)
end)

test("a failed apply leaves what was known before", function()
  local t, _, api = stage [[
    plan('Release [ api ] will be upgraded'); exit 2 if $plan;
    exit 0 if $ENV{RELEASE} == 1;
    say_at('ERROR', 'command for release [api] returned [ 1 ] exit code and error message [ Error: UPGRADE FAILED:'
      . ' cannot patch "api": spec.replicas: Invalid value ]');
    fatal('Plan execution failed');]]
  kubeapi.release(api, { namespace = "shop", name = "api", revision = 1, status = "deployed", context = "shop" })
  ok(t:apply(request("a", 1)))
  local err = fails("failed", t:apply(request("b", 2)))
  has(err.message, 'release api failed: UPGRADE FAILED: cannot patch "api": spec.replicas: Invalid value')
  eq(t:current().digest, digest "a")
  eq(json.decode(fs.read(t.memory)).underway, nil)
end)

-- ---- one at a time ----

test("two runs of one context follow each other; another context does not wait", function()
  local body = [[plan('Release [ api ] will be upgraded'); exit 2 if $plan; open $f, '>>', "$dir/order";
    syswrite $f, "begin $ENV{RELEASE}\n"; select undef, undef, undef, 0.4; syswrite $f, "end $ENV{RELEASE}\n"; exit 0;]]
  local t, dir = stage(body)
  local first = task.spawn(function() return t:apply(request("a", 1)) end)
  local second = task.spawn(function() return t:apply(request("b", 2)) end)
  ok(first:join())
  ok(second:join())
  eq(lines(dir .. "/order"), { "begin 1", "end 1", "begin 2", "end 2" })
  local u = stage([[plan('x'); exit 2 if $plan; sleep 600; exit 0;]], { context = "other" })
  local v = stage([[plan('x'); exit 2 if $plan; exit 0;]], { context = "third" })
  local slow = task.spawn(function() return u:apply(request("a", 1)) end)
  ok(v:apply(request("a", 1)))
  eq(slow:done(), false)
  slow:cancel()
end)

test("who waits too long for another run of the context gives up as busy", function()
  local t = stage([[plan('x'); exit 2 if $plan; sleep 600; exit 0;]], { timeout = 100 })
  local u = stage(PUT, { timeout = 0.3 })
  local slow = task.spawn(function() return t:apply(request("a", 1)) end)
  check.eventually(function() return fs.exists(t.memory) end)
  has(fails("busy", u:apply(request("a", 1))).message, "another run works on context shop")
  slow:cancel()
end)

test("a Job of the context elsewhere is waited for, then told of", function()
  local t, dir, api = stage(PUT, { timeout = 8 })
  local path = "/apis/batch/v1/namespaces/tools/jobs/helmsman-other-1-apply-12345678"
  api.objects[path] = { metadata = { name = "helmsman-other-1-apply-12345678", namespace = "tools",
    labels = { ["moontide.dev/helmsman-context"] = "shop" } } }
  local err = fails("busy", t:apply(request("a", 1)))
  has(err.message, "the Job tools/helmsman-other-1-apply-12345678 works on context shop")
  eq(#lines(dir .. "/calls"), 0)
  api.objects[path].status = { conditions = { { type = "Complete", status = "True" } } }
  ok(t:apply(request("a", 1)))
end)

test("a pending release of somebody else is told of, with the way out", function()
  local t, dir, api = stage(PUT)
  kubeapi.release(api, { namespace = "shop", name = "api", revision = 4, status = "deployed", context = "shop" })
  kubeapi.release(api, { namespace = "shop", name = "api", revision = 5, status = "pending-upgrade", context = "shop" })
  local err = fails("busy", t:apply(request("a", 1)))
  has(err.message, "release api in namespace shop is in the middle of an operation (pending-upgrade since 2026-11-23")
  has(err.message, "helm rollback api 4 -n shop")
  eq(#lines(dir .. "/calls"), 0)
end)

-- ---- after a death ----

-- What a killed helmsman leaves: our note that it was under way, and what `releases` say.
local function died(t, api, plan, releases)
  ok(fs.mkdir(t.cfg.state .. "/helmsman", { parents = true }))
  ok(fs.write(t.memory, json.encode { underway = { release = 1, act = "apply", at = 1, plan = plan } }))
  for _, r in ipairs(releases) do kubeapi.release(api, r) end
end

local HELM <const> = [[select undef, undef, undef, 0.2; exit 0;]]

test("a first installation that was killed half-way is finished from its record and taken into the context", function()
  local t, dir, api = stage(PUT, nil, HELM)
  died(t, api, { { action = "install", release = "api", namespace = "shop" } },
    { { namespace = "shop", name = "api", revision = 1, status = "pending-install" } })
  local works <close> = task.spawn(function() -- what helm's rollback does
    check.eventually(function() return fs.exists(dir .. "/helm") end)
    kubeapi.release(api, { namespace = "shop", name = "api", revision = 2, status = "deployed" })
  end)
  ok(works)
  ok(t:apply(request("a", 1)))
  eq(lines(dir .. "/helm"), { "rollback api 1 --namespace shop" })
  local labels = api.objects["/api/v1/namespaces/shop/secrets/sh.helm.release.v1.api.v2"].metadata.labels
  eq({ labels.HELMSMAN_CONTEXT, labels["MANAGED-BY"], labels.NAMESPACE }, { "shop", "HELMSMAN", "shop" })
  eq(#lines(dir .. "/calls"), 2)
end)

test("an upgrade that was killed half-way goes back to what was whole; a finished one is left alone", function()
  local t, dir, api = stage(PUT, nil, HELM)
  died(t, api, {
    { action = "upgrade", release = "api" }, { action = "upgrade", release = "web" },
    { action = "keep", release = "db" },
  }, {
    { namespace = "shop", name = "api", revision = 6, status = "superseded", context = "shop" },
    { namespace = "shop", name = "api", revision = 7, status = "deployed", context = "shop" },
    { namespace = "shop", name = "api", revision = 8, status = "pending-upgrade", context = "shop" },
    { namespace = "shop", name = "web", revision = 2, status = "deployed", context = "shop" },
  })
  t.pending_wait = 0
  fails("busy", t:apply(request("a", 1))) -- our fake helm changes nothing: it is still pending afterwards
  eq(lines(dir .. "/helm"), { "rollback api 7 --namespace shop" })
end)

test("a removal that was killed half-way is repeated", function()
  local t, dir, api = stage(PUT, nil, HELM)
  died(t, api, { { action = "delete", release = "api", namespace = "shop" } },
    { { namespace = "shop", name = "api", revision = 1, status = "uninstalling", context = "shop" } })
  fails("busy", t:apply(request("a", 1)))
  eq(lines(dir .. "/helm"), { "uninstall api --namespace shop" })
end)

test("what was put right by a helm that fails is told in its words", function()
  local t, _, api = stage(PUT, nil, [[print STDERR "Error: Kubernetes cluster unreachable: refused\n"; exit 1;]])
  died(t, api, { { action = "install", release = "api", namespace = "shop" } },
    { { namespace = "shop", name = "api", revision = 1, status = "pending-install" } })
  fails("unreachable", t:apply(request("a", 1)))
end)

-- ---- what runs ----

test("current is what the releases say: nothing, ours, somebody else's, ill", function()
  local t, _, api = stage(PUT)
  eq({ t:current() }, {})
  kubeapi.release(api, { namespace = "shop", name = "api", revision = 1, status = "deployed", context = "shop" })
  kubeapi.release(api, { namespace = "shop", name = "foreign", revision = 1, status = "failed", context = "else" })
  eq(t:current(), { state = "deployed", healthy = true }) -- not known to us
  ok(t:apply(request("a", 1)))
  eq(t:current().digest, digest "a")
  kubeapi.release(api, { namespace = "shop", name = "api", revision = 2, status = "failed", context = "shop" })
  local now = t:current()
  eq({ now.digest, now.healthy }, { nil, false })
  has(now.state, "shop/api was changed by somebody else; release api in namespace shop is failed")
  has(fails("unhealthy", t:wait(request("a", 1))).message, "release api in namespace shop is failed")
end)

test("a host without notes takes over what runs, when that is all of the app's charts", function()
  local t, _, api = stage(PUT)
  t.cfg.apps = { web = { charts = { api = {}, front = { chart = "frontend" } } } }
  kubeapi.release(api, { namespace = "shop", name = "api", revision = 3, status = "deployed", context = "shop",
    chart = "api-chart 1.2.3" })
  eq(t:current(), { state = "deployed", healthy = true }) -- one of two
  kubeapi.release(api, { namespace = "shop", name = "shop-front", revision = 1, status = "deployed", context = "shop",
    chart = "frontend 2.0.0" })
  local now = ok(t:current())
  eq({ now.version, now.image }, { "api=1.2.3 front=2.0.0", "api=1.2.3 front=2.0.0" })
  eq(now.digest, require("extensions.charts.bundle").make({ { name = "api", version = "1.2.3" },
    { name = "front", version = "2.0.0" } }).digest)
  for _, broken in ipairs { "", "AAAA", require("hash").base64("no gzip") } do
    api.objects["/api/v1/namespaces/shop/secrets/sh.helm.release.v1.api.v3"].data = { release = broken }
    eq(t:current(), { state = "deployed", healthy = true })
  end
end)

test("who may not look at secrets knows what was applied, and helmsman sees for itself", function()
  local t, _, api = stage(PUT)
  api.denied = "secrets"
  eq({ t:current() }, {})
  ok(t:apply(request("a", 1)))
  ok(t:wait(request("a", 1)))
  eq(t:current(), { state = "applied", digest = digest "a", image = request("a", 1).image, version = "api=1.2.3",
    release = 1 })
end)

test("a cluster that cannot be reached is an error, not an empty cluster", function()
  local t = stage(PUT)
  t.cfg.clusters.lab = { kubeconfig = lab.write(lab.dir "gone" .. "/kubeconfig", json.encode {
    ["current-context"] = "x", contexts = { { name = "x", context = { cluster = "x", user = "x" } } },
    clusters = { { name = "x", cluster = { server = "http://127.0.0.1:" .. lab.port() } } },
    users = { { name = "x", user = { token = "token" } } },
  }) }
  fails("refused", t:current())
end)

test("a torn memory is nothing known, not an error", function()
  local t = stage(PUT)
  ok(t:apply(request("a", 1)))
  ok(fs.write(t.memory, '{"app'))
  eq({ t:current() }, {})
  ok(t:apply(request("b", 2)))
end)

-- ---- down ----

test("destroy plans, takes down and forgets", function()
  local t, dir, api = stage [[
    if ($destroy) { plan('Release [ api ] in namespace [ shop ] will be DELETED (destroy flag enabled).'); }
    exit($plan ? 2 : 0) if $destroy;
    plan('Release [ api ] will be upgraded'); exit($plan ? 2 : 0);]]
  kubeapi.release(api, { namespace = "shop", name = "api", revision = 1, status = "deployed", context = "shop" })
  ok(t:apply(request("a", 1)))
  ok(t:destroy { release = 2 })
  local calls = lines(dir .. "/calls")
  has(calls[3], "-destroy -dry-run -skip-validation -detailed-exit-code -keep-untracked-releases")
  has(calls[4], "-no-fancy -destroy -skip-validation -keep-untracked-releases")
  eq(json.decode(fs.read(t.memory)).applied, nil)
end)

-- ---- words ----

test("every failure has its code and says what to do", function()
  local function said(level, words) return ("2026-11-23 19:21:56 %s: %s\n"):format(level, words) end
  local function is(code, part, text)
    local err = output.failure(text, "exit status 1", {})
    eq(err.code, code, text)
    has(err.message, part)
  end
  is("busy", "release api in namespace shop is in the middle", said("CRITICAL", "Release [ api ] in"
    .. " namespace [ shop ] is in a"
    .. " pending (install/upgrade/rollback or uninstalling) state. This means application is being"
    .. " operated on outside of this"
    .. " Helmsman invocation's scope.Exiting, as this may cause issues when continuing..."))
  is("busy", "release api is in the middle", said("ERROR", "command for release [api] returned [ 1 ]"
    .. " exit code and error message"
    .. " [ Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress ]")
    .. said("CRITICAL", "Plan execution failed"))
  is("conflict", "belongs to another context", said("CRITICAL", "Release [ api ] in namespace [ shop ]"
    .. " already exists but is not"
    .. " managed by the current context. Applying changes will likely cause conflicts. Change the"
    .. " release name or namespace."))
  is("conflict", 'release web: helmsman-1/web was changed by somebody else (kubectl-patch owns .data.text)',
    said("ERROR", "command for release [web] returned [ 1 ] exit code and error message [ Error: UPGRADE FAILED:"
      .. " conflict occurred while applying object helmsman-1/web /v1, Kind=ConfigMap: Apply failed with 1 conflict:"
      .. ' conflict with "kubectl-patch" using v1: .data.text ]'))
  is("invalid", "has no version >=9", said("ERROR", "chart [ r/api ] with version [ >=9 ] was found"
    .. " with a mismatched version: 1.0.0")
    .. said("CRITICAL", "chart validation failed"))
  is("invalid", '"staging" is no version', said("ERROR", "improper constraint: staging"))
  is("invalid", "wants a comma between two bounds", said("ERROR", "improper constraint: >=2.2.3 <4"))
  is("unsupported", "helm's diff plugin", said("CRITICAL", 'command failed: error: the namespace from the provided'
    .. ' object "staging" does not match the namespace "tools". You must pass \'--namespace=staging\' to perform this'
    .. " operation."))
  is("not_found", "there is no chart r/api of version 9.9.9", said("ERROR", "chart [ r/api ] version ["
    .. " 9.9.9 ] can't be found. If"
    .. ' this is not a local chart, add the repo [ r ] in your helmRepos stanza. Error output: Error:'
    .. ' chart "api" matching 9.9.9'
    .. " not found in r index. (try 'helm repo update'): no chart version found for api-9.9.9"))
  is("unreachable", "the repository of chart oci://h/api cannot be reached", said("ERROR", "chart ["
    .. " oci://h/api ] version [ 1.0.0 ]"
    .. " can't be found. If this is not a local chart, add the repo [ h ] in your helmRepos stanza."
    .. " Error output: Error: dial tcp"
    .. " 127.0.0.1:1: connect: connection refused"))
  is("unreachable", "the cluster cannot be reached", said("CRITICAL", "after 3 attempts of Listing all"
    .. " existing releases in [ shop ]"
    .. " namespace, it failed with: Error: Kubernetes cluster unreachable: Get"
    .. " \"https://127.0.0.1:1/version\": refused"))
  is("unreachable", "the cluster cannot be reached", said("CRITICAL", "The connection to the server"
    .. " 127.0.0.1:1 was refused - did you"
    .. " specify the right host or port?"))
  is("denied", 'cannot list resource "secrets"', said("CRITICAL", 'Error: list: failed to list: secrets'
    .. ' is forbidden: User "me"'
    .. ' cannot list resource "secrets" in API group "" in the namespace "shop"'))
  is("unauthorized", "credentials", said("CRITICAL", "error: You must be logged in to the server"
    .. " (Unauthorized)"))
  is("invalid", "a desired state file uses $API_VERSION, which is not set", said("CRITICAL", "error"
    .. " building the state from files:"
    .. " $API_VERSION is used as an env variable but is currently unset. Either set it or escape it"
    .. " like so: $$API_VERSION"))
  is("invalid", "cannot be read: yaml: line 3", said("CRITICAL", "error building the state from files:"
    .. " yaml: line 3: did not find"))
  is("invalid", "apps validation failed -- for app [api ]. version can't be empty",
    said("CRITICAL", "apps validation failed -- for app [api ]. version can't be empty"))
  is("not_found", "helmsman needs kubectl", said("CRITICAL", "kubectl is not installed/configured"
    .. " correctly. Aborting!"))
  is("not_found", "helmsman needs helm's diff plugin", said("CRITICAL", "helm diff plugin is not installed/configured"
    .. " correctly. Aborting!"))
  is("not_found", "there is no /srv/charts/api that helmsman can read", said("ERROR", "could not stat /srv/charts/api"))
  is("not_found", "there is no /srv/charts/api that", said("CRITICAL", "apps validation failed -- for app [api ]."
    .. " could not stat /srv/charts/api: stat /srv/charts/api: no such file or directory"))
  is("denied", "there is no /srv/values.yaml that", said("CRITICAL", "apps validation failed -- for app [api ]. invalid"
    .. " values file: could not stat /srv/values.yaml: stat /srv/values.yaml: permission denied"))
  is("unhealthy", "release api: UPGRADE FAILED: context deadline exceeded", said("ERROR", "command for"
    .. " release [api] returned [ 1 ]"
    .. " exit code and error message [ Error: UPGRADE FAILED: context deadline exceeded ]"))
  is("failed", "something new", said("CRITICAL", "something new"))
  is("failed", "it said: only words", "only words\n")
end)

test("a plan is read whatever stands around it", function()
  local text = "banner\n\27[35m2026-11-23 19:21:56 NOTICE: -------- PLAN starts here --------------\27[0m\n"
  for _, words in ipairs {
    "Release [ a ] in namespace [ n ] will be installed using version [ 0.1.0 ]", "Release [ b ] will"
      .. " be upgraded",
    "Release [ c ] installed and up-to-date", "Release [ d ] in namespace [ n ] ignored",
    "Untracked release [ e ] found and it will be deleted", "Release [ f ] in namespace [ n ]is disabled",
    "Release [ g ] in namespace [ n ] is PROTECTED. Operations are not allowed on this release until"
      .. " protection is removed.",
  } do text = text .. ("2026-11-23 19:21:56 INFO: %s -- priority: -3\n"):format(words) end
  local plan = plans.read(text)
  eq(plan.complete, false)
  plan = plans.read(text .. "2026-11-23 19:21:56 NOTICE: -------- PLAN ends here --------------\n")
  eq(plan.complete, true)
  eq(plan.changes, 3)
  eq(plans.words(plan), "1 to install (a), 1 to upgrade (b), 1 to delete (e), 3 as they should be, 1 ignored")
  eq({ plan.decisions[1].namespace, plan.decisions[1].version }, { "n", "0.1.0" })
end)

test("a plan in words does not depend on helmsman's order, which is another each time", function()
  local function words(...)
    local list = {}
    for i, name in ipairs { ... } do list[i] = { action = "install", release = name } end
    return plans.words { complete = true, changes = #list, decisions = list }
  end
  eq(words("web", "api"), "2 to install (api, web)")
  eq(words("g", "b", "f", "c", "e", "a", "d"), "7 to install (a, b, c, d, e, ...)")
end)

test("labels of a release that anybody may have written break nothing", function()
  local function seen(labels)
    labels.name, labels.version, labels.status = "api", "3", "pending-upgrade"
    local object = { metadata = { name = "sh.helm.release.v1.api.v3", namespace = "shop", labels = labels } }
    local client = { list = function(_, _, _, options) return { items = { options.keep(object) } } end }
    local r = ok(require("extensions.helmsman.releases").of_context(client, "web", {}))[1]
    ok(time.iso(r.at))
    return r.at
  end
  eq(seen { modifiedAt = "1795000000" }, 1795000000)
  for _, odd in ipairs { ("9"):rep(17), "1e300", "-5", "1.5", "x", "0x7fffffffffffffff" } do
    eq(seen { modifiedAt = odd }, 0)
  end
end)

test("flags are read as Go reads them, and ours are not for others to give", function()
  eq(flags.parse { "--apply", "-f", "a.yaml", "-p=4", "-debug=false" }, {
    { name = "apply", value = true }, { name = "f", value = "a.yaml" }, { name = "p", value = "4" },
    { name = "debug", value = false },
  })
  for words, part in pairs {
    ["-aply"] = "no flag -aply", ["-p=x"] = "needs a number", ["-f"] = "needs a value", ["word"] = "is no flag",
    ["-apply=maybe"] = "is a switch", ["--"] = "is no flag",
  } do
    local list, wrong = flags.parse { words }
    eq(list, nil)
    has(wrong, part)
  end
  eq(select(2, flags.check { "-debugg" }), "did you mean -debug?")
  has(flags.check { "-debug" }, "secrets")
  has(flags.check { "-destroy" }, "moontide destroy")
  eq(flags.check { "-p", "4", "-no-update", "-e=/env" }, nil)
  eq(errors.is(nil), false)
end)
