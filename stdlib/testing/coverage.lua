-- Which lines of policies and shared modules the tests reached: as a table, and as lcov's tracefile.
local bytecode, fs, sys = require "policy.bytecode", require "fs", require "base.sys"
local lines = require "testing.lines"

local M = {}

---@class FileCoverage
---@field file string
---@field lines table<integer, integer> How often each line of code ran.
---@field total integer
---@field covered integer
---@field missed string[] Ranges of lines that were never reached: "12-14".

local CLOSURE <const>, VARARGPREP <const> = 79, 81

-- The lines of instructions, of a function and those in it. A function ends with a return that need not be reached, and
-- making a function is not running it.
local function mark(proto, found)
  for pc, word in ipairs(proto.code) do
    local op = word & 0x7f
    if pc < #proto.code and op ~= CLOSURE and op ~= VARARGPREP then found[proto.lines[pc]] = true end
  end
  for _, inner in ipairs(proto.protos) do mark(inner, found) end
end

local CLOSING <const> = { ["end"] = true, ["else"] = true, [""] = true }

-- The lines of a text that are code; nil: it does not compile.
local function code_lines(text)
  local chunk = sys.compile(text, "=coverage", {})
  local proto = chunk and bytecode.read(chunk)
  if not proto then return nil end
  local found, number = {}, 0
  mark(proto, found)
  for line in (text .. "\n"):gmatch("(.-)\n") do
    number = number + 1
    if CLOSING[line:gsub("%-%-.*$", ""):gsub("[%s,;%)}]", "")] then found[number] = nil end
  end
  return found, number
end

local function ranges(missed)
  local list, first, last = {}, nil, nil
  local function flush()
    if first then list[#list + 1] = first == last and tostring(first) or ("%d-%d"):format(first, last) end
  end
  for _, line in ipairs(missed) do
    if line.after ~= last or not last then
      flush()
      first = line.number
    end
    last = line.number
  end
  flush()
  return list
end

---What the tests reached of a file.
---@param file string
---@param text string
---@param counts table<integer, integer>
---@return FileCoverage? coverage nil: the text does not compile.
function M.of(file, text, counts)
  local code, most = code_lines(text)
  if not code then return nil end
  local found, missed, before = { file = file, lines = {}, total = 0, covered = 0 }, {}, nil
  for number = 1, most do
    if code[number] then
      local count = counts[number] or 0
      found.lines[number], found.total = count, found.total + 1
      if count > 0 then
        found.covered = found.covered + 1
      else
        missed[#missed + 1] = { number = number, after = before }
      end
      before = number
    end
  end
  found.missed = ranges(missed)
  return found
end

---The coverage of all scripts of a folder that are no tests, and of what was counted elsewhere.
---@async
---@param folders string[]
---@param counts table<string, table<integer, integer>>
---@return FileCoverage[]
function M.files(folders, counts)
  local paths, seen, list = {}, {}, {}
  local absolute = require("config.load").absolute
  local function add(path) -- one file may be known by its whole path and by that from the working directory
    if seen[absolute(path)] or path:find("_test%.lua$") then return end
    seen[absolute(path)] = true
    paths[#paths + 1] = path
  end
  for path in pairs(counts) do add(path) end
  for _, folder in ipairs(folders) do
    for name in fs.walk(folder) do
      if name:find("%.lua$") and not ("/" .. name):find("/.", 1, true) then add(folder .. "/" .. name) end
    end
  end
  table.sort(paths)
  for _, path in ipairs(paths) do
    local text = fs.read(path)
    list[#list + 1] = text and M.of(path, text, counts[path] or {})
  end
  return list
end

local function percent(covered, total) return total == 0 and 100 or covered * 100 // total end

---Prints a table.
---@param out Output
---@param files FileCoverage[]
function M.print(out, files)
  local rows, total, covered = {}, 0, 0
  for i, file in ipairs(files) do
    local share = percent(file.covered, file.total)
    rows[i] = {
      lines.one(file.file), file.total, file.covered,
      { text = share .. " %", style = share == 100 and "green" or share < 50 and "red" or nil },
      table.concat(file.missed, ", "),
    }
    total, covered = total + file.total, covered + file.covered
  end
  if #files > 1 then rows[#rows + 1] = { "all", total, covered, percent(covered, total) .. " %" } end
  out:table({ "FILE", "LINES", "COVERED", "SHARE", "NEVER REACHED" }, rows,
    { indent = "# ", right = { [2] = true, [3] = true, [4] = true } })
end

---Writes a tracefile, as genhtml and CI servers read it.
---@param files FileCoverage[]
---@return string
function M.lcov(files)
  local out = {}
  for _, file in ipairs(files) do
    out[#out + 1] = "TN:\nSF:" .. require("config.load").absolute(file.file)
    local numbers = {}
    for number in pairs(file.lines) do numbers[#numbers + 1] = number end
    table.sort(numbers)
    for _, number in ipairs(numbers) do out[#out + 1] = ("DA:%d,%d"):format(number, file.lines[number]) end
    out[#out + 1] = ("LF:%d\nLH:%d\nend_of_record"):format(file.total, file.covered)
  end
  out[#out + 1] = ""
  return table.concat(out, "\n")
end

return M
