-- Leaves entries out of a tar file, for contexts of builds. Everything else keeps its bytes.
--
-- Knows what git writes: ustar headers, pax records before them for long names and for the whole. Rules:
-- POSIX pax.
local errors, fs = require "errors", require "fs"

local M = {}

local BLOCK <const>, PIECE <const> = 512, 4 << 20
local MAX_RECORDS <const> = 1 << 20

local function broken(path, why)
  return errors.fail("protocol", "the tar " .. why, { op = "tar", target = path })
end

-- A window on a file, so that a small entry costs no call of its own.
---@return fun(at: integer, length: integer): string?, Err?
local function reader(path, size)
  local text, start = "", 0
  ---@param at integer
  ---@param length integer
  return function(at, length)
    if at + length > size then return broken(path, "ends early") end
    if at < start or at + length > start + #text then
      local read, err = fs.read(path, { offset = at, length = math.min(math.max(length, PIECE), size - at) })
      if not read then return nil, err end
      text, start = read, at
    end
    return text:sub(at - start + 1, at - start + length)
  end
end

---A number in a header's field; nil when it is none.
---@param field string
---@return integer?
function M.number(field)
  local digits = field:match("^ *([0-7]+)[ \0]*$")
  return digits and tonumber(digits, 8)
end

local function until_nul(field) return field:match("^[^\0]*") end

---The path in pax records, nil when they say nothing of it.
---@param records string
---@return string?
function M.pax_path(records)
  local at, path = 1, nil
  while at <= #records do
    local length = math.tointeger(tonumber(records:match("^(%d+) ", at)))
    if not length or length < 5 or at + length - 1 > #records then break end
    local key, value = records:sub(at, at + length - 2):match("^%d+ ([^=]+)=(.*)$")
    if key == "path" then path = value end
    at = at + length
  end
  return path
end

-- Goes through the entries; calls each(path, first, after) with the bytes that belong to it.
local function entries(file, size, read, each)
  local at, began, long = 0, 0, nil
  while at < size do
    local head, err = read(at, BLOCK)
    if not head then return nil, err end
    if head:find("^\0+$") then break end
    local length, kind = M.number(head:sub(125, 136)), head:sub(157, 157)
    if not length then return broken(file, "has an entry without a size") end
    local after = at + BLOCK + (length + BLOCK - 1) // BLOCK * BLOCK
    if kind == "x" then
      if length > MAX_RECORDS then return broken(file, "has endless records") end
      local records
      records, err = read(at + BLOCK, length)
      if not records then return nil, err end
      long = M.pax_path(records) or long
    else
      local prefix = until_nul(head:sub(346, 500))
      local path = long or (prefix ~= "" and prefix .. "/" or "") .. until_nul(head:sub(1, 100))
      each(kind ~= "g" and path:gsub("^%./", ""):gsub("/+$", "") or nil, began, after)
      began, long = after, nil
    end
    at = after
  end
  return began
end

local function copy(read, ranges, to)
  local ok, err = fs.write(to, "", { sync = false })
  if not ok then return nil, err end
  for _, range in ipairs(ranges) do
    for at = range.first, range.after - 1, PIECE do
      local piece
      piece, err = read(at, math.min(PIECE, range.after - at))
      if not piece then return nil, err end
      ok, err = fs.append(to, piece)
      if not ok then return nil, err end
    end
  end
  return fs.append(to, ("\0"):rep(2 * BLOCK))
end

---Copies a tar without the entries that keep() refuses.
---@async
---@param from string
---@param to string
---@param keep fun(path: string): boolean Of folders without the slash at the end.
---@return integer? left_out
---@return Err? err
---@return_overload nil, Err
function M.filter(from, to, keep)
  local stat, err = fs.stat(from)
  if not stat then return nil, err end
  local read, ranges, left_out = reader(from, stat.size), {}, 0
  local ok
  ok, err = entries(from, stat.size, read, function(path, first, after)
    local last = ranges[#ranges]
    if path and not keep(path) then
      left_out = left_out + 1
    elseif last and last.after == first then
      last.after = after
    else
      ranges[#ranges + 1] = { first = first, after = after }
    end
  end)
  if not ok then return nil, err end
  ok, err = copy(read, ranges, to)
  return ok and left_out, err
end

return M
