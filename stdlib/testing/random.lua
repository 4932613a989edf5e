-- Random numbers of a seed: the same everywhere and for ever (splitmix64).
local M = {}

---@class TestRandom
---@field state integer
local Random = {}
Random.__index = Random

---@param seed integer
---@return TestRandom
function M.new(seed) return setmetatable({ state = seed }, Random) end

---A whole number from 1 to `most`.
---@param most integer
---@return integer
function Random:upto(most)
  self.state = self.state + 0x9e3779b97f4a7c15
  local z = self.state
  z = (z ~ (z >> 30)) * 0xbf58476d1ce4e5b9
  z = (z ~ (z >> 27)) * 0x94d049bb133111eb
  z = z ~ (z >> 31)
  return (z >> 1) % most + 1
end

---One of a list.
---@generic T
---@param list T[]
---@return T
function Random:of(list) return list[self:upto(#list)] end

---One of a list of pairs of a weight and a value.
---@param weighted {[1]: integer, [2]: any}[]
---@return any
function Random:weighted(weighted)
  local total = 0
  for _, pair in ipairs(weighted) do total = total + pair[1] end
  local at = self:upto(total)
  for _, pair in ipairs(weighted) do
    at = at - pair[1]
    if at <= 0 then return pair[2] end
  end
end

return M
