-- Results as TAP 14, with a last line `N passed, N failed`.
local lines = require "testing.lines"

local M = {}

---@class TapReport
---@field out Output
---@field count integer
---@field failed integer
---@field file? string The one whose tests come.
local Report = {}
Report.__index = Report

-- A value of a diagnostic block; what is of several lines is a literal block.
local function yaml(out, key, value)
  if #value == 1 then
    out:line(("  %s: '%s'"):format(key, (value[1]:gsub("'", "''"))))
  else
    out:line(("  %s: |2-"):format(key))
    for _, line in ipairs(value) do out:line("    " .. line) end
  end
end

---@param out Output
---@return TapReport
function M.new(out)
  out:line "TAP version 14"
  return setmetatable({ out = out, count = 0, failed = 0 }, Report)
end

---Writes one result.
---@param result TestResult
function Report:add(result)
  local out = self.out
  if result.file ~= self.file then
    self.file = result.file
    out:line("# " .. lines.one(result.file))
  end
  self.count = self.count + 1
  local name = result.name:gsub("[\\#]", "\\%0")
  local verdict = result.ok and out:paint("green", "ok") or out:paint("red", "not ok")
  local said = result.said and (" (%s)"):format(result.said) or ""
  out:line(("%s %d - %s%s"):format(verdict, self.count, name, said))
  local failure = result.failure
  if not failure then return end
  self.failed = self.failed + 1
  out:line "  ---"
  yaml(out, "message", failure.message)
  if failure.where then yaml(out, "at", { failure.where }) end
  if failure.expected then yaml(out, "expected", failure.expected) end
  if failure.got then yaml(out, "got", failure.got) end
  if failure.story and #failure.story > 0 then yaml(out, "story", failure.story) end
  out:line "  ..."
end

---Writes the plan and the last line.
function Report:finish()
  self.out:line(("1..%d"):format(self.count))
end

---The last line.
function Report:summary()
  local text = ("%d passed, %d failed"):format(self.count - self.failed, self.failed)
  self.out:line(self.out:paint(self.failed > 0 and "red" or "green", text))
end

return M
