-- Texts of tests and policies, made safe to print: they are of others, and may hold what moves a cursor or ends
-- a report.
local inspect = require "base.inspect"

local M = {}

local MOST <const>, LONGEST <const> = 400, 500

---A text as printable lines.
---@param text string
---@return string[]
function M.of(text)
  local lines = {}
  for line in (text .. "\n"):gmatch("(.-)\r?\n") do
    if #lines == MOST then
      lines[#lines + 1] = "..."
      return lines
    end
    lines[#lines + 1] = M.one(line)
  end
  return lines
end

---A text as one printable line.
---@param text string
---@return string
function M.one(text)
  if #text > LONGEST then text = text:sub(1, LONGEST) .. "..." end
  return inspect.printable((text:gsub("\t", "  ")))
end

---The last of many lines, each a printable one, and how many came before them.
---@param lines string[]
---@return string[]
function M.last(lines)
  local last = {}
  if #lines > MOST then last[1] = ("... %d lines before"):format(#lines - MOST) end
  for i = math.max(1, #lines - MOST + 1), #lines do last[#last + 1] = M.one(lines[i]) end
  return last
end

return M
