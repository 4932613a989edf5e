--- Routes as a tree over the parts of a path; plain parts win over :names.
local target = require "base.request_target"

local M = {}

local USAGE = 'a route is "METHOD /path/:name", and its value a function'

local function parts_of(path)
  local parts = {}
  for part in (path:sub(2) .. "/"):gmatch("([^/]*)/") do parts[#parts + 1] = part end
  return parts
end

local function add(tree, route, handler)
  local method, path = tostring(route):match("^(%u+) (/%S*)$")
  if not method or type(handler) ~= "function" then error(USAGE .. ": " .. tostring(route), 3) end
  local node, names = tree, {}
  for _, part in ipairs(parts_of(path)) do
    local name = part:match("^:([%a_][%w_]*)$")
    if part:sub(1, 1) == ":" and not name then error(USAGE .. ": " .. route, 3) end
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
  if node.methods[method] then error("two routes for " .. method .. " " .. path, 3) end
  node.methods[method] = { handler = handler, names = names }
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
  if methods.GET and not methods.HEAD then names[#names + 1] = "HEAD" end
  table.sort(names)
  return table.concat(names, ", ")
end

--- Makes a handler; see serve.router.
---@param routes table<string, function>
---@return function
function M.make(routes)
  if type(routes) ~= "table" then error("usage: serve.router{ [route] = handler }", 3) end
  local tree = { plain = {} }
  for route, handler in pairs(routes) do add(tree, route, handler) end
  return function(request)
    local node, values = find(tree, parts_of(request.path), 1, {})
    if not node then return { status = 404, body = "nothing is here\n" } end
    local entry = node.methods[request.method] or (request.method == "HEAD" and node.methods.GET)
    if not entry then
      local methods = allowed(node.methods)
      return { status = 405, headers = { Allow = methods }, body = "use " .. methods .. "\n" }
    end
    for i, name in ipairs(entry.names) do request.params[name] = values[i] end
    return entry.handler(request)
  end
end

return M
