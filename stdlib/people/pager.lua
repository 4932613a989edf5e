-- The pager: a long text on a terminal is handed to the program that people read such texts with.
local sys = require "base.sys"

local M = {}

-- The file of a program in the PATH. What is relative there would mean whatever directory we happen to be in.
local function find(name)
  if name:find("/", 1, true) then return name end
  local fs = require "fs"
  for dir in (sys.env "PATH" or "/usr/local/bin:/usr/bin:/bin"):gmatch("[^:]+") do
    local path = dir .. "/" .. name
    local stat = dir:sub(1, 1) == "/" and fs.stat(path) or nil
    if stat and stat.type == "file" and stat.mode & 73 ~= 0 then return path end -- 73: executable for anybody
  end
end

-- The program and its arguments: PAGER, whose words are divided at blanks and mean nothing to a shell; else less, with
-- colours, ending by itself where one screen is enough.
local function command()
  local argv = {}
  for word in (sys.env "PAGER" or ""):gmatch("%S+") do argv[#argv + 1] = word end
  if argv[1] == nil then argv = { "less", "-FR" } end
  local path = find(argv[1])
  if path then return path, argv end
end

---Prints a text: through the pager when a person sits at the terminal, which then has the process to itself; this
---returns only when there was none.
---@async
---@param out Output
---@param text string
function M.print(out, text)
  if out.tty and not out.closed then
    local path, argv = command()
    if path then sys.become(path, argv, text) end
  end
  out:write(text)
end

return M
