-- Files of policies: each app has a folder of its own, and nothing else on the machine is theirs.
local fs = require "fs"

local M = {}

-- Where the options stand among the arguments of a function of fs.
local OPTIONS_AT <const> = {
  read = 2, list = 2, stat = 2, exists = 2, write = 3, append = 3, mkdir = 2, remove = 2, rename = 3,
}

---Makes a function of fs work below the folder of whoever asks.
---@param fname string
---@param fn function
---@param asking fun(name: string): Context
---@return function
function M.rooted(fname, fn, asking)
  return function(...)
    local args = table.pack(...)
    local root = asking("fs." .. fname).place:folder()
    local at, options = OPTIONS_AT[fname], {}
    for k, v in next, type(args[at]) == "table" and args[at] or {} do options[k] = v end
    options.root = root
    args[at] = options
    return fn(table.unpack(args, 1, math.max(args.n, at)))
  end
end

---The whole path of a file in the folder of an app; raises for what leads out of it.
---@async
---@param place Place
---@param name string
---@param what string For messages.
---@return string path
function M.below(place, name, what)
  local path, err = fs.join(place:folder(), name)
  if not path then
    error(("%s is a file in the app's own folder, such as \"reports/last.json\": %s"):format(what, err.message), 4)
  end
  return path
end

return M
