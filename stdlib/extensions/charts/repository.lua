-- Chart repositories: which versions of a chart there are, newest first.
--
-- ChartMuseum, plain index.yaml repositories and OCI registries. One poll for each repository and interval, shared by
-- all who ask. Each answer is compared with the one before: an index that ends too early is an error,
-- and what is missing from a list that lost half of its entries is kept for a while.
local errors, log, task, time = require "errors", require "log", require "task", require "time"
local api, budget, index = require "base.api", require "base.budget", require "extensions.charts.index"
local museum, oci = require "extensions.charts.museum", require "extensions.charts.oci"
local shrink, text, version = require "base.shrink", require "base.text", require "extensions.charts.version"

local M = {}

local TIMEOUT <const>, LIST_TIME <const>, IDLE <const> = 30, 300, 30 -- seconds
local INTERVAL <const> = 30
local MOST <const> = 2000 -- answers kept for one repository
local AT_ONCE <const> = 4
local API_AGAIN <const> = 3600 -- seconds until a repository without ChartMuseum's API is asked for it again

---@class ChartRepositoryConfig
---@field name? string Its name in the configuration.
---@field url string "https://charts.example.com", "oci://registry/charts"
---@field kind? "museum"|"index"|"oci" Found by the address and by asking when it is left out.
---@field username? string
---@field password? Secret
---@field token? Secret
---@field ca? string
---@field plain_http? boolean

---@class ChartRepository
---@field url string
---@field kind "museum"|"index"|"oci"|"auto"
---@field config ChartRepositoryConfig
---@field world World
---@field api? string ChartMuseum's API, when it was found.
---@field wanted table<string, true> The charts that are followed: those that an index is read for.
---@field private answers table<string, table> By the chart's name, or "" for an index: the last answer.
---@field private good table<string, ChartVersion[]> What was believed last.
---@field private shrinks table<string, Shrink> Of lists that are not accepted yet, by the chart's name.
---@field package seen? Config Whose charts are among the wanted ones.
---@field private kept integer How many answers.
---@field private whole? ChartIndex The last accepted index.
---@field private no_api? number When it turned out that there is no API.
---@field private budget Budget
---@field server Api
local Repository = {}
Repository.__index = Repository

local known = {} ---@type table<string, ChartRepository>

local function fail(self, code, message, cause)
  return errors.fail(code, message, { op = "charts.versions", target = self.url, cause = cause })
end

---What a configuration says of a repository: itself, its name in `chart_repositories`, or an address, which gets the
---credentials of the repository with that address.
---@param config ChartRepositoryConfig|string
---@param cfg Config
---@return ChartRepositoryConfig
function M.config(config, cfg)
  if type(config) == "table" then return config end
  local named = cfg.chart_repositories and cfg.chart_repositories[config]
  if named then return named end
  local url = config:gsub("/+$", "")
  for _, other in pairs(cfg.chart_repositories or {}) do
    if other.url:gsub("/+$", "") == url then return other end
  end
  return { url = url }
end

-- The names of all charts that the configuration follows in a repository.
local function followed(url, cfg)
  local wanted = {}
  for _, app in ipairs(cfg.app_list or {}) do
    for _, chart in pairs(app.charts or {}) do
      if M.config(chart.repository, cfg).url:gsub("/+$", "") == url then wanted[chart.chart] = true end
    end
  end
  return wanted
end

-- Who we are there.
local function credentials(self)
  local config = self.config
  if config.token then
    local bearer, err = config.token:reveal()
    return bearer and { bearer = bearer }, err
  elseif config.username then
    local password, err = config.password:reveal()
    return password and { user = config.username, password = password }, err
  end
end

-- ChartMuseum's own words for a refusal.
local function words_of(body)
  return type(body) == "table" and type(body.error) == "string" and text.clean(body.error, 200) or nil
end

-- The server of a repository, as it is asked. It is asked again by the next poll, not at once.
local function server(self)
  return api.open {
    name = "the chart repository", transient = "busy", words = words_of,
    http = { timeout = TIMEOUT, ca = self.config.ca },
    options = function()
      local auth, err = credentials(self)
      return { auth = auth }, err
    end,
  }
end

---A repository of which nothing is known yet. Does no I/O.
---@param config ChartRepositoryConfig
---@return ChartRepository
---@nodiscard
function M.new(config)
  local url = config.url:gsub("/+$", "")
  local self = setmetatable({
    url = url, kind = config.kind or url:find("^oci://") and "oci" or "auto", config = config, wanted = {},
    answers = {}, good = {}, shrinks = {}, kept = 0, budget = budget.of("charts " .. url, AT_ONCE),
  }, Repository)
  self.server = server(self)
  return self
end

---Opens a repository; the same one for all who name it. Does no I/O.
---@param config ChartRepositoryConfig|string
---@param world World
---@return ChartRepository
---@nodiscard
function M.repository(config, world)
  local cfg = world.config
  config = M.config(config, cfg)
  local url = config.url:gsub("/+$", "")
  local key = table.concat({
    url, config.kind or "", config.username or "", tostring(config.password), tostring(config.token), config.ca or "",
    tostring(config.plain_http),
  }, "\n")
  local self = known[key]
  if not self then
    self = M.new(config)
    known[key] = self
  end
  self.world = world
  if self.seen ~= cfg then
    self.seen = cfg
    for name in pairs(followed(url, cfg)) do self.wanted[name] = true end
  end
  return self
end

-- ---- asking ----

---One request to the repository, with its credentials. Any status is an answer.
---@async
---@param call ApiCall
---@return HttpAnswer? answer
---@return Err? err
---@return_overload nil, Err
function Repository:send(call) return self.server:send(call) end

---The error of an answer that is none of the good ones.
---@param answer HttpAnswer
---@return Err
function Repository:failure(answer) return self.server:failure(answer, "charts", self.url) end

-- Reads the index that streams in.
local function read_index(answer, wanted, before)
  local reader, last = index.reader(wanted), time.monotonic() + LIST_TIME
  while true do
    local piece, err = answer:read()
    if err then return nil, err end
    if not piece then return reader:close(before) end
    local ok, wrong = reader:feed(piece)
    if not ok then return nil, wrong end
    if time.monotonic() > last then
      return errors.fail("timeout", "the index took too long", { op = "charts.index" })
    end
  end
end

-- Whether a whole index may be accepted.
local function judge_index(self, found)
  local before = self.whole
  if not before then return true end
  if before.ended and not found.ended then return fail(self, "mismatch", "the index ends before its end") end
  if shrink.suspicious(before.charts, found.charts) then
    return fail(self, "mismatch", ("%d of %d charts are gone from the index"):format(before.charts - found.charts,
      before.charts))
  end
  return true
end

-- The whole index, or what is known of it when the server says that it did not change.
local function poll_index(self)
  local wanted, old = {}, self.whole
  for name in pairs(self.wanted) do wanted[name] = true end
  local same = old ~= nil
  for name in pairs(wanted) do same = same and old.wanted[name] ~= nil end
  local answer <close>, err = self:send({
    url = self.url .. "/index.yaml", stream = true, idle_timeout = IDLE, etag = same and old.etag or nil,
    headers = same and not old.etag and old.modified and { ["If-Modified-Since"] = old.modified } or nil,
  })
  if not answer then return nil, err end
  if answer.status == 304 and same then return old end
  if answer.status == 404 then return fail(self, "not_found", "there is no chart repository: no index.yaml") end
  if answer.status ~= 200 then return nil, self:failure(answer) end
  local found
  found, err = read_index(answer, wanted, old)
  if not found then ---@cast err Err
    err.target = err.target or self.url
    return nil, err
  end
  local ok
  ok, err = judge_index(self, found)
  if not ok and not self:confirmed("", err and err.message) then return nil, err end
  self.shrinks[""] = nil
  found.wanted, found.lists = wanted, {}
  found.etag, found.modified = answer.headers.etag, answer.headers["last-modified"]
  self.whole = found
  return found
end

---Whether a list that lost much came often and long enough to be accepted all the same.
---@private
function Repository:confirmed(name, complaint)
  -- A busy repository's list is another one each time: what counts is since when it is too short.
  if not self.shrinks[name] then
    self.shrinks[name] = shrink.new()
    log.warn("a chart repository lost versions; what is missing stays as it was for now",
      { url = self.url, why = complaint })
  end
  return self.shrinks[name]:observe()
end

-- The accepted list of one chart: what is missing when it lost half of its entries is kept for a while; everything
-- else counts at once.
local function accept(self, name, list)
  local before, listed, missing, names = self.good[name] or {}, {}, {}, {}
  for _, entry in ipairs(list) do listed[entry.version] = true end
  for _, entry in ipairs(before) do
    if not listed[entry.version] then
      local kept = { missing = true }
      for field, value in pairs(entry) do kept[field] = value end
      missing[#missing + 1] = kept
      names[#names + 1] = ("%s %s"):format(name, entry.version)
    end
  end
  local complaint
  if #before > 0 and #list == 0 then
    complaint = ("all %d versions of %s are gone"):format(#before, name)
  elseif shrink.suspicious(#before, #before - #missing) then
    complaint = ("%d of %d versions of %s are gone"):format(#missing, #before, name)
  end
  if not complaint or self:confirmed(name, complaint) and #list > 0 then
    self.shrinks[name] = nil
    return list
  end
  local since, all = self.shrinks[name], table.move(list, 1, #list, 1, {})
  if since.count ~= #missing then since.complaint, since.count = complaint, #missing end -- else the words stay the same
  all = version.order(table.move(missing, 1, #missing, #all + 1, all))
  all.held = shrink.held(since.complaint, names, since.at, #list > 0 and since:till() or nil)
  return all
end

local function from_index(self, found, name)
  if found.lists[name] then return found.lists[name] end
  local list, notes = {}, {}
  for _, item in ipairs(found.entries[name] or {}) do
    local entry, why = index.version(item, name, self.url)
    list[#list + 1] = entry
    if why and #notes < 20 then notes[#notes + 1] = why end
  end
  found.lists[name] = { list = list, notes = notes, missing = not found.entries[name] }
  return found.lists[name]
end

-- Asks the repository once, within what its server allows, and keeps the answer.
local function look(self, key, ask)
  local answer = { asked = time.monotonic() }
  local slot <close>, err = self.budget:enter(nil, key)
  if slot then
    answer.value, answer.err = ask(self)
    err = answer.err
    if answer.value ~= nil or err.code == "not_found" or err.code == "mismatch" then
      self.budget:succeeded(key)
    elseif err.retry_after then
      self.budget:hold(err.retry_after)
    else
      self.budget:failed(err, INTERVAL, key)
    end
  else
    answer.err = err
  end
  if not self.answers[key] then
    if self.kept >= MOST then self.answers, self.kept = {}, 0 end
    self.kept = self.kept + 1
  end
  self.answers[key] = answer
end

-- An answer that was asked for at `limit` (monotonic) or later; those who ask meanwhile share it.
local function shared(self, key, limit, ask)
  local answer = self.answers[key]
  while not answer or answer.asked < limit do
    task.once(self, key, function() look(self, key, ask) end)
    answer = self.answers[key]
  end
  return answer.value, answer.err
end

local function by_index(self, name, limit)
  local found, err = shared(self, "", limit, poll_index)
  if found and not found.wanted[name] then -- it was not followed when the index was read
    found, err = shared(self, "", time.monotonic(), poll_index)
  end
  if not found then return nil, err end
  return from_index(self, found, name)
end

---The versions of one chart as the server lists them, from any kind of repository.
---@async
---@param name string
---@param limit number When the answer may be from, monotonic.
---@return table? found
---@return Err? err
function Repository:ask(name, limit)
  if self.kind == "oci" then return shared(self, name, limit, function() return oci.versions(self, name) end) end
  if self.kind ~= "index" and not (self.no_api and time.monotonic() - self.no_api < API_AGAIN) then
    local found, err = shared(self, name, limit, function() return museum.versions(self, name) end)
    if found ~= false then return found, err end
    self.no_api = not err and time.monotonic() or nil
  end
  local found, err = by_index(self, name, limit)
  if not found then self.no_api = nil end -- neither of them: the next poll looks for both again
  return found, err
end

---The versions of a chart, newest first; a shared answer that is younger than the interval, or a new one.
---@async
---@param name string
---@param options? {interval?: Seconds, max_age?: Seconds}
---@return ChartVersion[]? versions with `dropped`: what stands there and is no version that can be installed, in words;
---and with `held`: a Held of those that the repository lists no more, and that count as there for now
---@return Err? err not_found when there is no such chart; mismatch when an index is not believed
---@return_overload nil, Err
function Repository:versions(name, options)
  if not version.is_name(name) then error("usage: repository:versions(name [, {interval=, max_age=}])", 2) end
  self.wanted[name] = true
  local interval = options and options.interval or INTERVAL
  local age = options and options.max_age or interval * (0.6 + math.random() / 5) -- as sources/git/init.lua has it
  local found, err = self:ask(name, time.monotonic() - age)
  if not found then
    if not errors.is(err, "not_found") or not self.good[name] then return nil, err end
    found = { list = {}, notes = {} } -- it was there before: its versions count as missing for now
  end
  if found.versions and self.good[name] then return found.versions end
  local list, dropped = version.order(found.list)
  if found.missing and not self.good[name] then
    return fail(self, "not_found", "the repository has no chart " .. name)
  end
  for _, words in ipairs(dropped) do found.notes[#found.notes + 1] = words .. " is no version" end
  list = accept(self, name, list)
  list.dropped, self.good[name] = found.notes, list
  found.versions = not list.held and list or nil -- what is held back is judged again
  return list
end

---The digest of one version: as the list has it, or as the registry has it. Shared like the lists.
---@async
---@param name string
---@param entry ChartVersion
---@param options? {interval?: Seconds, max_age?: Seconds}
---@return string? digest nil without an error: the repository has none
---@return Err? err
---@return_overload nil, Err
function Repository:digest(name, entry, options)
  if entry.digest or entry.missing or self.kind ~= "oci" then return entry.digest end
  local interval = options and options.interval or INTERVAL
  local age = options and options.max_age or interval * (0.6 + math.random() / 5)
  return shared(self, name .. "=" .. entry.version, time.monotonic() - age, function()
    return oci.digest(self, name, entry)
  end)
end

---Packages and pushes one chart at one version; what is there already is found.
---@async
---@param request PublishRequest
---@return PushedChart?
---@return Err? err
---@return_overload nil, Err
function Repository:publish(request)
  local chart, err = require("extensions.charts.package").build(request)
  if not chart then return nil, err end
  request.hooks.progress(("pushing %s %s"):format(chart.name, chart.version))
  return require("extensions.charts.push").push(self, chart)
end

---Makes the next question ask the server, whatever is known.
function Repository:expire() self.answers, self.kept = {}, 0 end

return M
