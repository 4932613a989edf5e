-- A folder of scripts and their tests, and `moontide test` in it, for the tests of this folder.
local fs, proc, sys = require "fs", require "proc", require "base.sys"
local check = require "check"

local M = {}

---Makes a folder with files, which goes with the test.
---@param files table<string, string> Path to text.
---@return string dir
function M.folder(files)
  local dir = check.ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  for path, text in pairs(files) do
    local parent = path:match("^(.*)/")
    if parent then check.ok(fs.mkdir(dir.path .. "/" .. parent, { parents = true })) end
    check.ok(fs.write(dir.path .. "/" .. path, text, { sync = false }))
  end
  return dir.path
end

---Runs `moontide test` as a CI does: without a terminal, with nothing in its environment.
---@async
---@param dir string
---@param words? string[]
---@param options? table Of proc.run, besides.
---@return ProcResult
function M.run(dir, words, options)
  local argv = { sys.exe(), "test", cwd = dir, env = { LANG = "C", PATH = false }, stdin = false, timeout = 250 }
  for name, value in pairs(options or {}) do argv[name] = value end
  for _, word in ipairs(words or {}) do argv[#argv + 1] = word end
  return (check.ok(proc.run(argv)))
end

---Runs the tests of one text.
---@async
---@param text string
---@param words? string[]
---@return ProcResult result
---@return string dir
function M.text(text, words)
  local dir = M.folder { ["scripts/a_test.lua"] = text }
  return M.run(dir, words), dir
end

return M
