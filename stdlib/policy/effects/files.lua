-- Files of policies: each app has a folder of its own, and nothing else on the machine is theirs.
local fs = require "fs"

local M = {}

-- Where the options stand among the arguments of a function of fs.
local OPTIONS_AT <const> = {
  read = 2, list = 2, stat = 2, exists = 2, write = 3, append = 3, mkdir = 2, remove = 2, rename = 3,
}

---Makes a function of fs work below the folder of the calling app.
---@param fname string
---@param fn function
---@param asking fun(name: string): Context
---@return function
function M.rooted(fname, fn, asking)
  return function(...)
    local args = table.pack(...) ---@type table
    local root = assert(asking("fs." .. fname).place):folder()
    local at, options = OPTIONS_AT[fname] --[[@as integer]], {}
    for k, v in next, type(args[at]) == "table" and args[at] or {} do options[k] = v end
    options.root = root
    args[at] = options
    return fn(table.unpack(args, 1, math.max(args.n, at)))
  end
end

---How long a file is before something is appended to it.
---@async
---@param place Place
---@param path any
---@return integer bytes
function M.size(place, path)
  local found = type(path) == "string" and place.world.module("fs").stat(path, { root = place:folder() })
  return found and found.size or 0
end

-- What a change that may have happened before a crash still has to do.
local AGAIN <const> = {
  mkdir = function(_, call) -- it is there
    local done, err = call()
    if not done and err.code == "exists" then return true end
    return done, err
  end,
  remove = function(_, call) -- it is gone
    local done, err = call()
    if not done and err.code == "not_found" then return true end
    return done, err
  end,
  rename = function(place, call, args) -- it is there by its new name
    local done, err = call()
    if done or err.code ~= "not_found" then return done, err end
    if place.world.module("fs").exists(args[2], { root = place:folder() }) then return true end
    return done, err
  end,
  append = function(place, call, args, before) -- all of it, or a part, stands where the file ended
    local data = args[2]
    if type(args[1]) ~= "string" or type(data) ~= "string" then return call() end
    local part = { root = place:folder(), offset = before, length = #data }
    local tail = place.world.module("fs").read(args[1], part) or ""
    if tail == data then return true end
    if tail ~= "" and data:sub(1, #tail) == tail and M.size(place, args[1]) == before + #tail then
      args = table.move(args, 1, args.n, 1, { n = args.n })
      args[2] = data:sub(#tail + 1)
    end
    return call(args)
  end,
}

---Repeats a change whose outcome is unknown.
---@async
---@param place Place
---@param fname string
---@param fn function Rooted.
---@param args table Packed.
---@param before? integer The file's length then.
---@return true? done
---@return Err? err
---@return_overload nil, Err
function M.again(place, fname, fn, args, before)
  local function call(others)
    local with = others or args
    return fn(table.unpack(with, 1, with.n))
  end
  if not AGAIN[fname] then return call() end
  return AGAIN[fname](place, call, args, before)
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
