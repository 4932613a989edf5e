-- The words of policies, place:NAME() and run:NAME(): which are the program's own, and those that extensions add.
local extensions = require "extensions"

local M = {}

local PLACE <const> = {
  "head", "tags", "current", "found", "allows", "failed", "refuse", "alarm", "bad_release", "good_before",
  "frozen", "branches", "commits", "of", "proved",
}
local RUN <const> = {
  "image", "release", "restore", "metric", "mark_bad", "good_before", "overtaken", "hold", "notify", "log", "sleep",
  "now", "all", "step",
}

---Words that no extension may take.
---@type table<string, true>
M.own = {}
for _, list in ipairs { PLACE, RUN } do
  for _, name in ipairs(list) do M.own[name] = true end
end

-- The methods of a class that are words, and those of extensions.
local function words(kind, class, names)
  local methods = require("base.facade").methods(class, names)
  for _, entry in ipairs(extensions.all "word") do
    if entry[kind] then methods[entry.name] = extensions.live("word", entry.name, kind) end
  end
  return methods
end

---@param class table
---@return table<string, function>
function M.of_place(class) return words("place", class, PLACE) end

---@param class table
---@return table<string, function>
function M.of_run(class) return words("run", class, RUN) end

return M
