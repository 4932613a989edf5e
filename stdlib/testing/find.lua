-- Which files are tests: those that are named, or all NAME_test.lua below the scripts folder.
local fs = require "fs"

local M = {}

---@class TestFile
---@field path string As it is shown.
---@field scripts string The folder of the policies that it tests.

-- Names that begin with a dot are none of the user's: version control, editors, a mounted ConfigMap's own folders.
local function tests_below(folder)
  local found = {}
  for name in fs.walk(folder) do
    local hidden = ("/" .. name):find("/.", 1, true)
    if name:find("_test%.lua$") and not hidden then found[#found + 1] = folder .. "/" .. name end
  end
  table.sort(found)
  return found
end

local function is(kind, path)
  local stat = fs.stat(path, { follow = true })
  return stat ~= nil and stat.type == kind
end

-- The files that one word names: a file, the policy that a test is of, a folder, or a policy's name.
local function named(word, scripts)
  if is("dir", word) then return tests_below((word:gsub("(.)/+$", "%1"))) end
  local stem = word:gsub("%.lua$", "")
  for _, path in ipairs { stem .. "_test.lua", scripts .. "/" .. stem .. "_test.lua", word, scripts .. "/" .. word } do
    if is("file", path) then return { path } end
  end
end

-- Policies are found in the folder that they lie in, shared modules from the scripts folder on: a folder of recipes is
-- a scripts folder of its own.
local function folder_of(path, scripts)
  local tested = fs.read((path:gsub("_test%.lua$", ".lua")))
  local of_policy = tested and tested:find("return%s+policy%f[^%w_]")
  if not of_policy and path:sub(1, #scripts + 1) == scripts .. "/" then return scripts end
  return path:match("^(.*)/[^/]*$") or "."
end

---Finds test files.
---@async
---@param words string[] None: all of the scripts folder.
---@param scripts string
---@return TestFile[]? files
---@return string? problem
---@return_overload nil, string
function M.files(words, scripts)
  local files, seen = {}, {}
  local function add(path)
    if seen[path] then return end
    seen[path] = true
    files[#files + 1] = { path = path, scripts = folder_of(path, scripts) }
  end
  if #words == 0 then words = { scripts } end
  for _, word in ipairs(words) do
    local paths = named(word, scripts)
    if not paths then
      if word == scripts then
        return nil, ("there is no folder %s: name the tests, or the folder with --scripts DIR"):format(word)
      end
      local stem = word:gsub("%.lua$", "")
      return nil, ("there is no test %s: neither that file nor %s/%s_test.lua"):format(word, scripts, stem)
    end
    if #paths == 0 then
      return nil, ("there is no test below %s: the tests of NAME.lua are NAME_test.lua beside it "
        .. "(moontide help test shows one)"):format(word)
    end
    for _, path in ipairs(paths) do add(path) end
  end
  return files
end

return M
