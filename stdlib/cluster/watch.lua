-- One watch: events of a list from a resourceVersion on, each decoded as it comes, until the stream ends.
--
-- Whatever goes wrong ends it with an error that says whether going on makes sense: follow.lua does. Rules:
-- client-go's tools/cache/reflector.go and the API concepts page.
local errors, json = require "errors", require "json"
local call, failure, kinds, lines = require "cluster.call", require "cluster.failure", require "cluster.kinds",
  require "cluster.lines"

local M = {}

local SILENCE <const> = 150 -- seconds: bookmarks come about every minute
local LINE_MAX <const> = 8 << 20

---@class KubernetesEvent
---@field type "ADDED"|"MODIFIED"|"DELETED"|"BOOKMARK"
---@field object table

-- A path to a single object becomes that of its list, and the query selects it.
---@param path string
---@param query? table
---@return string path
---@return table query a copy
function M.selection(path, query)
  local selected = {}
  for key, value in pairs(query or {}) do selected[key] = value end
  local name = kinds.about(path).name
  if not name then return path, selected end
  local own = "metadata.name=" .. name
  selected.fieldSelector = selected.fieldSelector and selected.fieldSelector .. "," .. own or own
  return assert(path:match("^(.*)/[^/]+$")), selected
end

-- Reads one event; nil and the error that it is, or that it makes.
local function event_of(line, context)
  local event, err = json.decode(line, { null_as_nil = true, max = LINE_MAX })
  local object = type(event) == "table" and event.object
  if type(object) ~= "table" or type(event.type) ~= "string" then
    return errors.fail("protocol", "the watch holds something that is no event",
      { op = context.op, target = context.target, cause = err })
  end
  if event.type == "ERROR" then
    return nil, failure.of_status(object, math.type(object.code) == "integer" and object.code or 500, context)
  end
  if type(object.metadata) == "table" then object.metadata.managedFields = nil end
  return event
end

-- Gives all events to fn until the end of the stream; true when it ended well.
local function pump(answer, fn, context)
  local next_line <const> = lines.reader(answer)
  while true do
    local line, more = next_line()
    if not line then
      if more then
        more.op = context.op
        return nil, more
      end
      return true
    end
    if line:find("%S") then
      local event, err = event_of(line, context)
      if not event and more == true and err.code == "protocol" then
        return errors.fail("reset", "the watch was cut in an event", { op = context.op, target = context.target })
      end
      if not event then return nil, err end
      if fn(event.type, event.object) then return true end
    end
  end
end

---Watches a list, or the one object at the path. The query says from where (resourceVersion).
---@async
---@param client KubernetesClient
---@param path string
---@param query? table
---@param fn fun(type: string, object: table): boolean? true ends it; also called for bookmarks
---@param options? {attempts?: integer, on_open: fun()?} attempts of opening it; on_open: the server accepted it
---@return true? ended well: by the server, or by fn
---@return KubernetesErr? err conflict with reason "Expired" or "Gone": list again
function M.watch(client, path, query, fn, options)
  if type(fn) ~= "function" then error("usage: client:watch(path, query, fn)", 3) end
  path, query = M.selection(path, query)
  query.watch = 1
  if query.allowWatchBookmarks == nil then query.allowWatchBookmarks = true end
  query.timeoutSeconds = query.timeoutSeconds or math.random(300, 600)
  client.counters.watches = client.counters.watches + 1
  local silence = query.timeoutSeconds + 30
  if query.allowWatchBookmarks then silence = math.min(silence, SILENCE) end
  local answer <close>, err = call.perform(client, "watch",
    { path = path, query = query, stream = true, idle_timeout = silence, attempts = options and options.attempts })
  if not answer then return nil, err end
  local context = { op = "kubernetes.watch", target = client.server .. path, method = "GET", path = path }
  if not (answer.headers["content-type"] or ""):find("^application/json") then
    return errors.fail("protocol", "the cluster answered a watch with something that is no JSON",
      { op = context.op, target = context.target })
  end
  if options and options.on_open then options.on_open() end
  local ended, broken = pump(answer, fn, context)
  return ended, broken --[[@as KubernetesErr?]]
end

return M
