-- Validates what a watch returned as a change: plain data of bounded size, copied as the run will read it from the
-- journal. Called by policy/load at the end of each watch.
local errors, json = require "errors", require "json"

local M = {}

local MAX_BYTES <const> = 1 << 20    -- as JSON
local MAX_VALUES <const> = 20000
local MAX_DEPTH <const> = 60         -- json.encode takes 64
local MAX_KEY <const> = 512
local MAX_TEXT <const> = 2000        -- of title, by and reason

-- Where in the change something is, for people.
local function path_of(path, key)
  if #path > 200 then return path end
  return path .. "." .. (type(key) == "string" and key:sub(1, 100) or math.type(key) and key or "?")
end

-- Counts before anything is sorted or copied; json.encode finds everything else that is no data.
local function look_through(change)
  local found, values, bytes = { { table = change, path = "", depth = 1 } }, 0, 0
  for _, at in ipairs(found) do
    for k, v in next, at.table do
      values = values + 1
      bytes = bytes + (type(k) == "string" and #k or 0) + (type(v) == "string" and #v or 0)
      if values > MAX_VALUES then return ("holds more than %d values"):format(MAX_VALUES) end
      if bytes > MAX_BYTES then return ("is larger than %d bytes"):format(MAX_BYTES) end
      if type(v) == "table" then
        local inner = { table = v, path = path_of(at.path, k), depth = at.depth + 1 }
        local name = inner.path:sub(2)
        if getmetatable(v) ~= nil and not json.is_array(v) then
          return ("holds an object at %s: take what is needed of it"):format(name)
        end
        if inner.depth > MAX_DEPTH then
          return ("is nested deeper than %d levels (a cycle?) at %s"):format(MAX_DEPTH, name)
        end
        found[#found + 1] = inner
      end
    end
  end
end

---Checks what a watch returned. Runs within the limits of the watch: the value belongs to the policy.
---@param change any
---@param file string The policy's, for messages.
---@param where string "file:line" of the watch.
---@return table? change A copy.
---@return Err? err invalid
---@return_overload nil, Err
function M.of(change, file, where)
  local function fail(message)
    return errors.fail("invalid", "watch must return " .. message, { op = "watch", target = file, where = where })
  end
  if type(change) ~= "table" or getmetatable(change) ~= nil then
    return fail "a table with a text `key`, or nil and a reason"
  end
  local complaint = look_through(change)
  if complaint then return fail("plain data of bounded size; it " .. complaint) end
  local text, err = json.encode(change, { max = MAX_BYTES })
  if not text then
    local message = err.message
    if #message > 300 then message = message:sub(1, 100) .. " ... " .. message:sub(-150) end
    return fail("plain data; in it " .. message)
  end
  local copy = json.decode(text)
  if type(copy.key) ~= "string" or copy.key == "" or #copy.key > MAX_KEY then
    return fail(("a table with a text `key` of at most %d bytes, or nil and a reason"):format(MAX_KEY))
  end
  for _, name in ipairs { "title", "by", "reason" } do
    local value = copy[name]
    if value ~= nil and (type(value) ~= "string" or #value > MAX_TEXT) then
      return fail(("a text of at most %d bytes as `%s`"):format(MAX_TEXT, name))
    end
  end
  return copy
end

return M
