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

---One topic; nil when there is none of that name.
---@param name string
---@return Topic?
function M.topic(name)
  for _, made in ipairs(MADE) do
    if made.name == name then return made end
  end
  local text = name:find("^[%w_-]+$") and sys.embedded(("config/manual/%s.md"):format(name))
  if text then return { name = name, title = text:match("^# ([^\n]*)") or name, text = text } end
end

---All topics, by name.
---@return Topic[]
function M.topics()
  local list = { table.unpack(MADE) }
  for _, path in ipairs(sys.embedded_list()) do
    local name = path:match("^config/manual/(.-)%.md$")
    if name then list[#list + 1] = M.topic(name) end
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

return M
