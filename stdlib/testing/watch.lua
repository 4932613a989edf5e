-- Tests again when a script was saved: the folders are looked at now and then, so that it works on every file system,
-- and what is being saved is waited for until it has settled.
local fs, time = require "fs", require "time"

local M = {}

local EVERY <const>, SETTLED <const> = 0.3, 2 -- seconds; looks without a change

-- What the Lua files below some folders look like from outside: their sizes and times.
local function look(folders)
  local parts = {}
  for _, folder in ipairs(folders) do
    local fine = pcall(function()
      for name in fs.walk(folder) do
        local hidden = ("/" .. name):find("/.", 1, true)
        local stat = name:find("%.lua$") and not hidden and fs.stat(folder .. "/" .. name) or nil
        if stat then
          parts[#parts + 1] = ("%s/%s %d %d %.6f"):format(folder, name, stat.inode, stat.size, stat.mtime)
        end
      end
    end)
    if not fine then parts[#parts + 1] = folder .. " is not there" end -- while it is replaced
  end
  return table.concat(parts, "\n")
end

---Calls `run` now, and again whenever a Lua file below the folders has changed and settled. Never returns.
---@async
---@param folders string[]
---@param run fun()
function M.run(folders, run)
  while true do
    local before = look(folders)
    run()
    local now, still = before, 0
    while now == before or still < SETTLED do
      time.sleep(EVERY)
      local found = look(folders)
      still = found == now and still + 1 or 0
      now = found
    end
  end
end

return M
