-- What a plan cannot know: digests of images that are not built yet, and what comes after a step that only a run
-- performs.
local errors = require "errors"

local M = {}

---What stands for a digest that is known only when the image was built.
M.UNBUILT = "sha256:(known when it is built)"

---Whether a digest, or an image by digest, is not known yet.
---@param digest? string
---@return boolean
function M.unbuilt(digest) return digest ~= nil and digest:find(M.UNBUILT, 1, true) ~= nil end

---Raised by a planner: no plan can see past this step.
---@param what string What decides what comes next, in words.
function M.unseen(what)
  error(errors.new("unsupported", "plan cannot see past this: " .. what, { op = "plan", unseen = true }), 0)
end

return M
