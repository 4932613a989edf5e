-- The words of policies about charts.
local M = { place = {}, run = {} }

local function raise(value, err)
  if value == nil then error(err, 0) end
  return value
end

---The charts that the app follows, each with what runs of it and the versions that may or may not follow.
---@async
---@param place Place
---@return FollowedChart[]
function M.place.charts(place) return raise(require("charts.follow").all(place)) end

---Makes one thing of some charts and their versions, to be released together.
---@param parts ChartPart[]
---@return Bundle
function M.place.bundle(_, parts) return raise(require("charts.bundle").make(parts)) end

return M
