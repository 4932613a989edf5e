-- index.yaml of a chart repository, read as it streams in: only the entries of the charts that are followed are
-- kept and understood, so that an index of 50 MiB costs neither its size in memory nor one long halt of the loop.
--
-- Every generator writes it in YAML's block style: a name under `entries` at some depth, and everything of that chart
-- deeper, or as list items at the same depth. An index in JSON or in flow style is understood whole, up to 8 MiB.
-- Rules: Helm's pkg/repo/v1/index.go.
local errors, hash, json, yaml = require "errors", require "hash", require "json", require "yaml"
local text = require "base.text"

local M = {}

local MAX_BYTES <const> = 50 << 20  -- of an index
local MAX_FLOW <const> = 8 << 20    -- of one that must be understood whole
local MAX_HEAD <const> = 8 << 20    -- before `entries`
local MAX_ENTRY <const> = 8 << 20   -- of one chart
local MAX_LINE <const> = 1 << 20
local MAX_PIECES <const> = 4096     -- of one line: a server may send byte by byte

---@class ChartIndex
---@field entries table<string, table[]> What the index says of the charts that were asked for, undecoded values inside.
---@field charts integer How many charts it names.
---@field sums? table<string, string> Digests of the texts of the entries, so that the same text is read once.
---@field ended boolean It has the keys that generators write behind the entries.

---@class ChartIndexReader
---@field charts integer
---@field ended boolean
---@field package wanted table<string, any>
---@field package held integer
---@field package pending string[]
---@field package parts string[]
---@field package phase string
---@field package indent? integer
---@field package name? string
---@field package kept table<string, string>
local Reader = {}
Reader.__index = Reader

---Makes a reader of one index.
---@param wanted table<string, any> The names to keep.
---@return ChartIndexReader reader
function M.reader(wanted)
  return setmetatable({
    wanted = wanted, phase = "head", pending = {}, waiting = 0, size = 0, charts = 0, ended = false, parts = {},
    kept = {}, held = 0,
  }, Reader)
end

local function fail(code, message) return errors.fail(code, message, { op = "charts.index" }) end

-- The name in a line `  name:` of the block under `entries`, with quotes or without.
local function name_in(line)
  local key = line:match('^ +"([^"\\]*)"%s*:') or line:match("^ +'([^']*)'%s*:")
  return key or line:match("^ +([^%s:][^:]*):%f[%s\0]")
end

-- The entry of a wanted chart ends here.
local function finish(self)
  if not self.name then return end
  self.kept[self.name] = table.concat(self.parts)
  self.name, self.parts, self.held = nil, {}, 0
end

local function hold(self, piece, limit, what)
  self.held = self.held + #piece
  if self.held > limit then
    return fail("too_large", ("%s is larger than %d MiB"):format(what, limit >> 20))
  end
  self.parts[#self.parts + 1] = piece
  return true
end

local handlers = {} ---@type table<string, fun(self: ChartIndexReader, line: string): true?, Err?>

-- Everything before `entries:`. What begins as JSON, or has its entries in the same line, is read whole.
function handlers.head(self, line)
  local ok, err = hold(self, line, MAX_HEAD, "the head of the index")
  if not ok then return nil, err end
  if line:find("^[%[{]") or line:find("^entries:%s+[^%s#]") or line:find("^[\"']entries") then
    self.phase = "whole"
  elseif line:find("^entries:") then
    self.phase, self.parts, self.held = "entries", {}, 0
  end
  return true
end

function handlers.whole(self, line) return hold(self, line, MAX_FLOW, "an index in JSON or flow style") end

function handlers.tail(self, line)
  if line:find("^[%a]+:") then self.ended = true end
  return true
end

-- A line of the entries that is no deeper than the names: a name, the first key behind the entries, or nothing.
function handlers.entries(self, line)
  local indent = line:match("^( *)[^%s#]")
  if not indent then
    if self.name then return hold(self, line, MAX_ENTRY, "the entry of one chart") end
    return true
  end
  if #indent == 0 then
    finish(self)
    self.phase = "tail"
    return handlers.tail(self, line)
  end
  self.indent = self.indent or #indent
  if #indent > self.indent or line:byte(#indent + 1) == 45 then -- "-"
    if self.name then return hold(self, line, MAX_ENTRY, "the entry of one chart") end
    return true
  end
  finish(self)
  local name = #indent == self.indent and name_in(line)
  if not name then return fail("protocol", "the index has a line that belongs to no chart") end
  self.charts = self.charts + 1
  if not self.wanted[name] or self.kept[name] then return true end
  self.name = name
  return hold(self, line, MAX_ENTRY, "the entry of one chart")
end

-- The end of the lines in `data` that lie deeper than the names and belong to a chart that is not followed: most of an
-- index. Gives the position of the first line that may matter.
local function skip(self, data, at)
  local depth = self.indent
  while true do
    local first, deep = data:byte(at), data:byte(at + depth)
    if first ~= 32 or deep ~= 32 and deep ~= 45 then return at end
    local stop = data:find("\n", at, true)
    if not stop then return at end
    at = stop + 1
  end
end

-- Keeps the beginning of a line until its end comes.
local function wait_for_line(self, piece)
  if #self.pending >= MAX_PIECES then self.pending = { table.concat(self.pending) } end
  self.pending[#self.pending + 1] = piece
  self.waiting = self.waiting + #piece
  local flow = self.phase == "whole" or self.pending[1]:find("^%s*[%[{]")
  if self.waiting > (flow and MAX_FLOW or MAX_LINE) then
    return fail("too_large", flow and ("an index in JSON or flow style is larger than %d MiB"):format(MAX_FLOW >> 20)
      or "the index has a line of more than 1 MiB")
  end
  return true
end

---Takes the next piece of the text.
---@param piece string
---@return true? ok
---@return Err? err
---@return_overload nil, Err
function Reader:feed(piece)
  self.size = self.size + #piece
  if self.size > MAX_BYTES then
    return fail("too_large", ("the index is larger than %d MiB"):format(MAX_BYTES >> 20))
  end
  if not piece:find("\n", 1, true) then return wait_for_line(self, piece) end
  self.pending[#self.pending + 1] = piece
  local data, at = table.concat(self.pending), 1
  while true do
    if self.phase == "entries" and self.indent and not self.name then at = skip(self, data, at) end
    local stop = data:find("\n", at, true)
    if not stop then break end
    local ok, err = handlers[self.phase](self, data:sub(at, stop))
    if not ok then return nil, err end
    at = stop + 1
  end
  self.pending, self.waiting = {}, 0
  return wait_for_line(self, data:sub(at))
end

-- The list of a chart's versions in what was decoded.
local function list_of(value, name)
  if value == nil or value == json.null then return {} end
  if type(value) ~= "table" or not json.is_array(value) and next(value) ~= nil then
    return fail("protocol", ("the entry of %s is no list"):format(name))
  end
  return value
end

local function understand_whole(self, whole)
  local value, err
  if whole:find("^%s*{") then
    value, err = json.decode(whole)
  else
    value, err = yaml.decode(whole, { max = MAX_FLOW })
  end
  if value == nil then
    return errors.fail("protocol", "the index cannot be read", { op = "charts.index", cause = err })
  end
  local entries = type(value) == "table" and value.entries
  if entries == nil or entries == json.null then entries = {} end
  if type(value) ~= "table" or type(value.apiVersion) ~= "string" or type(entries) ~= "table" then
    return fail("protocol", "this is no index of charts")
  end
  local found = { entries = {}, charts = 0, ended = value.generated ~= nil or value.serverInfo ~= nil }
  for name, list in pairs(entries) do
    found.charts = found.charts + 1
    if self.wanted[name] then
      found.entries[name], err = list_of(list, name)
      if not found.entries[name] then return nil, err end
    end
  end
  return found
end

-- What the text of one chart's entry says; as before when it is the same text.
local function understand(slice, name, sum, before)
  if before and before.sums and before.sums[name] == sum then return before.entries[name] end
  local value, err = yaml.decode(slice, { max = MAX_ENTRY })
  if type(value) == "table" then return list_of(value[name], name) end
  return errors.fail("protocol", ("the entry of %s cannot be read"):format(name),
    { op = "charts.index", cause = err })
end

---Ends the reading, and understands what was kept.
---@param before? ChartIndex The index that was read before this one.
---@return ChartIndex? index
---@return Err? err protocol when this is no index, or when it breaks off
---@return_overload nil, Err
function Reader:close(before)
  local last = table.concat(self.pending)
  if last ~= "" then
    local ok, err = handlers[self.phase](self, last .. "\n")
    if not ok then return nil, err end
  end
  if self.phase == "whole" then return understand_whole(self, table.concat(self.parts)) end
  if self.phase == "head" then
    local head = table.concat(self.parts)
    if head:find("^%s*[%w\"']") then
      local value = yaml.decode(head, { max = MAX_HEAD, nodes = 100000 })
      if type(value) == "table" and type(value.apiVersion) == "string" then
        return { entries = {}, charts = 0, ended = value.generated ~= nil } -- an index without any chart
      end
    end
    return fail("protocol", "this is no index of charts")
  end
  finish(self)
  -- Every generator ends the last line. Where it does not end, and nothing came behind the entries, there was more.
  if last ~= "" and not self.ended then return fail("mismatch", "the index breaks off in the middle of an entry") end
  local found = { entries = {}, sums = {}, charts = self.charts, ended = self.ended }
  for name, slice in pairs(self.kept) do
    local sum = hash.sha256(slice)
    local list, err = understand(slice, name, sum, before)
    if not list then return nil, err end
    found.entries[name], found.sums[name] = list, sum
  end
  return found
end

-- ---- one version ----

local function word(value, max)
  if type(value) == "number" then value = tostring(value) end
  return type(value) == "string" and value ~= "" and text.clean(value, max) or nil
end

---The absolute address of a chart's archive; nil when it is none that can be fetched.
---@param base string The repository's.
---@param url any
---@return string?
function M.resolve(base, url)
  if type(url) ~= "string" or #url > 2000 or url:find("[%c%s\"<>\\]") then return nil end
  if url:find("^https?://[^/]") then return url end
  if url:find("^%a[%w+.-]*:") or url == "" then return nil end
  local origin, path = base:match("^(%a+://[^/?#]+)([^?#]*)") ---@cast path string
  ---@cast origin string
  if url:find("^//") then return origin:match("^%a+:") .. url end
  if url:find("^/") then return origin .. url end
  return origin .. path:gsub("/+$", "") .. "/" .. url
end

---What a repository says of one version of a chart, as ours; nil and why when it cannot be installed. The same shape
---comes from an index and from ChartMuseum.
---@param item any
---@param name string
---@param base string The repository's address.
---@return ChartVersion? version
---@return string? why
function M.version(item, name, base)
  if type(item) ~= "table" then return nil, "an entry that is no table" end
  local shown = text.clean(tostring(item.version), 60)
  if type(item.version) ~= "string" then return nil, shown .. " is no version" end
  if item.name ~= nil and item.name ~= name then return nil, shown .. " is a version of another chart" end
  if item.removed == true then return nil, shown .. " was removed" end
  local url
  for _, candidate in ipairs(type(item.urls) == "table" and item.urls or {}) do
    url = url or M.resolve(base, candidate)
  end
  if not url then return nil, shown .. " has no address that it could be fetched from" end
  local digest = type(item.digest) == "string" and item.digest:lower():gsub("^sha256:", "") or ""
  return {
    version = item.version, digest = digest:find("^" .. ("%x"):rep(64) .. "$") and "sha256:" .. digest or nil,
    created = word(item.created, 40), app_version = word(item.appVersion, 128), url = url,
    deprecated = item.deprecated == true or nil,
  }
end

return M
