-- Every key of a configuration: what it means, what it may be, what it is when it is left out.
--
-- This is the one place, with shapes.lua and targets.lua below it, and what extensions add. load.lua checks by it,
-- `moontide help config` and config/manual/config.md print it.

local builder = require "config.builder"
local checks = require "config.checks"
local extensions = require "extensions"
local health = require "engine.health"
local names = require "config.names"
local s = require "base.schema"
local secret = require "config.secret"
local settings = require "policy.settings"
local shapes = require "config.shapes"

local with, text, is, plain, host_key = shapes.with, shapes.text, shapes.is, shapes.plain, shapes.host_key
local file, folder_path, inside = shapes.file, shapes.folder_path, shapes.inside
local url, plain_env = shapes.url, shapes.plain_env

local M = {}

-- ---- what extensions add ----

-- One of the kinds that extensions add.
local function kinds(kind, options)
  local list = {}
  for i, entry in ipairs(extensions.all(kind)) do
    list[i] = { entry.name, function() return extensions.shape(entry) end }
  end
  return s.variant(list, options)
end

-- The keys of some kinds that have one of their names, in a list of others.
local function fields(list)
  local flat = {}
  for _, item in ipairs(list) do
    if type(item[2]) == "table" then
      flat[#flat + 1] = item
    else
      for _, kind in ipairs(item) do
        for _, entry in ipairs(extensions.all(kind)) do
          if entry.key then flat[#flat + 1] = { entry.name, extensions.key(entry) } end
        end
      end
    end
  end
  return flat
end

local function names_of(kind)
  local list = {}
  for _, entry in ipairs(extensions.all(kind)) do
    if entry.key then list[#list + 1] = kind == "finder" and ("`%s`"):format(entry.name) or entry.name end
  end
  return table.concat(list, " or ")
end

-- Version policies that sources have of their own.
local function accepts()
  local words = ""
  for _, source in ipairs(extensions.all "source") do
    if source.accepts then words = ("%s; of %s also %s"):format(words, source.name, source.accepts.doc) end
  end
  return words
end

-- ---- who to talk to ----

local function needs_user(value, at)
  if value.password and not value.username then
    return at:fault("has a password but no username", 'username = "..."')
  end
  if value.username and not value.password then
    return at:fault("has a username but no password", 'password = { env = "NAME" }')
  end
  return value
end

local registry = s.record({
  { "username", text("Who we are there. Left out: anonymous.") },
  { "password", secret.shape { doc = "Password or token of that user." } },
  { "ca", file "CA certificate (PEM) of a registry with its own authority." },
  { "plain_http", s.boolean { doc = "Speak http instead of https.", default = false } },
  { "realm", url("Token service of a registry that speaks plain http, when it has another address than the registry:"
    .. " passwords go nowhere else.") },
  { "delete", s.boolean { doc = "Delete the images of releases that are no longer kept (`retention.images`) from it,"
    .. " with the tags that Moontide gave them. One with any other tag stays.", default = false } },
}, { plural = "registries", verify = needs_user })

local credential = s.record({
  { "username", text("Who we are there.") },
  { "password", secret.shape { doc = "Password or access token of that user." } },
  { "ca", file "CA certificate (PEM) of a git server with its own authority." },
}, { plural = "credentials", verify = needs_user })

local cluster = s.record({
  { "kubeconfig", file "Kubeconfig of the cluster. Left out: the cluster this pod runs in, else $KUBECONFIG." },
  { "context", text("Context of the kubeconfig. Default: its current one.") },
  { "namespace", text("Namespace of what names none. Default: the pod's own or the context's.",
    { what = "a namespace", verify = with(names.namespace) }) },
}, { plural = "clusters" })

-- A target of a list of them: its name, and the keys of its kind. The name is not the kind's own `name`.
local function part()
  local target, name = kinds("target", {}), text("Name of this part.", {
    required = true, verify = with(names.plain), example = '"eu"' })
  return s.custom {
    what = "a target with a name", plural = "targets, each with a name",
    fields = {
      { "name", name },
      { "kind", text("Its kind, with the keys of `target` but for `name`.", { required = true }) },
    },
    accept = function(_, value, at)
      if type(value) ~= "table" then return target:check(value, at) end
      local keys = {}
      for key, given in next, value do keys[key] = given end
      keys.name = nil
      return { name = name:check(rawget(value, "name"), at:child "name"), target = target:check(keys, at) }
    end,
  }
end

local function new_environment()
  return s.record({
    { "policy", text("Policy that decides what runs here: a file in scripts/. Default: the environment's name.") },
    { "rollback", s.either({
      { is "boolean", s.off() }, { is "string", s.text() },
    }, { doc = "Policy that reacts to a bad release; false for none.", default = "rollback" }) },
    { "accept", text("Which versions may follow the present one: all, major, minor, patch, force, range:RANGE,"
      .. " glob:PATTERN or regexp:PATTERN" .. accepts() .. ".", {
      default = "major", what = "a version policy", verify = with(names.accept) }) },
    { "match_prerelease", s.boolean {
      doc = "A pre-release may only follow one with the same label.", default = true } },
    { "watch_for", s.duration { doc = health.WATCHED, default = "5m" } },
    { "host", text("Host name where people find it.", { what = "a host", verify = with(names.host) }) },
    { "notify", s.list(s.text { plural = "notifier names" }, { doc = "Notifiers of its releases.", default = {} }) },
    { "target", kinds("target", { doc = "Where it runs. Needed, unless it has `targets`." }) },
    { "targets", s.list(part(), { doc = "Several targets instead of one, its parts: a release goes to one after"
      .. " another, in this order, and is live when all have it (`moontide help canary`).", min = 1, max = 100 }) },
    { "verify", s.list(checks.shape(), { doc = "What a release must pass, in order.", default = {}, max = 50 }) },
    { "settings", settings.key("What its policies read as `place.settings` and `run.settings`: a free table, over that"
      .. " of the app. A policy may declare what it takes.") },
    { "branches", s.either({
      { is "string", s.text() }, { is "table", s.list(s.text { plural = "patterns" }, { min = 1, max = 100 }) },
    }, { plural = "patterns", doc = "Patterns of branches, such as \"feature/*\": each branch that matches has a place"
      .. " of its own; texts may hold {place} and {branch} (`moontide help previews`)." }) },
    { "at_most", s.integer { doc = "With `branches`: so many places at once.", default = 20, min = 1, max = 1000 } },
    { "keep_for", s.duration { doc = "With `branches`: how long a place stays when its branch is gone.",
      default = "10m" } },
    { "protected", s.boolean {
      doc = "No order takes it down. Default: true for an environment that is called production." } },
  }, { plural = "environments" })
end

-- ---- apps ----

local function new_source()
  return s.either({
    { is "string", s.text { what = "the address of a git repository", verify = function(value, at)
      local wrong, suggestion = names.git_url(value)
      if wrong then return at:fault(wrong, suggestion) end
      return { url = value, github = names.github(value) }
    end } },
    { is "table", s.record({
      { "url", text("Address of the git repository.", { required = true, verify = with(names.git_url) }) },
      { "github", text("owner/repository, when commits get a status on GitHub. Default: from the address.", {
        verify = function(value, at)
          if not value:find("^[%w-]+/[%w._-]+$") then return at:fault("is not owner/repository") end
          return value
        end,
      }) },
    }, { verify = function(value)
      value.github = value.github or names.github(value.url)
      return value
    end }) },
  }, {
    doc = "Git repository: https, http, ssh or file address, git@host:path, or a folder. Needed, unless it has "
      .. names_of "source" .. ".",
    example = '"https://github.com/team/web.git"',
  })
end

local function new_app(environment)
  return s.record(fields {
    { "source", new_source() },
    { "branch", text("Branch that staging follows.", {
      default = "main", what = "a branch name", verify = with(names.branch) }) },
    { "image", text("Image repository, with registry, without tag. Needed, unless it has "
      .. names_of "source" .. ".", {
      what = "an image repository", verify = with(names.image), example = '"ghcr.io/team/web"' }) },
    { "dockerfile", inside("Dockerfile in the checkout.", "Dockerfile") },
    { "context", inside("Build context in the checkout.", ".") },
    { "lfs", s.either({
      { is "boolean", s.boolean() }, { is "string", url() },
    }, {
      doc = "Fetch files of Git LFS into build contexts, charts and manifests: `true`, or the address of the LFS "
        .. "server where it is not the repository's own. Without it they are pointers, and the run's log says so.",
      default = false, what = "true, false or an address",
    }) },
    { "submodules", s.boolean { doc = "Fetch submodules into build contexts, charts and manifests: from the "
      .. "repository's own server with its credentials, from elsewhere over HTTP without any. Without it they are "
      .. "empty folders, and the run's log says so.", default = false } },
    { "build", s.record({
      { "args", plain_env "Build arguments. They stay visible in the image: no secrets." },
      { "target", text("Stage of the Dockerfile to build.") },
      { "timeout", s.duration { doc = "Time for one build.", default = "30m", min = 1 } },
    }, { doc = "How the image is built.", default = {} }) },
    { "source", "app_key" },
    { "env", s.list(s.text { plural = "names of variables", what = "a name of a variable", verify = function(value, at)
      if not value:find("^[%a_][%w_]*$") then return at:fault("is no name of a variable") end
      return value
    end }, { doc = "Names of variables of the host that commands of its policies (`proc.run`) get, beside PATH and "
      .. "LANG.", default = {} }) },
    { "poll", s.duration { doc = "How often to look. Default: the poll of the host.", min = 0.1, max = 86400 } },
    { "settings", settings.key("Settings of all its environments: tables in both are merged, else the environment's"
      .. " counts.") },
    { "environments", s.map(plain, environment, { doc = "Where it runs.", required = true, name = "ENV",
      example = '{ staging = { policy = "staging", target = { kind = "docker" } } }' }) },
  }, { plural = "apps" })
end

-- ---- several hosts ----

local retry_factor <const> = 1.2 -- as client-go has it: a retry comes up to this much later

local leader = s.record({
  { "cluster", text("Cluster whose Lease says who acts: a name in `clusters`.", { default = "default" }) },
  { "namespace", text("Namespace of the Lease. Default: the pod's own, or that of the cluster.",
    { what = "a namespace", verify = with(names.namespace) }) },
  { "lease", text("Name of the Lease.", { default = "moontide", what = "a name", verify = with(names.lease) }) },
  { "identity", text("Name of this host among the others. Default: the machine's.",
    { what = "a name", verify = with(names.host) }) },
  { "duration", s.duration { doc = "How long the others wait for a host that is silent.", default = "15s", min = 1,
    max = 3600 } },
  { "renew", s.duration { doc = "Within which the host must have renewed; else it stops acting.", default = "10s",
    min = 0.5, max = 3600 } },
  { "retry", s.duration { doc = "Time between two attempts.", default = "2s", min = 0.1, max = 600 } },
}, {
  doc = "Several hosts, of which the one that holds a Lease of the cluster acts, and the others stand by. Left out: "
    .. "this host is alone.",
  verify = function(value, at)
    if not (value.duration and value.renew and value.retry) then return value end
    if value.duration <= value.renew then
      return at:child("duration"):fault("must be longer than renew: the others must wait until this host has stopped")
    end
    if value.renew <= value.retry * retry_factor then
      return at:child("renew"):fault("must be longer than 1.2 times retry: there would be one attempt only")
    end
    return value
  end,
})

-- ---- the whole ----

local function new_config()
  local app = new_app(new_environment())
  local whole = s.record(fields {
    { "poll", s.duration { doc = "How often sources are looked at.", default = "30s", min = 0.1, max = 86400 } },
    { "state", folder_path("Folder of the journal and of everything else that is remembered.",
      { default = "/var/lib/moontide" }) },
    { "control_group", text("Group whose members may use the control socket, too: they are operators. Its folder then "
      .. "belongs to that group with mode 0750, so give `control` a folder of its own, such as "
      .. "/run/moontide/control.sock. Default: only the host's own user and root.", { what = "a group" }) },
    { "control", text("Path of the control socket. Default: control.sock in the state folder; with `leader`, "
      .. "control-NAME.sock.", { what = "the path of a socket",
      verify = function(value, at) return at.source.resolve(value) end }) },
    { "leader", leader },
    { "scripts", folder_path "Folder of policies. Default: those inside the program." },
    { "extensions", folder_path("Folder of extensions (`moontide help extensions`): its *.lua files are code of the"
      .. " program, with all its rights. Default: none.") },
    { "watch", s.boolean { doc = "Load configuration and scripts by itself when they are saved. false: only by "
      .. "`moontide reload` and SIGHUP.", default = true } },
    { "listen", text('Address for health checks and metrics: "127.0.0.1:8420". Left out: none.', {
      what = "address:port",
      verify = function(value, at)
        local address, digits = value:match("^(.*):(%d+)$")
        local number = names.port(digits)
        if not number or address == "" or names.host(address) then
          return at:fault("is not address:port", 'for example "127.0.0.1:8420"')
        end
        return { address = address:match("^%[(.*)%]$") or address, port = number }
      end,
    }) },
    { "api", s.record({
      { "token", secret.shape {
        doc = "Gives the right to order runs and to read: POST /apply, GET /jobs and the like.", required = true } },
      { "hosts", s.list(s.text { plural = "host names", verify = with(names.host) }, {
        doc = "Names under which clients may reach it, beside addresses and localhost.",
        default = {} }) },
    }, { doc = "The API on `listen` for scripts and pipelines. Left out: closed." }) },
    { "hosts", s.list(s.text { what = "a host", verify = with(names.host), plural = "hosts" },
      { doc = "Names by which people and probes reach `listen`, beside addresses and localhost.", default = {} }) },
    { "registries", s.map(host_key, registry, { doc = "How to log in to image registries.", default = {},
      name = "HOST" }) },
    { "credentials", s.map(host_key, credential, { doc = "How to log in to git servers.", default = {},
      name = "HOST" }) },
    { "key" },
    { "clusters", s.map(plain, cluster, { doc = "Kubernetes clusters. `default` is there without being named.",
      default = {}, name = "CLUSTER" }) },
    { "github", s.record({
      { "api", url("Address of the REST API.", { default = "https://api.github.com" }) },
      { "token", secret.shape { doc = "Token that may read repositories and write commit statuses." } },
    }, { doc = "GitHub's API: attribution, wake-up calls, commit statuses.", default = {} }) },
    { "builder", builder.shape() },
    { "notify", s.map(plain, kinds("notifier", { plural = "notifiers" }), {
      doc = "The notifiers of releases.", default = {}, name = "NAME" }) },
    { "retention", s.record({
      { "runs", s.integer { doc = "Runs to keep for each environment.", default = 500, min = 10, max = 1000000 } },
      { "days", s.integer { doc = "Days to keep them.", default = 90, min = 1, max = 36500 } },
      { "images", s.integer { doc = "Releases of each environment whose images are kept, besides what runs and the good"
        .. " one before it. Older ones are removed from docker and podman, with the build cache that came of them.",
        default = 5, min = 1, max = 1000000 } },
    }, { doc = "How much history is kept.", default = {} }) },
    { "finder" },
    { "apps", s.map(plain, app, {
      doc = "What is delivered. Only " .. names_of "finder" .. " makes it optional.", name = "APP",
      example = '{ web = { source = "https://...", image = "...", environments = { ... } } }' }) },
  }, {})
  return { app = app, whole = whole }
end

local made = setmetatable({}, { __mode = "k" }) ---@type table<Extensions, {app: Shape, whole: Shape}>

local function shapes_now()
  local set = extensions.current()
  made[set] = made[set] or new_config()
  return made[set]
end

---The whole configuration, with what the extensions of this process add.
---@return Shape
function M.config() return shapes_now().whole end

---An app, likewise.
---@return Shape
function M.app() return shapes_now().app end

return M
