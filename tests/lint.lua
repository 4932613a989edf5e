-- The rules of the house that no tool knows: moontide exec tests/lint.lua. Prints each fault as FILE:LINE: why.
--
-- The flow in short: api_* files never include each other; the floor of host/ knows no Lua (lint/floor.lua); C tables
-- are reached only by the stdlib module that wraps them; scripts see neither; only engine/world.lua opens the world
-- (lint/seam.lua), only journal/ knows SQL; nothing anywhere starts a shell.
local fs = require "fs"
local floor, seam = require "lint.floor", require "lint.seam"

local faults = 0
local host = {} -- the lines of each of its files, by name

local function fault(path, line, text, ...)
  faults = faults + 1
  print(("%s:%d: %s"):format(path, line, text:format(...)))
end

local function files(dir, suffix)
  local list = {}
  if fs.exists(dir) then
    for path in fs.walk(dir) do
      if path:sub(-#suffix) == suffix then list[#list + 1] = dir .. "/" .. path end
    end
  end
  return list
end

local function lines_of(path)
  local lines = {}
  for line in (assert(fs.read(path, { max = 16 << 20 })) .. "\n"):gmatch("(.-)\n") do lines[#lines + 1] = line end
  if lines[#lines] == "" then lines[#lines] = nil end
  return lines
end

-- What must not be written, by where it is written. Patterns see code without comments.
local BANNED = {
  c = {
    { "%f[%w_]system%s*%(", "starts a shell" }, { "%f[%w_]popen%s*%(", "starts a shell" },
    { '"/?b?i?n?/?sh"', "names a shell" }, { '"%-c"', "looks like a shell's argument" },
    { "%f[%w_]strcpy%s*%(", "has no bound" }, { "%f[%w_]strcat%s*%(", "has no bound" },
    { "%f[%w_]v?sprintf%s*%(", "has no bound" }, { "%f[%w_]gets%s*%(", "has no bound" },
    { "%f[%w_]tmpnam%s*%(", "races" }, { "%f[%w_]mktemp%s*%(", "races" },
    { "%f[%w_]atoi%s*%(", "hides errors: strtol" }, { "%f[%w_]rand%s*%(", "is not random" },
    { "VERIFYPEER%s*,%s*0", "turns certificate checks off" }, { "VERIFYHOST%s*,%s*0", "turns certificate checks off" },
    { "%f[%w_]luaL_load%a*[^x%s]%s*%(", "may load binary chunks: the one that ends in x, in text mode" },
  },
  lua = {
    { "os%.execute", "starts a shell" }, { "io%.popen", "starts a shell" },
    { '"/?b?i?n?/?sh"', "names a shell" }, { "'/?b?i?n?/?sh'", "names a shell" },
    { "%f[%w_]dofile%s*%(", "loads a file past the sandbox" },
    { "%f[%w_]loadfile%s*%(", "loads a file past the sandbox" },
  },
}

-- Comments out, strings stay. Good enough for rules; the compilers know the rest.
local function without_comment(line, kind, inside)
  if kind == "lua" then return (line:gsub("%-%-.*$", "")), false end
  if inside then
    local stop = line:find("*/", 1, true)
    if not stop then return "", true end
    line = line:sub(stop + 2)
  end
  line = line:gsub("/%*.-%*/", ""):gsub("//.*$", "")
  local start = line:find("/*", 1, true)
  if start then return line:sub(1, start - 1), true end
  return line, false
end

local OPEN = { "TO" .. "DO", "FIX" .. "ME", "XX" .. "X", "HA" .. "CK" }

-- Files of others that a comment of ours may name.
local OTHERS <const> = { ["sysexits.h"] = true, ["lua.c"] = true }

-- A comment of host/ names only files that are there: C files by their name, modules by their path.
local function check_names(path, i, line, code)
  local comment = code:find "%S" and (line:match "/%*.*" or "") or line
  for name, kind in comment:gmatch "([%w_/]+%.(%l+))%f[^%w_]" do
    local there = (kind == "c" or kind == "h") and "host/" .. name or kind == "lua" and name:find "/" and name
    if there and not OTHERS[name] and not fs.exists(there) then fault(path, i, "names %s, which is not there", name) end
  end
end

local function check_text(path, kind, product)
  local lines, inside = lines_of(path), false
  for i, line in ipairs(lines) do
    local code
    code, inside = without_comment(line, kind, inside)
    if product and kind == "c" then check_names(path, i, line, code) end
    for _, rule in ipairs(product and BANNED[kind] or {}) do
      local found = code:match(rule[1])
      if found and not (rule.except and found:find(rule.except, 1, true)) then
        fault(path, i, "%s %s", found:gsub("%s*%($", ""), rule[2])
      end
    end
    for _, word in ipairs(OPEN) do
      if line:find("%f[%w]" .. word .. "%f[%W]") then fault(path, i, "%s: finish it or take it out", word) end
    end
    if line:find("%s$") then fault(path, i, "space at the end of the line") end
    if line:find("\t", 1, true) then fault(path, i, "tab") end
  end
  local first = lines[1] or ""
  if not (first:find("^/%*") or first:find("^%-%-") or first:find("^#!") or first:find("^//")) then
    fault(path, 1, "begins without a comment that says its duty")
  end
  return lines
end

-- Headers above the floor, lowest first: each includes only its own level and those below. Who is not listed stands on
-- the top one.
local LEVELS = {
  { "err_lua", "collector" },
  { "bind" },
  { "op", "task", "work", "watchdog", "host", "api" },
}

local function level_of(name)
  for level, names in ipairs(LEVELS) do
    for _, known in ipairs(names) do
      if known == name then return level end
    end
  end
  return #LEVELS + 1
end

local function check_includes(path, lines)
  local name = path:match("([%w_]+)%.[ch]$")
  for i, line in ipairs(lines) do
    local other = line:match('^#include "([%w_]+)%.h"')
    if other and name:find("^api_") and other:find("^api_") and other ~= name then
      fault(path, i, "api files never include each other")
    end
    if other and path:find("%.h$") and not floor.holds(host, other .. ".h") and level_of(other) > level_of(name) then
      fault(path, i, "%s.h stands below %s.h and may not look up", name, other)
    end
    local opened = line:match("luaopen_core_(%l+)")
    if opened and name ~= "host" and name ~= "api" and name ~= "task" and name ~= "api_" .. opened then
      fault(path, i, "only host.c lists the libraries")
    end
  end
end

-- The rooms that exist before their wrapper does.
local BOOT = { prelude = true, main = true, errors = true, sandbox = true }

local function check_core(path, lines, allowed)
  local name = path:match("^stdlib/.-([^/]+)%.lua$")
  for i, line in ipairs(lines) do
    local code = line:gsub("%-%-.*$", "")
    local core = code:match("require%s*%(?%s*[\"']core%.(%l+)")
    if core and not (allowed and (core == name or BOOT[name])) then
      fault(path, i, "core.%s is only for the module that wraps it", core)
    end
  end
end

for _, suffix in ipairs { ".c", ".h" } do
  for _, path in ipairs(files("host", suffix)) do host[path:match "[^/]+$"] = check_text(path, "c", true) end
  for _, path in ipairs(files("tests", suffix)) do check_text(path, "c", false) end
end
-- A header belongs to the .c file of its name, or is the private one of several; these belong to api_*.c.
local SHARED <const> = { ["api.h"] = true, ["text.h"] = true }
for name in pairs(host) do
  local own = name:match "^(.+)%.h$"
  if own and not host[own .. ".c"] and not own:find "_private$" and not SHARED[name] then
    fault("host/" .. name, 1, "has no .c file of its name: a private header ends in _private.h")
  end
end
for i, line in ipairs(lines_of "host/README.md") do check_names("host/README.md", i, line, "") end
for name, lines in pairs(host) do check_includes("host/" .. name, lines) end
for _, found in ipairs(floor.faults(host)) do fault("host/" .. found[1], found[2], "%s", found[3]) end
local stdlib = {} -- the lines of each of its files, without comments, by its path below stdlib
for _, path in ipairs(files("stdlib", ".lua")) do
  local lines = check_text(path, "lua", true)
  check_core(path, lines, true)
  for i, line in ipairs(lines) do lines[i] = without_comment(line, "lua") end
  stdlib[path:match "^stdlib/(.*)"] = lines
end
-- Nobody but the journal knows SQL.
for path, lines in pairs(stdlib) do
  for i, line in ipairs(lines) do
    local sql = line:find "%f[%w]SELECT " or line:find "%f[%w]INSERT INTO " or line:find "%f[%w]DELETE FROM "
    if sql and not path:find "^journal/" then fault("stdlib/" .. path, i, "is SQL: make it a method of the journal") end
  end
end
for _, found in ipairs(seam.faults(stdlib)) do fault("stdlib/" .. found[1], found[2], "%s", found[3]) end
for _, path in ipairs(files("scripts", ".lua")) do check_core(path, check_text(path, "lua", true), false) end
for _, path in ipairs(files("config", ".lua")) do check_text(path, "lua", true) end
for _, path in ipairs(files("tests", ".lua")) do check_text(path, "lua", false) end

-- Every binding has its tests under its own name, as a primitive or through its wrapper.
for _, path in ipairs(files("host", ".c")) do
  local name = path:match("^host/api_(.+)%.c$")
  local file = (name or "") .. "_test.lua"
  if name and not fs.exists("tests/api/" .. file) and not fs.exists("tests/stdlib/" .. file) then
    fault(path, 1, "has no tests/api/%s_test.lua", name)
  end
end

-- host/tables/ names what the C tables hold, no more and no less. Lua's own libraries need no description; handles that
-- scripts get are described where scripts find them.
local LIBRARIES = { api_base = true, api_string = true, api_table = true, api_text = true, api_format = true }
local bound, described = {}, {}
for _, path in ipairs(files("host", ".c")) do
  if not LIBRARIES[path:match("([%w_]+)%.c$")] then
    for i, line in ipairs(lines_of(path)) do
      for name in line:gmatch('{"(%l[%l%d_]*)", *l_') do bound[name] = { path, i } end
    end
  end
end
for _, path in ipairs(files("host/tables", ".lua")) do
  for i, line in ipairs(lines_of(path)) do
    local name = line:match("^function [%a_]+[.:]([%l%d_]+)%(") or line:match("^%-%-%-@field ([%l%d_]+)%?? %l* ?fun%(")
    if name then described[name] = { path, i } end
  end
end
local handles = {}
for _, name in ipairs { "fs", "hash", "log", "store", "task" } do
  for _, line in ipairs(lines_of("stdlib/" .. name .. ".lua")) do
    local method = line:match("^%-%-%-@field ([%l_]+) fun%(self")
    if method then handles[method] = true end
  end
end
for name, at in pairs(bound) do
  if not described[name] and not handles[name] then fault(at[1], at[2], "%s is not described in host/tables/", name) end
end
for name, at in pairs(described) do
  if not bound[name] then fault(at[1], at[2], "no C table holds %s", name) end
end

if faults > 0 then print(("lint: %d faults of the house"):format(faults)) end
return faults > 0 and 1 or 0
