-- The terminal: colours, tables, times in words, and progress lines, on terminals only.
--
-- Everything printed goes through an Output, which knows whether a person or a pipe reads it. Text that
-- came from outside (branch names, commit messages, errors) is made printable here: an
-- escape sequence in a tag must not move anybody's cursor.

local inspect = require "base.inspect"
local sys = require "base.sys"

local M = {}

local STYLES = {
  bold = "1", dim = "2", red = "31", green = "32", yellow = "33", blue = "34", magenta = "35", cyan = "36",
}

---Makes outside text safe to print; tabs become spaces, newlines visible.
---@param text any
---@return string
function M.clean(text)
  return inspect.printable((tostring(text):gsub("\t", " ")))
end

-- Characters that take two columns, by range: East Asian wide forms and emoji. Good enough to line up a
-- table.
local WIDE = {
  { 0x1100, 0x115f }, { 0x2e80, 0x303e }, { 0x3041, 0xa4cf }, { 0xac00, 0xd7a3 }, { 0xf900, 0xfaff },
  { 0xfe30, 0xfe6f }, { 0xff00, 0xff60 }, { 0xffe0, 0xffe6 }, { 0x1f300, 0x1faff }, { 0x20000, 0x3fffd },
}

local function columns_of(code)
  if (code >= 0x300 and code <= 0x36f) or (code >= 0xfe00 and code <= 0xfe0f) then return 0 end
  if code >= 0x1100 then
    for _, range in ipairs(WIDE) do
      if code >= range[1] and code <= range[2] then return 2 end
    end
  end
  return 1
end

---Counts the columns that clean text takes.
---@param text string
---@return integer
function M.columns(text)
  if not text:find("[\128-\255]") then return #text end
  local total = 0
  for _, code in utf8.codes(text, true) do total = total + columns_of(code) end
  return total
end

---Shortens clean text to so many columns, the last one a dot to show it.
---@param text string
---@param width integer
---@return string
function M.cut(text, width)
  if M.columns(text) <= width then return text end
  local out, total = {}, 0
  for _, code in utf8.codes(text, true) do
    local wide = columns_of(code)
    if total + wide > width - 1 then break end
    total = total + wide
    out[#out + 1] = utf8.char(code)
  end
  return table.concat(out) .. "…"
end

---Writes a duration as people say it: 340ms, 2.1s, 48s, 3m 5s, 2h 10m, 4d 3h.
---@param seconds? Seconds
---@return string
function M.duration(seconds)
  if not seconds then return "" end
  local s = math.abs(seconds)
  local sign = seconds < 0 and "-" or ""
  if s < 0.9995 then return ("%s%dms"):format(sign, math.floor(s * 1000 + 0.5)) end
  if s < 9.95 then return ("%s%.1fs"):format(sign, s) end
  local n = math.floor(s + 0.5)
  local function pair(big, big_unit, small, small_unit)
    local rest = n % big // small
    local head = ("%s%d%s"):format(sign, n // big, big_unit)
    return rest > 0 and ("%s %d%s"):format(head, rest, small_unit) or head
  end
  if n < 60 then return ("%s%ds"):format(sign, n) end
  if n < 3600 then return pair(60, "m", 1, "s") end
  if n < 86400 then return pair(3600, "h", 60, "m") end
  return pair(86400, "d", 3600, "h")
end

---Writes a moment relative to now: "just now", "3m ago", "in 20s".
---@param at? Wall
---@param now Wall
---@return string
function M.ago(at, now)
  if not at then return "never" end
  local past = now - at
  local s = math.abs(past)
  if s < 1.5 then return "just now" end
  local words
  if s < 60 then words = ("%ds"):format(s // 1 | 0)
  elseif s < 3600 then words = ("%dm"):format(s // 60 | 0)
  elseif s < 86400 then words = ("%dh"):format(s // 3600 | 0)
  else words = ("%dd"):format(s // 86400 | 0) end
  return past >= 0 and words .. " ago" or "in " .. words
end

---Writes a size: 812 B, 3.4 MiB.
---@param bytes number
---@return string
function M.bytes(bytes)
  local units, i = { "B", "KiB", "MiB", "GiB", "TiB" }, 1
  while bytes >= 1024 and i < #units do bytes, i = bytes / 1024, i + 1 end
  return i == 1 and ("%d B"):format(bytes) or ("%.1f %s"):format(bytes, units[i])
end

---Draws a bar of so many columns.
---@param done number
---@param total number
---@param width integer
---@return string
function M.bar(done, total, width)
  local share = total > 0 and math.min(1, math.max(0, done / total)) or 0
  local full = math.floor(share * width + 0.5)
  return ("━"):rep(full) .. ("─"):rep(width - full)
end

---Reads what comes next from a descriptor.
---@async
---@param fd integer
---@return string? bytes nil at the end
function M.read(fd) return sys.read(fd) end

---Whether a person sits at a descriptor.
---@param fd integer
---@return boolean
function M.isatty(fd) return sys.isatty(fd) end

---@class Output
---@field tty boolean a person reads it
---@field color boolean
---@field width integer
---@field closed boolean the reader went away
---@field private fd integer
---@field private sink? fun(text: string)
local Output = {}
Output.__index = Output

---Opens an output over a descriptor.
---@param fd integer
---@param options? {tty?: boolean, color?: boolean, width?: integer, write: fun(text: string)?} for tests
---@return Output
function M.open(fd, options)
  options = options or {}
  local tty = options.tty
  if tty == nil then tty = sys.isatty(fd) end
  local color = options.color
  if color == nil then
    local no_color = sys.env("NO_COLOR")
    color = tty and (no_color == nil or no_color == "") and sys.env("TERM") ~= "dumb"
  end
  return setmetatable({
    fd = fd, tty = tty, color = color, closed = false,
    width = options.width or (tty and sys.width()) or 100000,
    sink = options.write,
    lines = {}, order = {}, drawn = false,
  }, Output)
end

---Writes text as it is.
---@param text string
function Output:write(text)
  if self.closed then return end
  if self.sink then
    self.sink(text)
  elseif not sys.write(self.fd, text) then
    -- `moontide history | head`: the reader is gone: end quietly.
    self.closed = true
  end
end

---Dresses text in a style; plain where colours are off.
---@param style? string bold dim red green yellow blue magenta cyan, or several with spaces
---@param text string
---@return string
function Output:paint(style, text)
  if not self.color or not style or text == "" then return text end
  local codes = style:gsub("%a+", STYLES):gsub(" ", ";")
  return ("\27[%sm%s\27[0m"):format(codes, text)
end

---Prints one line above the progress line.
---@param text string
function Output:line(text)
  if self.drawn then
    self:write("\r\27[K" .. text .. "\n")
    self.drawn = false
    self:draw()
  else
    self:write(text .. "\n")
  end
end

local function cell_of(cell)
  if type(cell) == "table" then return M.clean(cell.text or ""), cell.style end
  return M.clean(cell == nil and "" or cell)
end

---Prints rows as aligned columns; the last column is cut at the edge of a terminal.
---@param header string[]
---@param rows (any[])[] cells: anything printable, or {text=, style=}; nil is empty
---@param options? {right?: table<integer, boolean>, indent?: string}
function Output:table(header, rows, options)
  local right, indent = options and options.right or {}, options and options.indent or ""
  local count, widths = #header, {}
  for i = 1, count do widths[i] = M.columns(header[i]) end
  for _, row in ipairs(rows) do
    for i = 1, count do
      widths[i] = math.max(widths[i], M.columns((cell_of(row[i]))))
    end
  end
  local function print_row(row, default)
    local parts, used = {}, #indent
    for i = 1, count do
      local text, style = cell_of(row[i])
      if i == count and not right[i] then
        text = M.cut(text, math.max(10, self.width - used))
        parts[i] = self:paint(style or default, text)
      else
        local pad = (" "):rep(widths[i] - M.columns(text))
        local painted = self:paint(style or default, text)
        parts[i] = right[i] and pad .. painted or painted .. pad
        used = used + widths[i] + 2
      end
    end
    self:line((indent .. table.concat(parts, "  "):gsub("%s+$", "")))
  end
  if #rows == 0 then return end
  print_row(header, "dim")
  for _, row in ipairs(rows) do print_row(row) end
end

---Shows or changes a line of progress that stays below everything printed. Nothing happens without a
---terminal.
---@param key any whose progress it is
---@param text? string nil: it is over
---@param done? number
---@param total? number
function Output:progress(key, text, done, total)
  if not self.tty then return end
  if text == nil then
    if not self.lines[key] then return end
    self.lines[key] = nil
    for i, other in ipairs(self.order) do
      if other == key then table.remove(self.order, i) break end
    end
  else
    if not self.lines[key] then self.order[#self.order + 1] = key end
    local words = M.clean(text)
    if done and total and total > 0 then
      local share = math.min(100, math.max(0, done * 100 // total)) | 0
      words = ("%s %3d%% %s"):format(M.bar(done, total, 16), share, words)
    end
    self.lines[key] = words
  end
  self:draw()
end

---Redraws the progress line.
function Output:draw()
  if #self.order == 0 then
    if self.drawn then self:write("\r\27[K") end
    self.drawn = false
    return
  end
  local parts = {}
  for i, key in ipairs(self.order) do parts[i] = self.lines[key] end
  self:write("\r\27[K" .. self:paint("cyan", M.cut(table.concat(parts, "  ·  "), self.width - 1)))
  self.drawn = true
end

---Removes the progress line, before the program ends or something else takes the terminal.
function Output:clear()
  self.lines, self.order = {}, {}
  self:draw()
end

return M
