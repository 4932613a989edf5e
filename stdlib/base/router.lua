---Routes as a tree over the parts of a path; plain parts win over :names.
local target = require "base.request_target"

local M = {}

local USAGE = 'a route is "METHOD /path/:name", and its value a function'

local function parts_of(path)
  local parts = {}
  for part in (path:sub(2) .. "/"):gmatch("([^/]*)/") do parts[#parts + 1] = part end
  return parts
end

local function add(tree, route, value)
  local method, path = tostring(route):match("^(%u+) (/%S*)$")
  if not method then error(USAGE .. ": " .. tostring(route), 4) end
  local node, names = tree, {}
  for _, part in ipairs(parts_of(path)) do
    local name = part:match("^:([%a_][%w_]*)$")
    if part:sub(1, 1) == ":" and not name then error(USAGE .. ": " .. route, 4) end
    if name then
      names[#names + 1] = name
      node.any = node.any or { plain = {} }
      node = node.any
    else
      node.plain[part] = node.plain[part] or { plain = {} }
      node = node.plain[part]
    end
  end
  node.methods = node.methods or {}
  if node.methods[method] then error("two routes for " .. method .. " " .. path, 4) end
  node.methods[method] = { value = value, names = names }
end

-- The node for parts[i..] and what the :names on the way matched.
local function find(node, parts, i, values)
  if i > #parts then return node.methods and node, values end
  local part = target.unescape(parts[i])
  local below = node.plain[part]
  if below then
    local found = find(below, parts, i + 1, values)
    if found then return found, values end
  end
  if node.any and part ~= "" then
    local count = #values
    values[count + 1] = part
    local found = find(node.any, parts, i + 1, values)
    if found then return found, values end
    for k = #values, count + 1, -1 do values[k] = nil end
  end
end

local function allowed(methods)
  local names = {}
  for name in pairs(methods) do names[#names + 1] = name end
  table.sort(names)
  return names
end

---@class RouteTable
---@field package tree table
local RouteTable = {}
RouteTable.__index = RouteTable

---What is registered for a request; its `params` then hold what the :names matched.
---@param request {method: string, path: string, params?: table<string, string>}
---@return any? value nil: nothing.
---@return string[]? methods What the path is there for: { "GET" }. nil: no such path.
function RouteTable:find(request)
  local node, values = find(self.tree, parts_of(request.path), 1, {})
  if not node then return nil end
  local entry = node.methods[request.method] or (request.method == "HEAD" and node.methods.GET)
  if not entry then return nil, allowed(node.methods) end
  request.params = request.params or {}
  for i, name in ipairs(entry.names) do request.params[name] = values[i] end
  return entry.value
end

---Routes as a table of "METHOD /path/:name" to anything.
---@param ... table<string, any> Several tables count as one; a route that is in two of them is an error.
---@return RouteTable
function M.table(...)
  local tree = { plain = {} }
  for _, routes in ipairs { ... } do
    for route, value in pairs(routes) do add(tree, route, value) end
  end
  return setmetatable({ tree = tree }, RouteTable)
end

---Makes a handler; see serve.router.
---@param routes table<string, function>
---@return function
function M.make(routes)
  if type(routes) ~= "table" then error("usage: serve.router{ [route] = handler }", 3) end
  for route, handler in pairs(routes) do
    if type(handler) ~= "function" then error(USAGE .. ": " .. tostring(route), 3) end
  end
  local all = M.table(routes)
  return function(request)
    local handler, methods = all:find(request)
    if handler then return (handler --[[@as serve.Handler]])(request) end
    if not methods then return { status = 404, body = "nothing is here\n" } end
    if all:find { method = "HEAD", path = request.path } and methods[#methods] ~= "HEAD" then
      methods[#methods + 1] = "HEAD"
      table.sort(methods)
    end
    local words = table.concat(methods, ", ")
    return { status = 405, headers = { Allow = words }, body = "use " .. words .. "\n" }
  end
end

return M
