-- The floor of host/ knows no Lua. A header stands above the floor when it includes a header of Lua itself, a .c file
-- when the header that it includes first does (its own, or the one that it shares with its siblings). Every other file
-- is of the floor: nothing that it includes, however deep, may lead to Lua.
local floor = {}

local function included(line) return line:match('^%s*#%s*include%s+"([%w_]+%.h)"') end

local function names_lua(line) return line:find("^%s*#%s*include%s+<l[ua]%l+%.h>") ~= nil end

local function has_lua(lines)
  for _, line in ipairs(lines or {}) do
    if names_lua(line) then return true end
  end
  return false
end

---Whether a file stands on the floor. `sources` are the lines of each file by its name (`serve.c`).
function floor.holds(sources, name)
  if name:find("%.h$") then return not has_lua(sources[name]) end
  for _, line in ipairs(sources[name]) do
    local header = included(line)
    if header then return not has_lua(sources[header]) end
  end
  return not has_lua(sources[name])
end

-- The way from a file to Lua, as a text ("host.h, lua.h"), or nil.
local function way(sources, name, seen)
  if seen[name] then return nil end
  seen[name] = true
  for _, line in ipairs(sources[name] or {}) do
    if names_lua(line) then return line:match "<(.-)>" end
    local header = included(line)
    local rest = header and way(sources, header, seen)
    if rest then return header .. ", " .. rest end
  end
end

---What breaks the rule: a list of `{ name, line, text }`.
function floor.faults(sources)
  local list = {}
  for name, lines in pairs(sources) do
    if floor.holds(sources, name) then
      for i, line in ipairs(lines) do
        local header = included(line)
        local rest = header and way(sources, header, { [name] = true })
        if names_lua(line) or rest then
          local leads = rest and header .. ", " .. rest or line:match "<(.-)>"
          list[#list + 1] = { name, i, "of the floor, which knows no Lua, and leads to it: " .. leads }
        end
      end
    elseif table.concat(lines, " ", 1, math.min(#lines, 12)):find "[Kk]nows no Lua" then
      list[#list + 1] = { name, 1, "says that it knows no Lua, and stands above the floor" }
    end
  end
  table.sort(list, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
  return list
end

return floor
