-- One rule of a .dockerignore against paths, as moby/patternmatcher 0.6.1 decides it.
--
-- That library turns a rule into a Go regular expression, so a rule means what the expression means: `[a*]` or `\d`
-- too. The same text is made here, and read by the few constructs that can be in it. All states of the expression are
-- tried in step, so the time to match grows with rule times path, never faster; rules come from outside.
local M = {}

local SLASH <const>, REPLACEMENT <const> = 47, 0xFFFD
local MOST_TIMES <const>, MOST_ITEMS <const> = 1000, 5000 -- of a repetition, as in Go; of a rule

-- The character at a byte of the text, and where the next one begins. A byte that begins no UTF-8 sequence is U+FFFD,
-- as Go reads it.
local function character(text, at)
  if utf8.len(text, at, at) then return utf8.codepoint(text, at), utf8.offset(text, 2, at) end
  return REPLACEMENT, at + 1
end

local function characters(text)
  local list, at = {}, 1
  while at <= #text do list[#list + 1], at = character(text, at) end
  return list
end

-- ---- sets of characters: {low, high, low, high, ..., negated = true?} ----

local PERL <const> = { d = { 48, 57 }, s = { 9, 10, 12, 13, 32, 32 }, w = { 48, 57, 65, 90, 95, 95, 97, 122 } }
local POSIX <const> = {
  alnum = { 48, 57, 65, 90, 97, 122 }, alpha = { 65, 90, 97, 122 }, ascii = { 0, 127 }, blank = { 9, 9, 32, 32 },
  cntrl = { 0, 31, 127, 127 }, digit = { 48, 57 }, graph = { 33, 126 }, lower = { 97, 122 }, print = { 32, 126 },
  punct = { 33, 47, 58, 64, 91, 96, 123, 126 }, space = { 9, 13, 32, 32 }, upper = { 65, 90 },
  word = PERL.w, xdigit = { 48, 57, 65, 70, 97, 102 },
}
local CONTROL <const> = { a = 7, f = 12, n = 10, r = 13, t = 9, v = 11 }

local function within(set, c)
  for i = 1, #set, 2 do
    if set[i] <= c and c <= set[i + 1] then return not set.negated end
  end
  for _, part in ipairs(set.parts or {}) do
    if within(part, c) then return not set.negated end
  end
  return set.negated or false
end

local function bad(why) error({ bad = why }, 0) end

-- The character that an escape stands for, and where the text goes on after it.
local function escaped(text, at)
  local c = text:sub(at, at)
  if c == "" then bad "a backslash at the end" end
  if CONTROL[c] then return CONTROL[c], at + 1 end
  if c:find("^[\0-\127]") and not c:find("^%w") then return c:byte(), at + 1 end
  local octal = text:match("^0[0-7]?[0-7]?", at) or text:match("^[1-7][0-7][0-7]?", at)
  if octal then return tonumber(octal, 8), at + #octal end
  local hex = text:match("^x(%x%x)", at)
  if hex then return tonumber(hex, 16), at + 3 end
  hex = text:match("^x{(%x+)}", at)
  if hex and #hex <= 6 and tonumber(hex, 16) <= 0x10FFFF then return tonumber(hex, 16), at + #hex + 3 end
  bad(("'\\%s' means nothing"):format(c:find("^%w") and c or "..."))
end

local function perl(text, at)
  local letter = text:match("^\\([dDsSwW])", at)
  local set = letter and PERL[letter:lower()]
  if not set then return nil end
  if letter:lower() == letter then return set end
  return { parts = { set }, negated = true }
end

local function one_of_class(text, at)
  if text:byte(at) == 92 then return escaped(text, at + 1) end
  return character(text, at)
end

-- A set in brackets, from behind the "[".
local function class(text, at)
  local set, first = { parts = {} }, true
  if text:byte(at) == 94 then set.negated, at = true, at + 1 end -- ^
  while first or text:byte(at) ~= 93 do -- ]
    if at > #text then bad "'[' without ']'" end
    first = false
    local name = text:match("^%[:(%^?%l+):%]", at)
    local known = perl(text, at)
    if name then
      local named = POSIX[name:gsub("^%^", "")] or bad(("'[:%s:]' names no set"):format(name))
      set.parts[#set.parts + 1] = name:byte() == 94 and { parts = { named }, negated = true } or named
      at = at + #name + 4
    elseif known then
      set.parts[#set.parts + 1] = known
      at = at + 2
    else
      local low, high
      low, at = one_of_class(text, at) ---@cast at integer
      high = low
      if text:byte(at) == 45 and at < #text and text:byte(at + 1) ~= 93 then -- -
        high, at = one_of_class(text, at + 1) ---@cast at integer
        if high < low then bad "a range in '[...]' that runs backwards" end
      end
      set[#set + 1], set[#set + 2] = low, high
    end
  end
  return set, at + 1
end

-- ---- the rule's text to the expression's ----

-- One element of the syntax of Go's filepath.Match: where the next one begins, and whether this one fits ".".
local function element(rule, at)
  local c = rule:sub(at, at)
  if c == "\\" then
    if at == #rule then bad "a backslash at the end" end
    return select(2, character(rule, at + 1)), rule:sub(at + 1, at + 1) == "."
  end
  if c ~= "[" then return select(2, character(rule, at)), c == "." or c == "?" end
  local negated, found = rule:sub(at + 1, at + 1) == "^", false
  at = at + (negated and 2 or 1)
  local function one()
    if rule:find("^[%-%]]", at) or at > #rule then bad "'[...]' is not closed, or has a '-' or ']' out of place" end
    if rule:sub(at, at) == "\\" then at = at + 1 end
    if at > #rule or not utf8.len(rule, at, at) then bad "'[...]' is not closed, or holds what is not UTF-8" end
    local code
    code, at = character(rule, at)
    if at > #rule then bad "'[' without ']'" end
    return code
  end
  repeat
    local low = one()
    local high = low
    if rule:sub(at, at) == "-" then
      at = at + 1
      high = one()
    end
    found = found or low <= 46 and 46 <= high
  until rule:sub(at, at) == "]"
  return at + 1, found ~= negated
end

-- The library first asks Go's filepath.Match to compare the rule with ".", only for the faults that this finds: those
-- in the pieces between stars, up to the first piece that does not fit.
local function check_syntax(rule)
  local at, left = 1, true
  while at <= #rule do
    local star
    star, at = rule:match("^(%**)()", at)
    if star ~= "" and at > #rule then return end
    local count, fitting = 0, false
    while at <= #rule and rule:sub(at, at) ~= "*" do
      at, fitting = element(rule, at)
      count = count + 1
    end
    if not (left and count == 1 and fitting) then return end
    left = false
  end
end

-- Go's text of the expression behind its "^", and by which of four comparisons the rule is decided. The library means
-- to escape "|", "{" and "}", too, and does not: they mean in a rule what they mean in an expression. A byte order mark
-- that begins a rule is lost to its scanner.
local function expression(rule)
  local out, kind, at, index = {}, "exact", rule:find("^\u{FEFF}") and 4 or 1, 0
  local function next_character()
    local code
    code, at = character(rule, at)
    return utf8.char(code)
  end
  while at <= #rule do
    local c = next_character()
    if c == "*" and rule:sub(at, at) == "*" then
      at = at + 1
      if rule:sub(at, at) == "/" then at = at + 1 end
      if at > #rule then
        if kind == "exact" then
          kind = "prefix"
        else
          out[#out + 1], kind = ".*", "expression"
        end
      else
        out[#out + 1], kind = "(.*/)?", "expression"
      end
      if index == 0 then kind = "suffix" end
    elseif c == "*" then
      out[#out + 1], kind = "[^/]*", "expression"
    elseif c == "?" then
      out[#out + 1], kind = "[^/]", "expression"
    elseif c:find("^[.+()$]") then
      out[#out + 1] = "\\" .. c
    elseif c == "\\" and at <= #rule then
      out[#out + 1], kind = "\\" .. next_character(), "expression"
    elseif c == "[" or c == "]" then
      out[#out + 1], kind = c, "expression"
    else
      out[#out + 1] = c
    end
    index = index + 1
  end
  return table.concat(out) .. "$", kind -- behind a last backslash that is a "$" of the path
end

-- ---- the expression as a program ----

-- The bounds of a repetition, "{2}", "{2,}" or "{2,5}", and where the text goes on; nil when a "{" is just a brace.
local function bounds(text, at)
  local low, comma, high, after = text:match("^{(%d+)(,?)(%d*)}()", at)
  if not low or comma == "" and high ~= "" then return nil end
  if low:find("^0%d") or high:find("^0%d") then return nil end
  local least, most = tonumber(low), high ~= "" and tonumber(high) or comma == "" and tonumber(low) or nil
  if least > MOST_TIMES or most and (most > MOST_TIMES or most < least) then
    bad(("'%s' is no number of times"):format(text:sub(at, after - 1)))
  end
  return after, least, most
end

-- Puts the last item of a list in as often as a repetition says.
local function repeated(list, least, most)
  local item = table.remove(list)
  local function put(how)
    if #list >= MOST_ITEMS then bad "it stands for too long an expression" end
    list[#list + 1] = { set = item.set, any = item.any, char = item.char, at = item.at, [how or "once"] = true }
  end
  for _ = 1, item.at and math.min(least, 1) or least do put() end
  if item.at then return end -- what is a place and no character need not be there again
  if not most then put "star" end
  for _ = least + 1, most or 0 do put "optional" end
end

-- The branches of an expression, each a list of {set=, any=, char=, at=, star=, optional=, deep=}: one test each, in a
-- row. Only the first one is held to the beginning, and only the last to the end.
local function program(text)
  local list, at, again = { { at = "A" } }, 1, false
  local branches = { list }
  local function add(item)
    list[#list + 1], again = item, text:sub(at, at) == "*"
    if again then
      item.star, at = true, at + 1
    end
  end
  while at <= #text do
    local c = text:sub(at, at)
    local after, least, most = bounds(text, at)
    if after then
      if #list == 0 or again then bad(("'%s' repeats nothing"):format(text:sub(at, after - 1))) end
      repeated(list, least, most)
      at, again = after, true
    elseif c == "|" then
      list, at, again = {}, at + 1, false
      branches[#branches + 1] = list
    elseif text:sub(at, at + 5) == "(.*/)?" then
      list[#list + 1], at, again = { deep = true }, at + 6, true
    elseif c == "[" then
      local set
      set, at = class(text, at + 1)
      add { set = set }
    elseif c == "." then
      at = at + 1
      add { any = true }
    elseif c == "^" or c == "$" then
      at = at + 1
      add { at = c == "^" and "A" or "z" }
    elseif c == "\\" then
      local set, place = perl(text, at), text:match("^[AbBz]", at + 1)
      if set or place then
        at = at + 2
        add { set = set, at = place }
      else
        local char
        char, at = escaped(text, at + 1)
        add { char = char }
      end
    else
      local char
      char, at = character(text, at)
      add { char = char }
    end
  end
  return branches
end

local function is_word(c) return c ~= nil and within(PERL.w, c) end

local function holds(where, before, after)
  if where == "A" then return before == nil end
  if where == "z" then return after == nil end
  return (is_word(before) ~= is_word(after)) == (where == "b")
end

-- `.` is anything but a line feed in Go.
local function fits(item, c)
  if item.char then return item.char == c end
  if item.any then return c ~= 10 end
  return within(item.set, c)
end

-- Whether the path fits. A state is the index of the item that is next; `-index` is a `deep` item that has begun: it
-- ends behind a slash.
local function run(list, path)
  local chars = characters(path)
  local last, held = #list + 1, list[1] ~= nil and list[1].at == "A"
  local states, seen ---@type integer[], table<integer, boolean>
  local function enter(state, position)
    if seen[state] then return end
    seen[state] = true
    local item = state > 0 and list[state]
    if item and item.at then
      if holds(item.at, chars[position - 1], chars[position]) then enter(state + 1, position) end
      return
    end
    states[#states + 1] = state
    if item and item.deep then
      enter(-state, position)
      enter(state + 1, position)
    elseif item and (item.star or item.optional) then
      enter(state + 1, position)
    end
  end
  states, seen = {}, {}
  enter(1, 1)
  if seen[last] then return true end
  for position, c in ipairs(chars) do
    local from = states
    states, seen = {}, {}
    for _, state in ipairs(from) do
      local item = list[math.abs(state)]
      if state < 0 then
        if c ~= 10 then enter(state, position + 1) end
        if c == SLASH then enter(1 - state, position + 1) end
      elseif item and not item.deep and fits(item, c) then
        enter(item.star and state or state + 1, position + 1)
      end
    end
    if not held then enter(1, position + 1) end
    if seen[last] then return true end
    if held and #states == 0 then return false end
  end
  return false
end

-- What an item stands for when that is one text and it must be there.
local function literal(item)
  if item.char and item.char ~= REPLACEMENT and not item.star and not item.optional then return utf8.char(item.char) end
end

-- The text that a path must begin with, the longest one that it must have somewhere, and the one that it must end with,
-- so that most paths are refused without a look at each of their characters.
local function needed(list)
  local head, longest, tail, from = "", "", "", 1
  for i, item in ipairs(list) do
    local char = literal(item)
    if char then
      tail = tail .. char
      if #tail > #longest then longest = tail end
      if from == 2 and list[1].at == "A" then head = tail end
    elseif item.at ~= "z" or i < #list then
      tail, from = "", i + 1
    end
  end
  return head, longest, #list > 0 and list[#list].at == "z" and tail or ""
end

-- The test of one branch.
local function test(list)
  local head, some, tail = needed(list)
  return function(path)
    return path:sub(1, #head) == head and (tail == "" or path:sub(-#tail) == tail)
      and (some == "" or path:find(some, 1, true) ~= nil) and run(list, path)
  end
end

---Makes the test of one rule.
---@param rule string Cleaned, without its "!".
---@return (fun(path: string): boolean)? matches
---@return string? bad Why the rule cannot be used.
function M.compile(rule)
  local ok, result = pcall(function()
    check_syntax(rule)
    local text, kind = expression(rule)
    if kind == "exact" then return function(path) return path == rule end end
    if kind == "prefix" then
      local prefix = rule:sub(1, -3)
      return function(path) return path:sub(1, #prefix) == prefix end
    end
    if kind == "suffix" then
      local suffix = rule:sub(3)
      local whole = suffix:sub(1, 1) == "/" and suffix:sub(2)
      return function(path) return suffix == "" or path:sub(-#suffix) == suffix or path == whole end
    end
    local tests = {}
    for i, branch in ipairs(program(text)) do tests[i] = test(branch) end
    return function(path)
      for _, fits_branch in ipairs(tests) do
        if fits_branch(path) then return true end
      end
      return false
    end
  end)
  if ok then return result end
  if type(result) == "table" and result.bad then return nil, result.bad end
  error(result, 0)
end

return M
