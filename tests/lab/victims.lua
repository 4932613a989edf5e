-- Starts labs in processes of their own that a test can kill.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
local json, proc, sys = require "json", require "proc", require "base.sys"
local lab = require "lab"

local M = {}

local function argv_of(kind)
  return { sys.exe(), "exec", "tests/one.lua", "tests/lab/victim.lua", kind, env = lab.env() }
end

---Starts one and waits until it said what it has.
---@async
---@param kind "plain"|"cage"
---@return any handle
---@return table said
function M.start(kind)
  local handle = assert(proc.spawn(argv_of(kind)))
  local text = {}
  for line in handle:lines() do
    if line:sub(1, 1) == "{" then return handle, assert(json.decode(line)) end
    text[#text + 1] = line
  end
  error("the victim ended early: " .. table.concat(text, "\n"))
end

---Opens and closes a lab, which sweeps what killed ones left.
---@async
function M.sweep()
  lab.run(argv_of "sweep")
end

return M
