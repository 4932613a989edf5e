-- .dockerignore: what a commit keeps out of its build contexts.
--
-- docker's own client applies it, the engine's API does not; so we do, for every builder alike. Rules:
-- Docker's documentation of the file. Its lines come from outside: the time to match
-- them grows with pattern and path, never faster.
local errors = require "errors"
local tar = require "builder.tar"

local M = {}

local MAX_LINES <const> = 500

-- One place of a segment's pattern against a byte: true, and where the pattern goes on.
local function one(pattern, at, byte)
  local c = pattern:byte(at)
  if c == 63 then return true, at + 1 end -- ?
  if c == 92 and at < #pattern then return pattern:byte(at + 1) == byte, at + 2 end -- \x
  if c ~= 91 then return c == byte, at + 1 end -- [
  local i, negated, found = at + 1, false, false
  if pattern:byte(i) == 94 then i, negated = i + 1, true end -- ^
  local first = i
  while i <= #pattern and (pattern:byte(i) ~= 93 or i == first) do -- ]
    local low = pattern:byte(i)
    if low == 92 then low, i = pattern:byte(i + 1) or low, i + 1 end
    local high = low
    if pattern:byte(i + 1) == 45 and pattern:byte(i + 2) and pattern:byte(i + 2) ~= 93 then -- -
      high, i = pattern:byte(i + 2), i + 2
    end
    found = found or low <= byte and byte <= high
    i = i + 1
  end
  return found ~= negated, i + 1
end

-- A name against a segment's pattern. Only the last star is ever tried again, so this is quick on any input.
local function segment(pattern, name)
  local p, n, star, from = 1, 1, nil, nil
  while n <= #name do
    local fits, after
    if pattern:byte(p) == 42 then -- *
      star, from, p = p, n, p + 1
    else
      if p <= #pattern then fits, after = one(pattern, p, name:byte(n)) end
      if fits then
        p, n = after, n + 1
      elseif star then
        from = from + 1
        p, n = star + 1, from
      else
        return false
      end
    end
  end
  while pattern:byte(p) == 42 do p = p + 1 end
  return p > #pattern
end

-- A path against a pattern, both as lists of names; `**` is any number of them.
local function matches(pattern, path)
  local p, n, star, from = 1, 1, nil, nil
  while n <= #path do
    if pattern[p] == "**" then
      star, from, p = p, n, p + 1
    elseif pattern[p] and segment(pattern[p], path[n]) then
      p, n = p + 1, n + 1
    elseif star then
      from = from + 1
      p, n = star + 1, from
    else
      return false
    end
  end
  while pattern[p] == "**" do p = p + 1 end
  return p > #pattern
end

local function names(path)
  local list = {}
  for name in path:gmatch("[^/]+") do
    if name == ".." then list[#list] = nil elseif name ~= "." then list[#list + 1] = name end
  end
  return list
end

---Compiles a .dockerignore.
---@param text string
---@return (fun(path: string): boolean)? excluded
---@return Err? err
function M.compile(text)
  local rules = {}
  for line in text:gsub("^\xEF\xBB\xBF", ""):gmatch("[^\r\n]+") do
    local words = line:sub(1, 1) ~= "#" and line:match("^%s*(.-)%s*$") or ""
    local kept = words:sub(1, 1) == "!"
    local pattern = names(kept and words:sub(2):gsub("^%s+", "") or words)
    if #pattern > 0 then rules[#rules + 1] = { pattern = pattern, kept = kept } end
    if #rules > MAX_LINES then
      return errors.fail("too_large", ("a .dockerignore with more than %d lines"):format(MAX_LINES),
        { op = "image.build" })
    end
  end
  local seen = {} -- folder -> which rules match it, and so everything in it
  local function hits(path)
    if seen[path] then return seen[path] end
    local above = path:match("^(.*)/[^/]*$")
    local from, list, found = above and hits(above) or {}, names(path), {}
    for i, rule in ipairs(rules) do found[i] = from[i] or matches(rule.pattern, list) end
    if not seen[path] then seen[path] = found end
    return found
  end
  return function(path)
    local above = path:match("^(.*)/[^/]*$")
    local from, list = above and hits(above) or {}, names(path)
    for i = #rules, 1, -1 do -- the last one that matches decides
      if from[i] or matches(rules[i].pattern, list) then return not rules[i].kept end
    end
    return false
  end
end

---Writes a context without what a .dockerignore names.
---@async
---@param text string
---@param from string The tar of the context.
---@param to string
---@param keep string The Dockerfile: a builder needs it even when it is named.
---@return integer? left_out entries
---@return Err? err
function M.apply(text, from, to, keep)
  local excluded, err = M.compile(text)
  if not excluded then return nil, err end
  return tar.filter(from, to, function(path) return path == keep or not excluded(path) end)
end

return M
