-- Files that `moontide init` puts into a folder: what is there stays, but for what it wrote itself.
local fs = require "fs"

local M = {}

---@class SetupFolder
---@field dir string
---@field say fun(what: "wrote"|"refreshed"|"kept", path: string, why?: string)
local Folder = {}
Folder.__index = Folder

---@param dir string
---@param say fun(what: "wrote"|"refreshed"|"kept", path: string, why?: string)
---@return SetupFolder
function M.new(dir, say) return setmetatable({ dir = dir, say = say }, Folder) end

---Writes a file that is not there.
---@async
---@param path string Below the folder.
---@param text string
---@param why? string What to say when it is there with another text.
---@return boolean wrote
function Folder:add(path, text, why)
  local whole = self.dir .. "/" .. path
  local there, err = fs.read(whole)
  if there then
    self.say("kept", path, there ~= text and (why or "it is yours") or nil)
    return false
  end
  if err.code ~= "not_found" then error(err, 0) end
  assert(fs.mkdir(whole:match("^(.*)/[^/]*$") or "/", { parents = true }))
  assert(fs.write(whole, text))
  self.say("wrote", path)
  return true
end

---Writes a folder of files which bear a mark, those that are missing or that another program wrote. Without the mark
---a file is a person's, and stays.
---@async
---@param path string Below the folder.
---@param files table<string, string> By name.
---@param mark string
function Folder:refresh(path, files, mark)
  local written, theirs, first = 0, 0, true
  assert(fs.mkdir(self.dir .. "/" .. path, { parents = true }))
  for name, text in pairs(files) do
    local whole = ("%s/%s/%s"):format(self.dir, path, name)
    local there, err = fs.read(whole)
    if not there and err.code ~= "not_found" then error(err, 0) end
    first = first and there == nil
    if there and not there:find(mark, 1, true) then
      theirs = theirs + 1
    elseif there ~= text then
      assert(fs.write(whole, text))
      written = written + 1
    end
  end
  self.say(written == 0 and "kept" or first and "wrote" or "refreshed", path,
    theirs > 0 and ("%d of its files are yours"):format(theirs) or nil)
end

return M
