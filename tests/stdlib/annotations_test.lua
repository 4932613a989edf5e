-- Every public function of the stdlib says in its source, right above its definition, what it does and with which
-- types: editors, and the authors of policies, know nothing else of it. Methods that are nobody else's business say
-- `---@private` there.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, sys = require "fs", require "base.sys"
local test, eq, ok = check.test, check.eq, check.ok

local function lines_of(path)
  local lines = {}
  for line in (assert(sys.embedded(path)) .. "\n"):gmatch("(.-)\n") do lines[#lines + 1] = line end
  return lines
end

local sources = {}
for _, path in ipairs(sys.embedded_list()) do
  if path:find("^stdlib/") then sources[path] = lines_of(path) end
end

-- The block of `---` lines right above line `at`, as one text.
local function docs_above(lines, at)
  local from = at
  while from > 1 and lines[from - 1]:find("^%s*%-%-%-") do from = from - 1 end
  return table.concat(lines, "\n", from, at - 1)
end

-- Names that stand for a module's own table, a class, or a room of methods that another module takes over.
local function public_tables(lines)
  local names = { M = true }
  local pending = false
  for _, line in ipairs(lines) do
    if line:find("^%-%-%-@class ") then
      pending = true
    elseif line:sub(1, 3) ~= "---" then
      local name = line:match("^local ([%a_][%w_]*)")
      if pending and name then names[name] = true end
      pending = false
    end
    local returned = line:match("^return ([%a_][%w_]*)$") or line:match("__index = ([%a_][%w_]*)")
    if returned then names[returned] = true end
    local class = line:match("^([%a_][%w_]*)%.__index = ")
    if class then names[class] = true end
  end
  return names
end

local function has_param(docs, name)
  return docs:find("%-%-%-@param " .. name .. "%f[^%w_]") ~= nil
end

-- What is missing above one definition, or nil.
local function fault_of(docs, arguments)
  if docs == "" then return "no docstring" end
  if docs:find("---@private", 1, true) or docs:find("---@overload", 1, true) or docs:find("---@type", 1, true) then
    return nil
  end
  for name in arguments:gmatch("[%a_][%w_]*") do
    if name ~= "_" and name ~= "self" and not has_param(docs, name) then return "no ---@param " .. name end
  end
end

local function faults_of(path, lines)
  local faults, tables = {}, public_tables(lines)
  for at, line in ipairs(lines) do
    local owner, name, arguments = line:match("^function ([%a_][%w_%.]*)[.:]([%a_][%w_]*)%((.-)%)")
    if not owner then
      owner, name, arguments = line:match("^([%a_][%w_]*)%.([%a_][%w_]*) = function%((.-)%)")
    end
    if owner and tables[owner:match("^[^.]+")] and name:sub(1, 2) ~= "__" then
      local fault = fault_of(docs_above(lines, at), arguments)
      if fault then faults[#faults + 1] = ("%s:%d: %s: %s"):format(path, at, name, fault) end
    end
  end
  return faults
end

test("every definition of a public function or method has its docstring and its parameters' types", function()
  local faults, files = {}, 0
  for path, lines in pairs(sources) do
    files = files + 1
    table.move(faults_of(path, lines), 1, 1000, #faults + 1, faults)
  end
  ok(files > 50)
  table.sort(faults)
  eq(table.concat(faults, "\n"), "")
end)

-- Whether a line gives this name to a function of the module.
local function defines(line, name)
  return line:find("^%s*function [%a_][%w_]*[.:]" .. name .. "%s*%(") or line:find("^M%." .. name .. " =")
    or line:find("^local function " .. name .. "%s*%(")
end

-- Whether the table that the module returns has a type of its own, which tells of its fields.
local function is_typed(lines)
  for at, line in ipairs(lines) do
    if line:find("^return {") then return docs_above(lines, at):find("---@type", 1, true) ~= nil end
  end
  return false
end

test("every function in the table of a module has a docstring where the module defines it", function()
  local faults, modules, functions = {}, 0, 0
  for path, lines in pairs(sources) do
    local name = path:match("^stdlib/(.+)%.lua$"):gsub("/init$", ""):gsub("/", ".")
    -- The tests' own files hide the modules of the same name.
    local loaded, module = false, nil
    if not fs.exists("tests/" .. name .. ".lua") and not is_typed(lines) then loaded, module = pcall(require, name) end
    if loaded and type(module) == "table" then
      modules = modules + 1
      for key, value in pairs(module) do
        if type(key) == "string" and type(value) == "function" and key:sub(1, 2) ~= "__" then
          functions = functions + 1
          local documented = false
          for at, line in ipairs(lines) do
            if defines(line, key) and docs_above(lines, at) ~= "" then documented = true end
          end
          if not documented then faults[#faults + 1] = path .. ": " .. key end
        end
      end
    end
  end
  ok(modules > 30 and functions > 150, modules .. " modules, " .. functions .. " functions")
  table.sort(faults)
  eq(table.concat(faults, "\n"), "")
end)

test("the rule sees what is missing", function()
  local function faults(text)
    local lines = {}
    for line in text:gmatch("[^\n]+") do lines[#lines + 1] = line end
    return #faults_of("x.lua", lines)
  end
  eq(faults "local M = {}\nfunction M.a() end", 1)
  eq(faults "local M = {}\n-- A comment only.\nfunction M.a() end", 1)
  eq(faults "local M = {}\n---Does it.\nfunction M.a() end", 0)
  eq(faults "local M = {}\n---Does it.\nfunction M.a(b) end", 1)
  eq(faults "local M = {}\n---Does it.\n---@param bc string\nfunction M.a(b) end", 1)
  eq(faults "local M = {}\n---Does it.\n---@param b? string\nfunction M.a(b, _, ...) end", 0)
  eq(faults "local Box = {}\nBox.__index = Box\nfunction Box:open(how) end", 1)
  eq(faults "local Box = {}\nBox.__index = Box\n---@private\nfunction Box:open(how) end", 0)
  eq(faults "local plain = {}\nfunction plain.a() end", 0)
end)
