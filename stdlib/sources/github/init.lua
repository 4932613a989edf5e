-- A repository on GitHub: events as a wake-up call, compare for resets, and reporting back.
--
--     local gh = github.repository { owner = "team", name = "web", token = token }
--     gh:follow(function(events) repo:expire(); wake:notify() end)      -- until cancelled
--     gh:set_status(commit, { state = "success", context = "moontide/staging", url = "https://..." })

local client = require "sources.github.client"
local errors = require "errors"
local feed = require "sources.github.events"
local history = require "sources.git.history"
local json = require "json"
local log = require "log"
local refs = require "sources.git.refs"
local text = require "base.text"
local time = require "time"
local url = require "sources.git.url"

local M = {}

local function valid_owner(owner)
  return #owner <= 100 and owner:find "^[%w][%w_-]*$" ~= nil
end

local function valid_name(name)
  return #name <= 100 and name:find "^[%w._-]+$" ~= nil and name ~= "." and name ~= ".."
end

---The GitHub repository that an address of git names.
---@param address string
---@param host? string of a GitHub Enterprise Server; github.com by default
---@return string? owner nil when the address is somewhere else
---@return string? name
function M.parse_source(address, host)
  local parsed = type(address) == "string" and url.parse(address)
  host = host or "github.com"
  if not parsed or (parsed.host ~= host and parsed.host ~= "www." .. host) then return nil end
  local owner, name = parsed.path:match "^/?([^/]+)/([^/]+)$" ---@cast name string
  if not owner then return nil end
  name = name:gsub("%.git$", "")
  if valid_owner(owner) and valid_name(name) then return owner, name end
end

---@class GitHubRepository
---@field owner string
---@field name string
---@field private account GitHubAccount
---@field private feed GitHubFeed
---@field base string path in the API; follows renames
---@field private position? integer number of the last event handed out
local Repository = {}
Repository.__index = Repository

local OPTIONS = { owner = "string", name = "string", api = "string", token = "string", ca = "string" }
local USAGE = "usage: github.repository{ owner =, name =, api =, token =, ca = }"
local LOOPBACK = { ["127.0.0.1"] = true, ["localhost"] = true, ["[::1]"] = true }

local feeds = setmetatable({}, { __mode = "v" })

---Makes a repository object. Does no I/O.
---@param opts {owner: string, name: string, api?: string, token?: string, ca?: string}
---@return GitHubRepository
---@nodiscard
function M.repository(opts)
  if type(opts) ~= "table" then error(USAGE, 2) end
  for option, value in pairs(opts) do
    if type(value) ~= OPTIONS[option] then error(("%s: bad option %s"):format(USAGE, tostring(option)), 2) end
  end
  if not (opts.owner and opts.name and valid_owner(opts.owner) and valid_name(opts.name)) then
    error(USAGE, 2)
  end
  local api = (opts.api or "https://api.github.com"):gsub("/+$", "")
  local scheme, host = api:match "^(https?)://(%[?[%w.:-]+%]?)" ---@cast host string
  if not scheme then error(USAGE .. ": api is not an address", 2) end
  if scheme == "http" and not LOOPBACK[host:gsub(":%d+$", "")] then
    error(USAGE .. ": a token is not sent over plain http", 2)
  end
  if opts.token then log.secret(opts.token) end
  local account = client.account(api, opts.token, opts.ca)
  local base = ("/repos/%s/%s"):format(opts.owner, opts.name)
  local key = account.id .. " " .. base:lower()
  feeds[key] = feeds[key] or feed.new(account, opts.token == nil)
  return setmetatable({ owner = opts.owner, name = opts.name, account = account, feed = feeds[key],
    base = base },
    Repository)
end

---The repository of an app, as a configuration names it. Does no I/O.
---@param app AppConfig
---@param cfg Config
---@return GitHubRepository? repository nil: the app is not on GitHub, or there is no token.
function M.configured(app, cfg)
  local owner, name = (app.source.github or ""):match("^([^/]+)/([^/]+)$") ---@cast name string
  local token = owner and cfg.github.token and cfg.github.token:reveal()
  if not token then return nil end
  return M.repository { owner = assert(owner), name = name, api = cfg.github.api, token = token }
end

---One request below the repository. A renamed or moved repository answers 301 with its lasting address.
---@private
function Repository:ask(op, method, path, ok, body)
  local asked = self.account.api .. self.base
  local response, final = self.account:request { op = op, method = method, path = self.base .. path, ok = ok,
    body = body }
  if not response then return nil, final --[[@as Err]] end
  ---@cast final string
  if final:sub(1, #asked) ~= asked then
    local base = final:sub(#self.account.api + 1):match "^/repositories/%d+" or
      final:sub(#self.account.api + 1):match "^/repos/[^/?]+/[^/?]+"
    if base then
      log.warn("the GitHub repository was renamed or moved: its configuration should follow",
        { repository = self.owner .. "/" .. self.name, address = base })
      self.base = base
    end
  end
  return response
end

---Gets the events on branches and tags that came since the last call, oldest first. The first call finds out
---where "now" is and returns none. Asks GitHub at most as often as GitHub allows; in between the answer is
---empty.
---@async
---@return GitHubEvent[]?
---@return Err? err
---@return_overload nil, Err
function Repository:events()
  local ok, err = self.feed:refresh(self.base)
  if not ok then return nil, err end
  local news = self.position and self.feed:after(self.position) or {}
  self.position = self.feed.last
  return news
end

---Seconds until `events` may ask GitHub again.
---@return Seconds
function Repository:next_poll()
  return self.feed:due_in()
end

---Calls `on_news(events)` whenever events arrive, until the task is cancelled. Failures are logged and waited
---out.
---@async
---@param on_news fun(events: GitHubEvent[])
function Repository:follow(on_news)
  local complained
  while true do
    local news, err = self:events()
    if news and #news > 0 then on_news(news) end
    if err and err.code ~= complained then
      log.warn("GitHub events cannot be read; polling goes on without them",
        { repository = self.owner .. "/" .. self.name, error = tostring(err) })
    end
    complained = err and err.code
    time.sleep(math.max(1, self:next_poll()))
  end
end

---Finds the push that brought a branch to a commit, among the events seen so far. Attribution only.
---@param ref string full name
---@param commit string
---@return GitHubEvent?
function Repository:pushed(ref, commit)
  return self.feed:pushed(ref, commit)
end

---Compares two commits as a branch would move from `base` to `head`. A base that GitHub no longer knows was
---thrown away by a force push: `missing` is set.
---@async
---@param base string full id
---@param head string full id
---@return GitComparison? comparison with .missing
---@return Err? err
---@return_overload nil, Err
function Repository:compare(base, head)
  if not (refs.id_format(base) and refs.id_format(head)) then
    error("usage: gh:compare(base, head): needs full commit ids", 2)
  end
  if base == head then return history.comparison(0, 0) end
  -- Page 2 of 1: without the list of changed files, which only page 1 carries.
  local response, err = self:ask("github.compare", "GET",
    ("/compare/%s...%s?per_page=1&page=2"):format(base, head),
    { [200] = true })
  if not response then
    if err and err.code ~= "not_found" then return nil, err end
    return { status = "diverged", ahead = 0, behind = 0, kind = "force", missing = true }
  end
  local ahead, behind = math.tointeger(response.data.ahead_by), math.tointeger(response.data.behind_by)
  if not ahead or not behind then
    return errors.fail("protocol", "GitHub's comparison has no counts", { op = "github.compare" })
  end
  return history.comparison(ahead, behind)
end

local function web_address(usage, value)
  if value ~= nil and not (type(value) == "string" and value:find "^https?://[^%c%s]+$") then
    error(usage .. ": url is an http or https address", 3)
  end
  return value
end

local STATUS = { error = true, failure = true, pending = true, success = true }

---Sets a commit status.
---@async
---@param commit string full id
---@param status {state: string, context?: string, description?: string, url?: string}
---@return true?
---@return Err? err
---@return_overload nil, Err
function Repository:set_status(commit, status)
  local usage = "usage: gh:set_status(commit, { state = 'pending'|'success'|'failure'|'error', context =, "
    .. "description =, url = })"
  if not refs.id_format(commit) or type(status) ~= "table" or not STATUS[status.state] then
    error(usage, 2)
  end
  local response, err = self:ask("github.set_status", "POST", "/statuses/" .. commit, { [201] = true }, {
    state = status.state,
    context = status.context or "moontide",
    description = status.description and text.clean(status.description, 140),
    target_url = web_address(usage, status.url),
  })
  if not response then return nil, err end
  return true
end

-- A deployment made by an earlier attempt of the same step.
local function existing(self, commit, environment, key)
  local response, err = self:ask("github.deploy", "GET",
    ("/deployments?sha=%s&task=deploy&environment=%s&per_page=100"):format(commit,
      (environment:gsub("[^%w._~-]", function(c) return ("%%%02X"):format(c:byte()) end))), { [200] = true })
  if not response then return nil, err end
  for _, deployment in ipairs(response.data) do
    local payload = type(deployment) == "table" and deployment.payload
    if type(payload) == "string" then payload = json.decode(payload) end
    if type(payload) == "table" and payload.key == key and math.type(deployment.id) == "integer" then
      return deployment.id
    end
  end
  return false
end

---Creates a deployment of exactly this commit: nothing is merged and no checks are waited for, that is the
---policies' business. With a `key` an attempt that was repeated finds what the first one made.
---@async
---@param commit string full id
---@param opts {environment: string, description?: string, production?: boolean, key?: string}
---@return integer? id
---@return Err? err
---@return_overload nil, Err
function Repository:deploy(commit, opts)
  if not refs.id_format(commit) or type(opts) ~= "table" or type(opts.environment) ~= "string" then
    error("usage: gh:deploy(commit, { environment =, description =, production =, key = })", 2)
  end
  if opts.key then
    local id, err = existing(self, commit, opts.environment, opts.key)
    if id or err then return id or nil, err end
  end
  local response, err = self:ask("github.deploy", "POST", "/deployments", { [201] = true }, {
    ref = commit,
    task = "deploy",
    auto_merge = false,
    required_contexts = json.array {},
    environment = opts.environment,
    description = opts.description and text.clean(opts.description, 140),
    production_environment = opts.production or false,
    payload = opts.key and { key = opts.key } or nil,
  })
  if not response then return nil, err end
  if math.type(response.data.id) ~= "integer" then
    return errors.fail("protocol", "GitHub's deployment has no id", { op = "github.deploy" })
  end
  return response.data.id
end

local DEPLOYMENT = { error = true, failure = true, inactive = true, in_progress = true, queued = true,
  pending = true,
  success = true }

---Reports how a deployment goes.
---@async
---@param id integer
---@param status {state: string, description?: string, log_url?: string, environment_url?: string}
---@return true?
---@return Err? err
---@return_overload nil, Err
function Repository:set_deployment_status(id, status)
  local usage = "usage: gh:set_deployment_status(id, { state = 'queued'|'in_progress'|'success'|'failure'|"
    .. "'error'|'inactive'|'pending', description =, log_url =, environment_url = })"
  if math.type(id) ~= "integer" or type(status) ~= "table" or not DEPLOYMENT[status.state] then
    error(usage, 2)
  end
  local response, err = self:ask("github.set_deployment_status", "POST",
    ("/deployments/%d/statuses"):format(id),
    { [201] = true }, {
      state = status.state,
      description = status.description and text.clean(status.description, 140),
      log_url = web_address(usage, status.log_url),
      environment_url = web_address(usage, status.environment_url),
    })
  if not response then return nil, err end
  return true
end

---What is left of the account's hourly requests, as of the last answer.
---@return {limit?: integer, remaining?: integer, held: Seconds}
function Repository:quota()
  return { limit = self.account.limit, remaining = self.account.remaining, held = self.account:held() }
end

return M
