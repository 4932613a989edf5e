-- "Did you mean ...?": the closest known word to a mistyped one.

local M = {}

-- Words longer than this are not typing mistakes of ours, and the distance costs their product.
local LONGEST = 64

---Counts insertions, deletions, replacements and swaps of neighbours between two words (optimal string
---alignment).
---@param a string
---@param b string
---@return integer
function M.distance(a, b)
  local before, last = {}, {}
  local row = {} ---@type table<integer, integer>
  for j = 0, #b do last[j] = j end
  for i = 1, #a do
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local d = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + cost)
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        d = math.min(d, before[j - 2] + 1)
      end
      row[j] = d
    end
    before, last, row = last, row, before
  end
  return last[#b]
end

---Finds the known word that was probably meant: a third of the letters may differ, or one starts with the
---other.
---@param word any what was written; anything but a string has no suggestion
---@param known string[]
---@return string?
function M.closest(word, known)
  if type(word) ~= "string" or word == "" or #word > LONGEST then return nil end
  local lower = word:lower()
  local best, best_distance
  for _, candidate in ipairs(known) do
    local other = candidate:lower()
    local distance
    if #candidate <= LONGEST then
      distance = M.distance(lower, other)
      local starts = #lower >= 3 and (other:sub(1, #lower) == lower or lower:sub(1, #other) == other)
      if distance > math.max(1, math.max(#lower, #other) // 3) then distance = starts and #lower + 1 or nil end
    end
    if distance and (not best or distance < best_distance or (distance == best_distance and candidate < best)) then
      best, best_distance = candidate, distance
    end
  end
  return best
end

return M
