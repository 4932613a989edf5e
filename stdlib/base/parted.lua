-- Large tables in parts. The collector visits a table at once, and a table that grows moves all of it at once: one with
-- 100,000 names keeps the loop for longer than a turn may take. Here no part grows far beyond a thousand fields.
--
-- Linear hashing: when the parts are full on average, the next one in order is split in two.
local sys = require "base.sys"

local M = {}

local FULL <const> = 512 -- fields of a part, on average

-- A table's state, at keys that no name can be: the parts from 1 on, and these.
local COUNT <const>, PARTS <const>, HALF <const> = -1, -2, -3

local function part_of(t, name)
  local parts = rawget(t, PARTS)
  if not parts or parts == 1 then return rawget(t, 1) end -- nil: nothing was put in yet
  local hash, half = sys.hash(name), rawget(t, HALF)
  local i = hash & (2 * half - 1)
  if i >= parts then i = hash & (half - 1) end
  return rawget(t, i + 1)
end

-- Others may read between any two of these lines: the new part is there before it counts, and the old one keeps what is
-- moved until then.
local function split(t)
  local parts, half = rawget(t, PARTS), rawget(t, HALF)
  local old, kept, moved = rawget(t, parts - half + 1), {}, {}
  for name, value in next, old do
    local into = sys.hash(name) & (2 * half - 1) == parts and moved or kept
    into[name] = value
  end
  rawset(t, parts + 1, moved)
  rawset(t, PARTS, parts + 1)
  if parts + 1 == 2 * half then rawset(t, HALF, parts + 1) end
  rawset(t, parts - half + 1, kept)
end

local meta = {}

function meta.__index(t, name)
  local part = type(name) == "string" and part_of(t, name)
  if part then return part[name] end
end

function meta.__newindex(t, name, value)
  local part = part_of(t, name)
  if not part then
    if value == nil then return end
    part = {}
    rawset(t, 1, part)
    rawset(t, COUNT, 0)
    rawset(t, PARTS, 1)
    rawset(t, HALF, 1)
  end
  if value ~= nil and part[name] == nil then
    local count = rawget(t, COUNT) + 1
    rawset(t, COUNT, count)
    if count > FULL * rawget(t, PARTS) then
      split(t)
      part = part_of(t, name)
    end
  end
  part[name] = value
end

function meta.__pairs(t)
  local i = 1
  return function(_, name)
    local value
    local parts = rawget(t, PARTS)
    if not parts then return nil end
    name, value = next(rawget(t, i), name)
    while name == nil and i < parts do
      i = i + 1
      name, value = next(rawget(t, i))
    end
    return name, value
  end, t, nil
end

---Makes a table whose keys are texts. It is used like any other: `t[name]`, `pairs(t)`; but `next` and `#` do not know
---its parts. Names that are taken out still count for how many parts there are.
---@return table<string, any>
---@nodiscard
function M.table() return setmetatable({}, meta) end

---Whether there is nothing in it.
---@param t table<string, any>
---@return boolean
function M.empty(t) return pairs(t)(t) == nil end

return M
