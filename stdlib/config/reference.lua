-- Every key of a configuration: what it means, what it may be, what it is when it is left out.
--
-- This is the one place. config.lua checks by it, `moontide help config` and the README's reference print it.

local names = require "config.names"
local s = require "schema"
local secret = require "config.secret"

local M = {}

local function with(check)
  return function(value, at)
    local wrong, suggestion = check(value)
    if wrong then return at:fault(wrong, suggestion) end
    return value
  end
end

local function text(doc, options)
  options = options or {}
  options.doc = doc
  return s.text(options)
end

local function is(kind)
  return function(value) return type(value) == kind end
end

local plain = s.text { verify = with(names.plain) }
local host_key = s.text { what = "host or host:port", verify = with(names.host) }
-- Text for a program. A whole number is what people write for a port; its text is not in doubt.
local argument = s.text { min = 0, multiline = true, plural = "text" }
local accept_text = argument.accept
function argument:accept(value, at)
  if math.type(value) == "integer" then value = tostring(value) end
  local good = accept_text(self, value, at)
  if good and good:find("\0", 1, true) then return at:fault("holds a NUL byte") end
  return good
end
local variable = s.text {
  verify = function(value, at)
    if not value:find("^[%a_][%w_]*$") then return at:fault("is not the name of an environment variable") end
    return value
  end,
}

local function command(doc, options)
  options = options or {}
  options.doc, options.min, options.what = doc, 1, "a list of arguments"
  options.example = options.example or '{ "/usr/bin/program", "argument" }'
  options.hint = "no shell is involved: " .. options.example
  options.verify = function(value, at)
    if value[1] == "" then return at:child(1):fault("must name a program") end
    return value
  end
  return s.list(argument, options)
end

-- A file that must be there now. Relative paths start at the folder of the configuration.
local function file(doc, options)
  options = options or {}
  options.doc, options.what = doc, "the path of a file"
  options.verify = function(value, at)
    local path = at.source.resolve(value)
    local wrong = at.source.missing(path)
    if wrong then return at:fault(wrong) end
    return path
  end
  return s.text(options)
end

local function folder_path(doc, options)
  options = options or {}
  options.doc, options.what = doc, "the path of a folder"
  options.verify = function(value, at) return at.source.resolve(value) end
  return s.text(options)
end

local function inside(doc, default)
  return text(doc, { default = default, what = "a path inside the checkout", verify = with(names.inside) })
end

local function url(doc, options)
  options = options or {}
  options.doc, options.what, options.verify = doc, "an http or https URL", with(names.http_url)
  return s.text(options)
end

local function env_map(doc)
  return s.map(variable, s.either({
    { is "table", secret.shape() }, { function(value) return type(value) ~= "table" end, argument },
  }, { plural = "text or secrets" }), { doc = doc, default = {}, name = "NAME" })
end

local function plain_env(doc)
  return s.map(variable, argument, { doc = doc, default = {}, name = "NAME" })
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
}, { plural = "registries", verify = needs_user })

local credential = s.record({
  { "username", text("Who we are there.") },
  { "password", secret.shape { doc = "Password or access token of that user." } },
  { "ca", file "CA certificate (PEM) of a git server with its own authority." },
}, { plural = "credentials", verify = needs_user })

local function webhook_url(value, at)
  if type(value) ~= "string" then return value end
  if value:find("^https://hooks%.slack%.com/") then
    return at:fault("is a secret: whoever knows this URL can post", 'url = { env = "SLACK_URL" }')
  end
  return value
end

local hook_fields = {
  { "url", s.either({ { is "table", secret.shape() }, { is "string", url() } }, {
    doc = "Where to post. A URL that holds a token is a secret: name its variable or file.",
    required = true, example = '{ env = "HOOK_URL" }', verify = webhook_url,
  }) },
  { "token", secret.shape { doc = "Sent as a bearer token." } },
}

local notifier = s.variant({
  { "slack", s.record(hook_fields, { doc = "A Slack-compatible incoming webhook." }) },
  { "webhook", s.record(hook_fields, { doc = "Any service that takes a JSON event by POST." }) },
}, { plural = "notifiers" })

-- ---- how a release proves itself ----

local within = s.duration { doc = "Time in which it must succeed.", default = "30s", min = 0.1, max = 86400 }
local every = s.duration { doc = "Pause between two attempts.", default = "1s", min = 0.05, max = 3600 }

local probe = s.record({
  { "http", url "Address to ask." },
  { "status", s.integer { doc = "With http: the status to expect. Default 200.", min = 100, max = 599 } },
  { "contains", text("With http: text that the body must hold.") },
  { "command", command "Program that must exit with 0." },
  { "within", within },
  { "every", every },
}, {
  plural = "checks",
  verify = function(value, at)
    if (value.http ~= nil) == (value.command ~= nil) then
      return at:fault("needs either http or command", '{ http = "http://127.0.0.1:8080/", within = "30s" }')
    end
    if value.command and (value.status or value.contains) then
      return at:fault("status and contains belong to http, not to command")
    end
    if value.http then value.status = value.status or 200 end
    return value
  end,
})

-- ---- where a release runs ----

local port = s.text {
  plural = "published ports", what = "a published port",
  verify = function(value, at)
    if not names.published(value) then
      return at:fault("is not a published port", 'for example "8080:80" or "127.0.0.1:8080:80"')
    end
    return value
  end,
}

local size = function(doc)
  return text(doc, {
    what = "a size",
    verify = function(value, at)
      local number, unit = value:match("^(%d+)([kmg]?)$")
      if not number or #number > 12 then return at:fault("is not a size", 'for example "64m" or "1g"') end
      return math.tointeger(tonumber(number)) * ({ [""] = 1, k = 1024, m = 1048576, g = 1073741824 })[unit]
    end,
  })
end

local container_name = with(function(value)
  if not value:find("^[%w][%w_.-]*$") then return "is not a container name" end
end)

M.targets = {
  { "docker", s.record({
    { "name", text("Base name of the container. Default: APP-ENVIRONMENT.", { verify = container_name, max = 100 }) },
    { "socket", text("Socket of the Docker Engine.", { default = "/var/run/docker.sock" }) },
    { "ports", s.list(port, { doc = "Ports to publish.", default = {} }) },
    { "network", text("Network of the container. Default: the engine's.") },
    { "env", env_map "Environment of the container; secrets by reference." },
    { "volumes", s.list(s.text { plural = "text" }, { doc = 'Mounts, "source:/path[:ro]".', default = {} }) },
    { "command", command "Arguments instead of the image's own." },
    { "user", text("User inside the container.") },
    { "memory", size 'Limit, for example "256m".' },
    { "labels", s.map(s.text(), argument, { doc = "Labels of the container.", default = {} }) },
    { "restart", s.choice({ "no", "always", "unless-stopped", "on-failure" },
      { doc = "When the engine starts it again.", default = "unless-stopped" }) },
    { "stop_timeout", s.duration { doc = "Time to stop before it is killed.", default = "10s", max = 3600 } },
    { "timeout", s.duration { doc = "Time for a new container to become healthy.", default = "2m", min = 1 } },
  }, { doc = "A container of the Docker Engine, through its socket." }) },
  { "podman", s.record({
    { "yaml", file("Kubernetes YAML to play; the image in it is replaced by digest.",
      { required = true, example = '"web.yaml"' }) },
    { "container", text("Name of the container that gets the image. Default: the only one.") },
    { "network", text("Network to join.") },
    { "env", plain_env "Environment of the podman command." },
    { "timeout", s.duration { doc = "Time for the pod to run.", default = "2m", min = 1 } },
  }, { doc = "Pods of podman on this machine, through `podman kube play`." }) },
  { "command", s.record({
    { "apply", command("Puts a release in place. IMAGE, DIGEST, COMMIT, VERSION, APP and ENVIRONMENT are in its"
      .. " environment.", { required = true, example = '{ "/srv/deploy", "apply" }' }) },
    { "current", command("Prints the digest that runs, or nothing.") },
    { "wait", command("Exits with 0 when the release runs.") },
    { "cwd", folder_path "Folder to run them in. Default: the configuration's." },
    { "env", env_map "Further environment of the programs." },
    { "timeout", s.duration { doc = "Time for each of them.", default = "10m", min = 1 } },
  }, { doc = "Programs of your own." }) },
}

local environment = s.record({
  { "policy", text("Policy that decides what runs here: a file in scripts/. Default: the environment's name.") },
  { "rollback", s.either({
    { is "boolean", s.off() }, { is "string", s.text() },
  }, { doc = "Policy that reacts to a bad release; false for none.", default = "rollback" }) },
  { "accept", text("Which versions may follow the present one: all, major, minor, patch, force, glob:PATTERN or"
    .. " regexp:PATTERN.", { default = "major", what = "a version policy", verify = with(names.accept) }) },
  { "match_prerelease", s.boolean { doc = "A pre-release may only follow one with the same label.", default = true } },
  { "watch_for", s.duration { doc = "How long its health is watched after a release.", default = "5m" } },
  { "host", text("Host name where people find it.", { what = "a host", verify = with(names.host) }) },
  { "notify", s.list(s.text { plural = "notifier names" }, { doc = "Who hears of its releases.", default = {} }) },
  { "target", s.variant(M.targets, { doc = "Where it runs.", required = true, example = '{ kind = "docker" }' }) },
  { "verify", s.list(probe, { doc = "What a release must pass, in order.", default = {}, max = 50 }) },
}, { plural = "environments" })

-- ---- apps ----

local source = s.either({
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
  doc = "Git repository: https, http, ssh or file address, git@host:path, or a folder.", required = true,
  example = '"https://github.com/team/web.git"',
})

local app = s.record({
  { "source", source },
  { "branch", text("Branch that staging follows.", {
    default = "main", what = "a branch name", verify = with(names.branch) }) },
  { "image", text("Image repository, with registry, without tag.", {
    required = true, what = "an image repository", verify = with(names.image), example = '"ghcr.io/team/web"' }) },
  { "dockerfile", inside("Dockerfile in the checkout.", "Dockerfile") },
  { "context", inside("Build context in the checkout.", ".") },
  { "build", s.record({
    { "args", plain_env "Build arguments. They stay visible in the image: no secrets." },
    { "target", text("Stage of the Dockerfile to build.") },
    { "timeout", s.duration { doc = "Time for one build.", default = "30m", min = 1 } },
  }, { doc = "How the image is built.", default = {} }) },
  { "poll", s.duration { doc = "How often to look. Default: the poll of the host.", min = 0.1, max = 86400 } },
  { "environments", s.map(plain, environment, { doc = "Where it runs.", required = true, name = "ENV",
    example = '{ staging = { policy = "staging", target = { kind = "docker" } } }' }) },
}, { plural = "apps" })

-- ---- the whole ----

M.config = s.record({
  { "poll", s.duration { doc = "How often sources are looked at.", default = "30s", min = 0.1, max = 86400 } },
  { "state", folder_path("Folder of the journal and of everything else that is remembered.",
    { default = "/var/lib/moontide" }) },
  { "scripts", folder_path "Folder of policies. Default: those inside the program." },
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
  { "registries", s.map(host_key, registry, { doc = "How to log in to image registries.", default = {},
    name = "HOST" }) },
  { "credentials", s.map(host_key, credential, { doc = "How to log in to git servers.", default = {},
    name = "HOST" }) },
  { "github", s.record({
    { "api", url("Address of the REST API.", { default = "https://api.github.com" }) },
    { "token", secret.shape { doc = "Token that may read repositories and write commit statuses." } },
  }, { doc = "GitHub's API: attribution, wake-up calls, commit statuses.", default = {} }) },
  { "builder", s.record({
    { "kind", s.choice({ "auto", "docker", "podman", "buildah" },
      { doc = "What builds images; auto takes what it finds.", default = "auto" }) },
    { "socket", text("Socket of the Docker Engine. Default: the engine's own.") },
    { "network", text("Network of build steps.") },
    { "command", command "Program and first arguments instead of the builder's own." },
    { "env", plain_env "Environment of the builder." },
  }, { doc = "What builds images.", default = {} }) },
  { "notify", s.map(plain, notifier, { doc = "Who can be told about releases.", default = {}, name = "NAME" }) },
  { "retention", s.record({
    { "runs", s.integer { doc = "Runs to keep for each environment.", default = 500, min = 10, max = 1000000 } },
    { "days", s.integer { doc = "Days to keep them.", default = 90, min = 1, max = 36500 } },
  }, { doc = "How much history is kept.", default = {} }) },
  { "apps", s.map(plain, app, { doc = "What is delivered.", required = true, name = "APP",
    example = '{ web = { source = "https://...", image = "...", environments = { ... } } }' }) },
}, {})

return M
