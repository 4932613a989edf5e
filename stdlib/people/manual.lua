-- The manual: its topics are the pages of config/manual, which are part of the program, and the references that the
-- program prints from its own tables.
local sys = require "base.sys"

local M = {}

---@class Topic
---@field name string
---@field title string
---@field text? string Markdown; nil: the program makes it (config, words).

local MADE <const> = {
  { name = "config", title = "Configuration: every key" },
  { name = "words", title = "Words: what policies and tests may call" },
}

---The recipes: policies to begin with, each with what it is for.
---@return {name: string, doc: string}[]
function M.recipes()
  local list = {}
  for _, path in ipairs(sys.embedded_list()) do
    local name = path:match("^scripts/recipes/([%w_-]+)%.lua$")
    if name and not name:find("_test$") then
      local comment = {}
      for line in assert(sys.embedded(path)):gmatch("([^\n]*)\n") do
        local text = line:match("^%-%-%s*(.*)$")
        if not text or text == "" then break end
        comment[#comment + 1] = text
      end
      local doc = table.concat(comment, " ")
      list[#list + 1] = { name = name, doc = doc:match("^(.-%.) %u") or doc }
    end
  end
  return list
end

-- The page, and all recipes.
local function recipes_page(page)
  local lines = {
    page or "# Recipes\n\nPolicies to begin with: `moontide init --recipe NAME` copies one, with its test.\n",
  }
  lines[#lines + 1] = "| recipe | what it does |\n|---|---|"
  for _, recipe in ipairs(M.recipes()) do
    lines[#lines + 1] = ("| %s | %s |"):format(recipe.name, recipe.doc:gsub("|", "\\|"))
  end
  return table.concat(lines, "\n") .. "\n"
end

---One topic; nil when there is none of that name.
---@param name string
---@return Topic?
function M.topic(name)
  for _, made in ipairs(MADE) do
    if made.name == name then return made end
  end
  local text = name:find("^[%w_-]+$") and sys.embedded(("config/manual/%s.md"):format(name))
  if name == "recipes" then text = recipes_page(text) end
  if text then return { name = name, title = text:match("^# ([^\n]*)") or name, text = text } end
end

---All topics, by name.
---@return Topic[]
function M.topics()
  local list = { assert(M.topic "recipes") } ---@type Topic[]
  table.move(MADE, 1, #MADE, 2, list)
  for _, path in ipairs(sys.embedded_list()) do
    local name = path:match("^config/manual/(.-)%.md$")
    if name and name ~= "recipes" then list[#list + 1] = M.topic(name) end
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

return M
