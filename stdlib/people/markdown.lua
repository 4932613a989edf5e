-- Markdown for a terminal: the pages of the manual, wrapped to its width, with colours where there are some.
--
-- What the pages use of it: headings, paragraphs, lists, code (indented or fenced), tables, `code`, **strong**,
-- *emphasis* and [links](page.md).
local term = require "people.terminal"

local M = {}

---@alias Paint fun(style: string?, text: string): string
---@alias Word {text: string, width: integer} A word as it is printed, and the columns that it takes.

-- Where a link leads, for who cannot click on it.
local function link(text, target)
  local page = target:match("^config/manual/([%w_-]+)%.md") or target:match("^([%w_-]+)%.md")
  if page then return ("%s (moontide help %s)"):format(text, page) end
  if target:find("^https?:") and target ~= text then return ("%s (%s)"):format(text, target) end
  return text
end

-- The pieces of a text, each with its style.
local function pieces_of(text)
  text = text:gsub("%[([^%]]*)%]%(([^%s)]*)%)", link)
  local pieces, at = {}, 1
  local function add(piece, style)
    if piece ~= "" then pieces[#pieces + 1] = { piece, style } end
  end
  while at <= #text do
    local mark = text:find("[`*\\]", at)
    if not mark then break end
    add(text:sub(at, mark - 1))
    local strong = text:match("^%*%*([^%s*].-)%*%*", mark)
    local emphasis = not text:find("^%w", mark - 1) and text:match("^%*([^%s*][^*]*)%*", mark)
    local code = text:match("^`([^`]+)`", mark)
    if code then
      add(code, "code")
      at = mark + #code + 2
    elseif strong then
      for _, piece in ipairs(pieces_of(strong)) do add(piece[1], piece[2] or "bold") end
      at = mark + #strong + 4
    elseif emphasis then
      add(emphasis, "bold")
      at = mark + #emphasis + 2
    else
      if text:sub(mark, mark) == "\\" and text:find("^%p", mark + 1) then mark = mark + 1 end
      add(text:sub(mark, mark))
      at = mark + 1
    end
  end
  add(text:sub(at))
  return pieces
end

-- The words of a text. Code keeps its marks where there is no colour to tell it from the rest.
local function words_of(text, paint)
  local words, open = {}, false ---@type Word[], boolean
  for _, piece in ipairs(pieces_of(text)) do
    local plain, style = piece[1], piece[2]
    if style == "code" then
      style = "cyan"
      if paint(style, "x") == "x" then plain = "`" .. plain .. "`" end
    end
    for blank, word in plain:gmatch("(%s*)(%S*)") do
      if blank ~= "" then open = false end
      if word ~= "" then
        local painted, width = paint(style, word), term.columns(word)
        if open then
          local last = words[#words]
          last.text, last.width = last.text .. painted, last.width + width
        else
          words[#words + 1] = { text = painted, width = width }
        end
        open = true
      end
    end
  end
  return words
end

---The lines of words, none wider than that unless one word is.
---@param words Word[]
---@param width integer
---@return Word[] lines
local function wrap(words, width)
  local lines, parts, used = {}, {}, 0
  local function finish()
    lines[#lines + 1] = { text = table.concat(parts, " "), width = used }
    parts, used = {}, 0
  end
  for _, word in ipairs(words) do
    if #parts > 0 and used + 1 + word.width > width then finish() end
    used = used + word.width + (#parts > 0 and 1 or 0)
    parts[#parts + 1] = word.text
  end
  if #parts > 0 or #lines == 0 then finish() end
  return lines
end

-- The cells of a table's line: a bar behind a backslash, or in code, divides nothing.
local function cells_of(line)
  local cells, cell, code = {}, "", false
  for c in line:gsub("^%s*|", ""):gsub("|%s*$", ""):gsub("\\|", "\1"):gmatch(".") do
    if c == "`" then code = not code end
    if c == "|" and not code then
      cells[#cells + 1], cell = cell, ""
    else
      cell = cell .. (c == "\1" and "|" or c)
    end
  end
  cells[#cells + 1] = cell
  for i, text in ipairs(cells) do cells[i] = text:match("^%s*(.-)%s*$") end
  return cells
end

-- Widths of columns that fit: the widest gives first.
local function fit(widths, most)
  local total = 2 * (#widths - 1)
  for _, width in ipairs(widths) do total = total + width end
  while total > most do
    local widest = 1
    for i, width in ipairs(widths) do
      if width > widths[widest] then widest = i end
    end
    if widths[widest] <= 8 then break end
    widths[widest], total = widths[widest] - 1, total - 1
  end
  return widths
end

local function print_table(rows, width, paint, add)
  local widths, words = {}, {} ---@type integer[], Word[][][]
  for r, row in ipairs(rows) do
    words[r] = {}
    for c, text in ipairs(row) do
      words[r][c] = words_of(text, paint)
      local wide = wrap(words[r][c], math.maxinteger)[1].width
      widths[c] = math.max(widths[c] or 1, wide)
    end
  end
  fit(widths, width)
  for r, row in ipairs(words) do
    local columns, height = {}, 1
    for c in ipairs(widths) do
      columns[c] = wrap(row[c] or {}, widths[c])
      height = math.max(height, #columns[c])
    end
    for i = 1, height do
      local parts = {}
      for c, lines in ipairs(columns) do
        local line = lines[i] or { text = "", width = 0 }
        local text = r == 1 and paint("bold", line.text) or line.text
        parts[c] = text .. (" "):rep(widths[c] - line.width --[[@as integer]])
      end
      add((table.concat(parts, "  "):gsub("%s+$", "")))
    end
    if r == 1 then
      local rules = {}
      for c, wide in ipairs(widths) do rules[c] = ("─"):rep(wide) end
      add(paint("dim", table.concat(rules, "  ")))
    end
  end
end

---Reads blocks off the lines, from the first on.
---@class MarkdownReader
---@field lines string[]
---@field out string[]
---@field width integer
---@field paint Paint
local Reader = {}
Reader.__index = Reader

---@private
---@param line string
function Reader:add(line) self.out[#self.out + 1] = line end

---An empty line between two blocks, and never two.
---@private
function Reader:gap()
  if #self.out > 0 and self.out[#self.out] ~= "" then self:add("") end
end

---@private
---@param text string
---@param first string
---@param rest string
function Reader:wrapped(text, first, rest)
  for i, line in ipairs(wrap(words_of(text, self.paint), self.width - #rest)) do
    self:add((i == 1 and first or rest) .. line.text)
  end
end

---The text of a paragraph that began before line `at`: as far as the lines go on.
---@private
---@param text string
---@param at integer
---@return string whole
---@return integer next
function Reader:rest_of(text, at)
  while self.lines[at] and self.lines[at]:find("%S") and not self:begins(at) do
    text = text .. " " .. self.lines[at]:match("^%s*(.-)%s*$")
    at = at + 1
  end
  return text, at
end

---Whether a line begins a block, also without an empty line before it.
---@private
---@param at integer
---@return any yes
function Reader:begins(at)
  local line = self.lines[at]
  return line:find("^#+ ") or line:find("^%s*[-*] ") or line:find("^%s*%d+%. ") or line:find("^%s*```")
    or line:find("^%s*|")
end

---@private
---@param at integer
---@return integer next
function Reader:code(at)
  local fence = self.lines[at]:match("^%s*```")
  local from = fence and at + 1 or at
  local last = from - 1
  if fence then
    while self.lines[last + 1] and not self.lines[last + 1]:find("^%s*```") do last = last + 1 end
    at = last + 2
  else
    for i = from, #self.lines do
      if self.lines[i]:find("^    ") then last = i elseif self.lines[i]:find("%S") then break end
    end
    at = last + 1
  end
  self:gap()
  local indent = fence and "    " or ""
  for i = from, last do self:add(self.lines[i] ~= "" and indent .. self.paint("green", self.lines[i]) or "") end
  self:gap()
  return at
end

---@private
---@param at integer
---@return integer next
function Reader:table(at)
  local rows = { cells_of(self.lines[at]) }
  at = at + 2
  while self.lines[at] and self.lines[at]:find("^%s*|") do
    rows[#rows + 1] = cells_of(self.lines[at])
    at = at + 1
  end
  self:gap()
  print_table(rows, self.width, self.paint, function(line) self:add(line) end)
  self:gap()
  return at
end

---@private
---@param at integer
---@return integer next
function Reader:item(at)
  local indent, mark, text = self.lines[at]:match("^(%s*)([-*]) +(.*)$")
  if not mark then indent, mark, text = self.lines[at]:match("^(%s*)(%d+%.) +(.*)$") end
  text, at = self:rest_of(assert(text), at + 1)
  if mark == "*" then mark = "-" end
  self:wrapped(text, indent .. mark .. " ", indent .. (" "):rep(#mark + 1))
  return at
end

---@param at integer
---@return integer next
function Reader:block(at)
  local line = self.lines[at]
  local level, title = line:match("^(#+) (.*)$")
  if level then
    self:gap()
    local words = words_of(title, function(_, text) return text end)
    for _, part in ipairs(wrap(words, self.width)) do
      self:add(self.paint(#level == 1 and "bold cyan" or "bold", part.text))
      if #level == 1 then self:add(self.paint("dim", ("═"):rep(part.width))) end
    end
    self:gap()
    return at + 1
  end
  if not line:find("%S") then
    self:gap()
    return at + 1
  end
  if line:find("^%s*```") or line:find("^    ") then return self:code(at) end
  if line:find("^%s*|") and (self.lines[at + 1] or ""):find("^%s*|[-:| ]+$") then return self:table(at) end
  if line:find("^%s*[-*] ") or line:find("^%s*%d+%. ") then return self:item(at) end
  local text, next_at = self:rest_of(line:match("^%s*(.-)%s*$") or "", at + 1)
  self:wrapped(text, "", "")
  return next_at
end

---The lines of a Markdown text as a terminal shows them.
---@param text string
---@param options {width: integer, paint: Paint} `paint` gives a text in a style, or as it is.
---@return string[] lines
function M.render(text, options)
  local lines = {}
  for line in (text:gsub("\n?$", "\n")):gmatch("(.-)\n") do lines[#lines + 1] = term.clean(line) end
  local reader = setmetatable({ lines = lines, out = {}, width = math.max(options.width, 20), paint = options.paint },
    Reader)
  local at = 1
  while at <= #lines do at = reader:block(at) end
  while reader.out[#reader.out] == "" do reader.out[#reader.out] = nil end
  return reader.out
end

return M
