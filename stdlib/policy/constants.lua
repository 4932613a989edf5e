-- Texts of a policy that say when: a window, a schedule, a zone. Where they are constants they are judged when the file
-- is loaded, instead of when their line runs.
local M = {}

local function window(text) return select(2, require("calendar.window").read(text)) end
local function schedule(text) return select(2, require("calendar.schedule").read(text)) end
local function zone(text) return select(2, require("calendar.zone").open(text)) end

-- By the words that take them: what the arguments are, and what the keys of a table are.
local TAKES <const> = {
  ["module time:within"] = { window, zone }, ["module time:next"] = { schedule, zone },
  ["module time:last"] = { schedule, zone }, ["module time:clock"] = { zone },
  ["run:window"] = { window, table = { window, zone = zone } },
  ["place:window"] = { window, table = { window, zone = zone } },
}

---What is wrong with the constants of a call.
---@param word string "module time:within", "run:window"
---@param args any[] Texts as { text = }, tables as { items = }, anything else unknown.
---@return string? why
function M.wrong(word, args)
  local takes = TAKES[word]
  if not takes then return nil end
  local first = args[1]
  if takes.table and type(first) == "table" and first.items then takes, args = takes.table, first.items end
  for key, judge in next, takes do
    local given = args[key]
    local why = type(judge) == "function" and type(given) == "table" and given.text and judge(given.text)
    if why then return why end
  end
end

return M
