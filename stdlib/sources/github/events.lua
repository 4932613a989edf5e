-- The events of one GitHub repository: they trigger a poll, and say who pushed.
--
-- Never the truth: events arrive 30 seconds to 6 hours late, more than three tags pushed at once make none,
-- and a moved tag has no event (GitHub's Events API pages). References are the truth; this saves waiting and
-- names people. The feed is shared by all who watch one repository with one token. ETags belong to a token,
-- so the cache does too.

local refs = require "sources.git.refs"
local text = require "base.text"
local time = require "time"

local M = {}

local MAX_PAGES = 3
local MAX_SEEN = 1000
local MAX_KEPT = 300
local USUAL_INTERVAL, ANONYMOUS_INTERVAL = 60, 120

---@class GitHubEvent
---@field id string
---@field number integer order of arrival in this host
---@field kind "push"|"create"|"delete"
---@field ref string full name
---@field before? string commit, of a push
---@field head? string commit, of a push
---@field actor string login
---@field at Wall

---@class GitHubFeed
---@field account GitHubAccount
---@field private events GitHubEvent[] oldest first
---@field private seen table<string, boolean>
---@field private order string[] of seen ids
---@field private etag? string
---@field private next_at number monotonic; not asked before
---@field private primed boolean
---@field private interval Seconds
---@field last integer number of the newest event
local Feed = {}
Feed.__index = Feed

---Makes a feed. Does no I/O.
---@param account GitHubAccount
---@param anonymous boolean
---@return GitHubFeed
---@nodiscard
function M.new(account, anonymous)
  return setmetatable({ account = account, events = {}, seen = {}, order = {}, next_at = -math.huge,
    primed = false,
    last = 0, interval = anonymous and ANONYMOUS_INTERVAL or USUAL_INTERVAL }, Feed)
end

local function full_ref(payload)
  local name = payload.full_ref
  if type(name) ~= "string" then
    local room = payload.ref_type == "tag" and "refs/tags/" or payload.ref_type == "branch" and "refs/heads/"
    name = room and type(payload.ref) == "string" and room .. payload.ref
  end
  return name
end

local KINDS = { PushEvent = "push", CreateEvent = "create", DeleteEvent = "delete" }

-- An event as we keep it, or nil when it says nothing about references or is not well-formed.
local function reading(raw)
  local kind = KINDS[raw.type]
  local payload = raw.payload
  if not kind or type(payload) ~= "table" then return nil end
  local ref = kind == "push" and payload.ref or full_ref(payload)
  if type(ref) ~= "string" or not refs.valid_name(ref) then return nil end
  local actor = type(raw.actor) == "table" and raw.actor.login
  local event = {
    id = raw.id, kind = kind, ref = ref,
    actor = type(actor) == "string" and text.clean(actor, 100) or "somebody",
    at = type(raw.created_at) == "string" and time.parse_iso(raw.created_at) or 0,
  }
  if kind == "push" then
    if not (refs.id_format(payload.head) and refs.id_format(payload.before)) then return nil end
    event.before, event.head = payload.before, payload.head
  end
  return event
end

---@private
function Feed:remember(id)
  self.seen[id] = true
  self.order[#self.order + 1] = id
  if #self.order > MAX_SEEN then self.seen[table.remove(self.order, 1)] = nil end
end

---Takes a page, newest first; fresh events go to `news`. Returns whether the page held one that we knew.
---@private
function Feed:take(page, news)
  local overlap = false
  for _, raw in ipairs(page) do
    local id = type(raw) == "table" and raw.id
    if type(id) == "string" and #id <= 64 then
      if self.seen[id] then
        overlap = true
      else
        self:remember(id)
        local event = reading(raw)
        if event then
          event.number = #news
          news[#news + 1] = event
        end
      end
    end
  end
  return overlap
end

local function next_link(response)
  return (response.headers.link or ""):match '<([^>]*)>; *rel="next"'
end

---Asks GitHub, if enough time has passed since the last time.
---@async
---@param base string path of the repository in the API
---@return true?
---@return Err? err
---@return_overload nil, Err
function Feed:refresh(base)
  if time.monotonic() < self.next_at then return true end
  -- Set before waiting, so that other callers do not ask meanwhile.
  self.next_at = time.monotonic() + self.interval
  local path, news = base .. "/events?per_page=100", {}
  for page = 1, MAX_PAGES do
    local response, err = self.account:request {
      op = "github.events", method = "GET", path = path, etag = page == 1 and self.etag or nil,
      ok = { [200] = true, [304] = true },
    }
    if not response then
      self.next_at = time.monotonic() + self.interval * (0.8 + math.random() * 0.4)
      return nil, err --[[@as Err]]
    end
    if page == 1 then
      local wanted = tonumber(response.headers["x-poll-interval"] or "") or 0
      if wanted ~= wanted or wanted > 3600 then wanted = 3600 end
      self.next_at = time.monotonic() + math.max(wanted, self.interval)
      self.etag = response.headers.etag or self.etag
    end
    if response.status == 304 then break end
    local overlap = self:take(response.data, news)
    path = next_link(response)
    if overlap or not self.primed or not path then break end
  end
  self.primed = true
  -- Newest first by custom, not by contract.
  table.sort(news, function(a, b)
    if a.at ~= b.at then return a.at < b.at end
    return a.number > b.number
  end)
  for _, event in ipairs(news) do
    self.last = self.last + 1
    event.number = self.last
    self.events[#self.events + 1] = event
  end
  if #self.events > MAX_KEPT then
    self.events = table.move(self.events, #self.events - MAX_KEPT + 1, #self.events, 1, {})
  end
  return true
end

---Events that arrived after the one with this number, oldest first.
---@param number integer
---@return GitHubEvent[]
function Feed:after(number)
  local list = {}
  for _, event in ipairs(self.events) do
    if event.number > number then list[#list + 1] = event end
  end
  return list
end

---The push that brought a branch to a commit, if the feed knows it.
---@param ref string full name
---@param commit string
---@return GitHubEvent?
function Feed:pushed(ref, commit)
  for i = #self.events, 1, -1 do
    local event = self.events[i]
    if event.kind == "push" and event.ref == ref and event.head == commit then return event end
  end
end

---Seconds until GitHub may be asked again.
---@return Seconds
function Feed:due_in()
  return math.max(0, self.next_at - time.monotonic(), self.account:held())
end

return M
