-- Days of the Gregorian calendar, as numbers: 0 is 1970-01-01.

local M = {}

---@param year integer
---@param month integer
---@param day integer
---@return integer days
function M.days(year, month, day)
  local y = month <= 2 and year - 1 or year -- years that begin in March: the leap day is their last
  local era, of_year = y // 400, (153 * ((month + 9) % 12) + 2) // 5 + day - 1
  local of_era = y % 400
  return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
end

---@param days integer
---@return integer year
---@return integer month
---@return integer day
function M.civil(days)
  local shifted = days + 719468
  local era, of_era = shifted // 146097, shifted % 146097
  local year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
  local of_year = of_era - (365 * year + year // 4 - year // 100)
  local month = (5 * of_year + 2) // 153
  local day = of_year - (153 * month + 2) // 5 + 1
  month = (month + 2) % 12 + 1
  return era * 400 + year + (month <= 2 and 1 or 0), month, day
end

---@param days integer
---@return integer weekday 1 is Monday.
function M.weekday(days) return (days + 3) % 7 + 1 end

---@param year integer
---@param month integer
---@return integer
function M.days_in(year, month)
  return M.days(month == 12 and year + 1 or year, month % 12 + 1, 1) - M.days(year, month, 1)
end

return M
