-- Grammars of the names that a configuration holds: images, branches, hosts, addresses. Pure functions that
-- say what is wrong in words, so that the schema can report it; no name that passes can be mistaken for an
-- option.
local reference = require "images.reference"

local M = {}

---Checks host[:port], the host a DNS name, an IPv4 address or a bracketed IPv6 address.
---@param text string
---@return string? wrong
function M.host(text)
  local host, port = text:match("^(%[[%x:.]+%])(.*)$")
  if not host then
    host, port = text:match("^([^:]*)(.*)$") ---@cast host string
    if #host > 253 then return "the host is longer than 253 bytes" end
    if not (host .. "."):find("^[%w]") then return "the host must start with a letter or digit" end
    for label in (host .. "."):gmatch("(.-)%.") do
      if #label > 63 or not label:find("^%w[%w_-]*$") or label:find("-$") then
        return "is not a host name or host:port"
      end
    end
  end
  ---@cast port string
  if port ~= "" and not M.port(port:match("^:(%d+)$")) then return "the port must be 1 to 65535" end
  return nil
end

---Reads a port number.
---@param text? string
---@return integer?
function M.port(text)
  local port = text and #text <= 5 and text:find("^%d+$") and math.tointeger(tonumber(text)) or nil
  return port and port >= 1 and port <= 65535 and port or nil
end

---Checks an image repository by the grammar of the OCI distribution specification (no tag, no digest).
---@param image string
---@return string? wrong
---@return string? suggestion
function M.image(image)
  if image:find("^%a+://") then
    return "is not an image name: it has a scheme", ("write %q"):format((image:gsub("^%a+://", "")))
  end
  local bare = image:match("^(.-)@") or image:match("^(.*):[^/:]*$")
  if bare and (image:find("@", 1, true) or image:find(":[^/]*$")) then
    return "must be a repository without tag or digest", ("write %q: tags are moontide's business"):format(bare:lower())
  end
  local registry, repository = reference.host_and_path(image)
  if registry then
    local wrong = M.host(registry)
    if wrong then return "the registry " .. wrong:gsub("^is", "of the image is") end
  end
  if #repository > 255 then return "the repository is longer than 255 bytes" end
  local part = reference.wrong_component(repository)
  if not part then return nil end
  local lower = image:lower()
  return ("%q is not a repository name (lower-case letters, digits, single . _ and -)"):format(part:sub(1, 60)),
    lower ~= image and not M.image(lower) and ("write %q"):format(lower) or nil
end

---Checks a branch name by git's rules (git-check-ref-format) and refuses a leading dash.
---@param branch string
---@return string? wrong
---@return string? suggestion
function M.branch(branch)
  local short = branch:match("^refs/heads/(.+)$")
  if short then return "must be a branch, not a full ref", ("write %q"):format(short) end
  if branch:find("^refs/") then return "must be a branch, not another ref" end
  if #branch > 244 then return "is longer than 244 bytes" end
  if branch:find("^%-") then return "must not start with a dash" end
  if branch:find("[%c\127 ~^:?*%[\\]") then return "holds a character that no branch may hold" end
  if branch == "@" or branch:find("..", 1, true) or branch:find("@{", 1, true) then return "is not a branch name" end
  for part in (branch .. "/"):gmatch("(.-)/") do
    if part == "" then return "has an empty part between slashes" end
    if part:find("^%.") or part:find("%.lock$") or part:find("%.$") then
      return "has a part that starts or ends with a dot, or ends with .lock"
    end
  end
  return nil
end

---Checks the name of a Kubernetes namespace (RFC 1123 label).
---@param text string
---@return string? wrong
function M.namespace(text)
  if #text > 63 or not text:find("^[%l%d][%l%d-]*$") or text:find("%-$") then
    return "is not a namespace: lower-case letters, digits and hyphens, 63 at most"
  end
end

---Checks what a job is made of: "cronjob/smoke", or a manifest inside the checkout.
---@param text string
---@return string? wrong
---@return string? suggestion
function M.job(text)
  local name = text:match("^cronjob/(.+)$")
  if name then
    return not require("cluster.rollout").is_name(name) and "is not the name of a CronJob" or nil
  end
  local wrong, suggestion = M.inside(text)
  if wrong then return wrong, suggestion end
  if not text:find("%.ya?ml$") and not text:find("%.json$") then
    return "is neither cronjob/NAME nor a manifest", 'for example "cronjob/smoke" or "deploy/smoke.yaml"'
  end
end

---Checks the name of a Lease (RFC 1123 subdomain).
---@param text string
---@return string? wrong
function M.lease(text)
  if #text > 253 or not text:find("^[%l%d][%l%d.-]*$") or text:find("[.-]$") or text:find("%.[.-]") then
    return "is not the name of a Lease: lower-case letters, digits, dots and hyphens"
  end
end

---Checks the name of an app, an environment or a notifier: it becomes part of paths, labels and image tags.
---@param name string
---@return string? wrong
function M.plain(name)
  if #name > 63 then return "is longer than 63 bytes" end
  if not name:find("^[%l%d]") or name:find("[^%l%d._-]") or name:find("[._-]$") then
    return "must be lower-case letters, digits, dots, dashes and underscores, "
      .. "and start and end with a letter or digit"
  end
  return nil
end

---Checks an http(s) URL. Userinfo is refused: a password in it would be a secret in plain sight.
---@param url string
---@return string? wrong never repeats the URL, it may hold a secret
---@return string? suggestion
function M.http_url(url)
  local scheme, authority = url:match("^(%a[%w+.-]*)://([^/?#]*)") ---@cast authority string
  if not scheme then return "is not a URL", 'for example "https://host/path"' end
  if scheme ~= "http" and scheme ~= "https" then return "must start with http:// or https://" end
  if url:find("[%c%s\127\"<>\\]") then return "holds characters that no URL may hold" end
  if authority:find("@", 1, true) then
    return "must not hold a user name or password",
      'name them where secrets go: { env = "NAME" } or { file = "/path" }'
  end
  local wrong = M.host(authority)
  return wrong and ("the host in it " .. wrong)
end

---Checks the address of a git repository: http(s), ssh, git@host:path, file, or an absolute path.
---@param url string
---@return string? wrong
---@return string? suggestion
function M.git_url(url)
  if url:find("^%-") then return "must not start with a dash" end
  if url:find("[%c\127]") then return "holds control characters" end
  if url:find("^https?://") then
    local wrong, suggestion = M.http_url(url)
    if wrong and wrong:find("password") then
      return wrong, "name the host in `credentials` with a username and password = { env = \"NAME\" }"
    end
    return wrong, suggestion
  end
  local scheme, authority = url:match("^(%a[%w+.-]*)://([^/]*)") ---@cast authority string
  if scheme == "file" then return authority ~= "" and "a file URL has three slashes" or nil end
  if scheme == "ssh" then
    local user, host = authority:match("^(.*)@(.-)$")
    if user and (user:find(":", 1, true) or not user:find("^[%w_][%w._-]*$")) then
      return "must not hold a password, only a user name"
    end
    local wrong = M.host(host or authority)
    return wrong and ("the host in it " .. wrong)
  end
  if scheme then
    return ("the scheme %q is not supported"):format(scheme:sub(1, 20)), "use https://, http://, ssh:// or file://"
  end
  if url:find("^/") then return nil end
  local user, host = url:match("^([%w_][%w._-]*)@([%w][%w.-]*):[^:]")
  if user and host then return nil end
  return "is not the address of a git repository",
    'for example "https://host/team/app.git", "git@host:team/app.git" or "/srv/git/app.git"'
end

---Finds owner/repository when a git address lies on github.com.
---@param url string
---@return string?
function M.github(url)
  local path = url:match("^https://github%.com/(.+)$") or url:match("^git@github%.com:(.+)$")
    or url:match("^ssh://git@github%.com/(.+)$")
  local owner, repository = (path or ""):gsub("%.git$", ""):gsub("/$", ""):match("^([%w-]+)/([%w._-]+)$")
  return owner and owner .. "/" .. repository
end

---Checks a path inside a checkout: relative, without "..".
---@param path string
---@return string? wrong
function M.inside(path)
  if path:find("^/") then return "must be relative: it is a path inside the checkout" end
  for part in (path .. "/"):gmatch("(.-)/") do
    if part == ".." then return "must not leave the checkout" end
  end
  if path:find("^%-") then return "must not start with a dash" end
  return nil
end

local POLICIES <const> = { "all", "major", "minor", "patch", "force", "range:", "glob:", "regexp:" }
local PLAIN <const> = { all = true, major = true, minor = true, patch = true, force = true }

---The source whose own version policy a text is; nil: none.
---@param policy string
---@return SourceKind?
function M.accept_of(policy)
  if PLAIN[policy] then return nil end
  local kind = policy:match("^%a+:") or policy
  for _, source in ipairs(require("extensions").all "source") do
    for _, word in ipairs(source.accepts and source.accepts.words or {}) do
      if kind == word then return source end
    end
  end
end

-- Version policies of sources, as the end of a sentence.
local function further(words)
  local text = ""
  for _, source in ipairs(require("extensions").all "source") do
    if source.accepts then
      text = ("%s; for %s also %s"):format(text, source.name, source.accepts.doc:gsub(" %b()", ""))
      table.move(source.accepts.words, 1, #source.accepts.words, #words + 1, words)
    end
  end
  return text
end

---Checks a version policy: those of images, and what sources add.
---@param policy string
---@return string? wrong
---@return string? suggestion
function M.accept(policy)
  if PLAIN[policy] then return nil end
  local kind, rest = policy:match("^(%a+):(.*)$")
  if kind == "glob" or kind == "regexp" then return rest == "" and kind .. ": needs a pattern" or nil end
  local source = M.accept_of(policy)
  if kind == "range" or source then
    local parse = source and assert(source.accepts).rule or require("semver").policy
    local rule, err = parse(policy)
    return not rule and ("has no %s that can be understood: %s"):format(kind or policy, assert(err).message) or nil
  end
  local words = table.move(POLICIES, 1, #POLICIES, 1, {})
  return "is not a version policy: all, major, minor, patch, force, range:RANGE, glob:PATTERN or regexp:PATTERN"
    .. further(words), require("base.schema").meant(policy, words)
end

---Reads a published port: [address:]port:port[/protocol].
---@param text string
---@return {address?: string, host: integer, container: integer, protocol: string}?
function M.published(text)
  local ports, protocol = text:match("^([^/]*)/(%a+)$")
  ports, protocol = ports or text, protocol or "tcp"
  local address, outer, inner = ports:match("^(.+):(%d+):(%d+)$")
  if not address then outer, inner = ports:match("^(%d+):(%d+)$") end
  local host, container = M.port(outer), M.port(inner)
  if not host or not container or (protocol ~= "tcp" and protocol ~= "udp") then return nil end
  if address and (M.host(address) or address:find("[^%]]:%d+$")) then return nil end
  return { address = address, host = host, container = container, protocol = protocol }
end

return M
