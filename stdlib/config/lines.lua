-- The line in the source of each key of a configuration.
--
-- A configuration is run, not parsed, so its values know no lines. This scanner reads the same text once
-- more, looks only for table constructors and for what is assigned to which name, and gives the line of a
-- key path. It never judges: what it does not understand (a key that is computed, a value from a function)
-- has no line of its own, and the closest enclosing key that has one is named instead. JSON goes through
-- the same scanner, YAML brings its marks.

local M = {}

---@class LineNode
---@field line integer
---@field fields? table<any, LineNode>

-- Deeper tables and longer files than these are no configuration that a person wrote.
local DEPTH, TOKENS = 64, 400000

local ESCAPES = { a = "\a", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", v = "\v" }

local function unescape(text)
  return (text:gsub("\\(.)", function(c) return ESCAPES[c] or c end))
end

-- The tokens of Lua or JSON text.
---@class LineToken
---@field kind string One of name, string, number, or the punctuation itself.
---@field text string
---@field line integer

---@return LineToken[]
local function tokenize(text)
  local tokens, at, line, size = {}, 1, 1, #text
  local function add(kind, value, from, to)
    tokens[#tokens + 1] = { kind = kind, text = value, line = line }
    for _ in text:sub(from, to):gmatch("\n") do line = line + 1 end
    at = to + 1
  end
  while at <= size and #tokens < TOKENS do
    local space = text:match("^%s+()", at)
    if space then
      for _ in text:sub(at, space - 1):gmatch("\n") do line = line + 1 end
      at = space
    elseif text:find("^%-%-", at) then
      local level = text:match("^%[(=*)%[", at + 2)
      local stop
      if level then
        stop = select(2, text:find("]" .. level .. "]", at + 2, true)) or size
      else
        stop = (text:find("\n", at, true) or size + 1) - 1
      end
      for _ in text:sub(at, stop):gmatch("\n") do line = line + 1 end
      at = stop + 1
    else
      local c = text:sub(at, at)
      local long = c == "[" and text:match("^%[(=*)%[", at)
      if long then
        local stop = select(2, text:find("]" .. long .. "]", at, true)) or size
        add("string", text:sub(at + #long + 2, stop - #long - 2), at, stop)
      elseif c == '"' or c == "'" then
        local stop = at
        repeat
          stop = text:find("[\\\n" .. c .. "]", stop + 1) or size
          local escaped = text:sub(stop, stop) == "\\"
          if escaped then stop = stop + 1 end
        until not escaped or stop >= size
        add("string", unescape(text:sub(at + 1, stop - 1)), at, stop)
      else
        local name = text:match("^[%a_][%w_]*", at)
        local number = not name and text:match("^%d[%w.]*", at)
        if name then
          add("name", name, at, at + #name - 1)
        elseif number then
          add("number", tonumber(number), at, at + #number - 1)
        else
          add(c, c, at, at)
        end
      end
    end
  end
  return tokens
end

local OPENS = { ["function"] = true, ["do"] = true, ["if"] = true, ["repeat"] = true }
local CLOSES = { ["end"] = true, ["until"] = true }
local BRACKETS = { ["("] = 1, ["{"] = 1, ["["] = 1, [")"] = -1, ["}"] = -1, ["]"] = -1 }

---@class LineScan
---@field tokens table<integer, LineToken>
---@field at integer
---@field names table<string, LineNode|boolean>
---@field json? boolean
local Scan = {}
Scan.__index = Scan

---@private
function Scan:peek(ahead)
  local token = self.tokens[self.at + (ahead or 0)]
  return token and token.kind, token and token.text
end

---Skips the rest of an expression inside a table: up to a comma, semicolon or closing bracket of that table.
---@private
function Scan:skip_value()
  local depth = 0
  while true do
    local kind, text = self:peek()
    if not kind then return end
    if kind == "name" then
      if OPENS[text] then depth = depth + 1 elseif CLOSES[text] then depth = depth - 1 end
    else
      local step = BRACKETS[kind]
      if depth == 0 and (step == -1 or kind == "," or kind == ";") then return end
      depth = depth + (step or 0)
    end
    self.at = self.at + 1
  end
end

---The node of an expression that starts here, if it is a table, a name that holds one, or a call with one
---table.
---@private
function Scan:value(depth)
  local kind, text = self:peek()
  if kind == "name" and self:peek(1) == "{" then
    self.at = self.at + 1
    kind = "{"
  end
  if kind == "{" then return self:table(depth + 1, "}") end
  if kind == "[" and self.json then return self:table(depth + 1, "]") end
  if kind == "name" and self.names[text] then
    local after = self:peek(1)
    if after ~= "." and after ~= "[" and after ~= "(" and after ~= ":" then return self.names[text] end
  end
  return nil
end

---A table constructor; the opening bracket is here. JSON's `"key": value` and lists are the same to us.
---@private
function Scan:table(depth, close)
  local node = { line = self.tokens[self.at].line, fields = {} }
  self.at = self.at + 1
  local index = 0
  while true do
    local kind, text = self:peek()
    if not kind then return node end
    if kind == close then
      self.at = self.at + 1
      return node
    end
    local line, key = self.tokens[self.at].line, nil
    local k1, _ = self:peek(1)
    if kind == "name" and k1 == "=" and self:peek(2) ~= "=" then
      key, self.at = text, self.at + 2
    elseif kind == "string" and k1 == ":" then
      key, self.at = text, self.at + 2
    elseif kind == "[" and self:peek(2) == "]" and self:peek(3) == "=" then
      key, self.at = self.tokens[self.at + 1].text, self.at + 4
    elseif kind ~= "," and kind ~= ";" then
      index = index + 1
      key = index
    end
    if key ~= nil then
      local inner = depth < DEPTH and self:value(depth) or nil
      node.fields[key] = { line = line, fields = inner and inner.fields }
    end
    self:skip_value()
    kind = self:peek()
    if kind == "," or kind == ";" then
      self.at = self.at + 1
    elseif kind and kind ~= close then
      self.at = self.at + 1 -- a stray bracket: the text does not parse, some lines are better than none
    end
  end
end

---`name.key["key"] = value` at the level of statements.
---@private
function Scan:assignment()
  local _, name = self:peek()
  local line = self.tokens[self.at].line
  local target, key = nil, name ---@type table?, any
  local at = self.at + 1
  while true do
    local token, second, third = self.tokens[at], self.tokens[at + 1], self.tokens[at + 2]
    if not token or not second then return false end
    if token.kind == "." and second.kind == "name" then
      target, key, at = { target, key }, second.text, at + 2
    elseif token.kind == "[" and third and third.kind == "]" then
      target, key, at = { target, key }, second.text, at + 3
    else
      break
    end
  end
  if self.tokens[at].kind ~= "=" or (self.tokens[at + 1] or {}).kind == "=" then return false end
  self.at = at + 1
  local value = self:value(0)
  if not target then
    self.names[name] = value
    return true
  end
  local function find(path)
    if path[1] == nil then return self.names[path[2]] end
    local parent = find(path[1])
    return parent and parent.fields and parent.fields[path[2]]
  end
  local parent = find(target)
  if parent and parent.fields and key ~= nil then
    parent.fields[key] = { line = line, fields = value and value.fields }
  end
  return true
end

local function walk(root)
  return function(keys)
    local node, line = root, nil
    for _, key in ipairs(keys) do
      node = node and node.fields and node.fields[key]
      if not node then break end
      line = node.line or line
    end
    return line or (root and root.line)
  end
end

---Scans the source of a Lua configuration.
---@param text string
---@return fun(keys: any[]): integer? line the line of a key path, or of the closest known key above it
function M.lua(text)
  local scan = setmetatable({ tokens = tokenize(text), at = 1, names = {} }, Scan) ---@type any
  local root
  while scan.at <= #scan.tokens do
    local kind, word = scan:peek()
    local before = scan.at
    if kind == "name" and word == "return" then
      scan.at = scan.at + 1
      root = scan:value(0) or root
    elseif kind == "name" and word ~= "local" and not (before > 1 and scan.tokens[before - 1].kind == ".") then
      if not scan:assignment() then scan.at = before + 1 end
    else
      scan.at = before + 1
    end
    if scan.at <= before then scan.at = before + 1 end
  end
  return walk(root)
end

---Scans JSON text.
---@param text string
---@return fun(keys: any[]): integer? line
function M.json(text)
  local scan = setmetatable({ tokens = tokenize(text), at = 1, names = {}, json = true }, Scan) ---@type any
  return walk(scan:value(0))
end

---Uses the marks of yaml.decode: lines by the path of each value ("apps.web.verify[1].http").
---@param marks table<string, integer>
---@return fun(keys: any[]): integer? line
function M.yaml(marks)
  return function(keys)
    local path, line = "", marks[""] or 1
    for _, key in ipairs(keys) do
      if math.type(key) == "integer" then
        path = ("%s[%d]"):format(path, key)
      else
        path = path == "" and tostring(key) or path .. "." .. tostring(key)
      end
      if not marks[path] then break end
      line = marks[path]
    end
    return line
  end
end

return M
