-- .dockerignore: what a commit keeps out of its build contexts.
--
-- docker's own client applies it, the engine's API does not; so we do, for every builder alike, as moby/patternmatcher
-- 0.6.1 does: a file is decided by the last rule that fits it or a folder above it. Lines come from outside.
local errors = require "errors"
local rule = require "images.builder.ignore_rule"
local tar = require "images.builder.tar"

local M = {}

local MAX_LINES <const> = 500

local SPACES <const> = { -- as Unicode has it, besides ASCII's
  "\u{85}", "\u{A0}", "\u{1680}", "\u{2028}", "\u{2029}", "\u{202F}", "\u{205F}", "\u{3000}",
}
for c = 0x2000, 0x200A do SPACES[#SPACES + 1] = utf8.char(c) end

local function trimmed(text)
  local before
  repeat
    before = text
    text = text:match("^%s*(.-)%s*$")
    for _, space in ipairs(SPACES) do
      if text:sub(1, #space) == space then text = text:sub(#space + 1) end
      if text ~= "" and text:sub(-#space) == space then text = text:sub(1, -#space - 1) end
    end
  until text == before
  return text
end

-- The shortest path that means the same. A ".." that is left leads out of the context, and so fits nothing.
local function cleaned(path)
  local list, rooted = {}, path:sub(1, 1) == "/"
  for name in path:gmatch("[^/]+") do
    if name == ".." and #list > 0 and list[#list] ~= ".." then
      list[#list] = nil
    elseif name ~= "." and not (name == ".." and rooted) then
      list[#list + 1] = name
    end
  end
  local whole = (rooted and "/" or "") .. table.concat(list, "/")
  return whole ~= "" and whole or "."
end

local function fault(line, text, why)
  local message = (".dockerignore:%d: the rule '%s' cannot be read: %s"):format(line, text:sub(1, 200), why)
  return errors.fail("invalid", message, { op = "image.build", line = line })
end

---Compiles a .dockerignore.
---@param text string
---@return (fun(path: string): boolean)? excluded
---@return Err? err invalid: a rule that cannot be read, with its line; too_large.
function M.compile(text)
  local rules, number = {}, 0
  for line in (text:gsub("^\xEF\xBB\xBF", "") .. "\n"):gmatch("(.-)\r?\n") do
    number = number + 1
    local words = line:sub(1, 1) ~= "#" and trimmed(line) or ""
    if words ~= "" then
      local inverted = words:sub(1, 1) == "!"
      local pattern = inverted and trimmed(words:sub(2)) or words
      if pattern ~= "" then pattern = cleaned(pattern) end
      if pattern:find("^/.") then pattern = pattern:sub(2) end
      pattern = cleaned(trimmed((inverted and "!" or "") .. pattern)) -- the library looks at it once more
      local kept = pattern:sub(1, 1) == "!"
      if kept then pattern = pattern:sub(2) end
      if pattern == "" then return fault(number, words, "there is nothing behind the '!'") end
      local matches, why = rule.compile(pattern)
      if not matches then return fault(number, words, why) end
      rules[#rules + 1] = { matches = matches, kept = kept }
      if #rules > MAX_LINES then
        return errors.fail("too_large", ("a .dockerignore with more than %d lines"):format(MAX_LINES),
          { op = "image.build" })
      end
    end
  end
  local seen = {} -- folder -> which rules fit it or a folder above it, and so everything in it
  local decide ---@type fun(path: string, fitting: table)
  local function above(path)
    local folder = path:match("^(.*)/[^/]*$")
    if not folder then return {} end
    if not seen[folder] then
      local fitting = {}
      decide(folder, fitting)
      seen[folder] = fitting
    end
    return seen[folder]
  end
  -- A rule that would change nothing is not asked, as in the library, and so says nothing about what is in a folder.
  function decide(path, fitting)
    local from, excluded = above(path), false
    for i, r in ipairs(rules) do
      local fits = from[i] or r.kept == excluded and r.matches(path)
      if fits then excluded = not r.kept end
      if fitting then fitting[i] = fits end
    end
    return excluded
  end
  return function(path) return decide(path) end
end

---Writes a context without what a .dockerignore names.
---@async
---@param text string
---@param from string The tar of the context.
---@param to string
---@param keep string The Dockerfile: a builder needs it even when it is named.
---@return integer? left_out entries
---@return Err? err
---@return_overload nil, Err
function M.apply(text, from, to, keep)
  local excluded, err = M.compile(text)
  if not excluded then return nil, err end
  return tar.filter(from, to, function(path) return path == keep or not excluded(path) end)
end

return M
