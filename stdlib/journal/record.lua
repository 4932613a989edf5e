-- What the journal keeps of values: JSON text, and the same values from it again.
--
-- A result comes back as what it was: bytes that are no text, lists with holes, tables with other keys than text,
-- numbers that JSON does not know, errors and HTTP answers are written as an object with one marked key; a key of the
-- policy that begins with the mark gets a second one. What a step was asked is only compared and shown, so there
-- functions are their type and nothing that looks like a credential is kept. Secrets that are known are redacted, also
-- within bytes.
local answers, errors, hash, json, log = require "base.http_answer", require "errors", require "hash", require "json",
  require "log"

local M = {}

local DEEP <const> = 28 -- levels of tables; each may become two of JSON
local SECRET_KEYS <const> = { auth = true, password = true, token = true, authorization = true, secret = true }

local WIDE <const> = 2.0 ^ 63 -- beyond it JSON has no whole number of it either

---@return never
local function refuse(what, why)
  error(errors.new("invalid", ("%s cannot be recorded: %s"):format(what, why), { op = "step" }), 0)
end

local function text_of(value, what)
  local text, err = json.encode(value)
  return log.redact(text or refuse(what, tostring(err and err.message)))
end

-- ---- what a step was asked ----

-- How a table's keys may be written: "list", "object", or "keyed" when they are mixed or have holes.
local function keys_of(value)
  local whole, words, highest, others = 0, 0, 0, false
  for k in next, value do
    if math.type(k) == "integer" then
      whole = whole + 1
      if k < 1 then others = true else highest = math.max(highest, k) end
    elseif type(k) == "string" then
      words = words + 1
    else
      others = true
    end
  end
  if whole == 0 and not others then return "object" end
  if words == 0 and not others and highest == whole then return "list" end
  return "keyed"
end

local function asked(value, depth, is_error)
  local kind = type(value)
  if kind == "table" then
    if is_error(value) then return errors.plain(value) end
    if depth > 8 then return "..." end
    local copy, kind_of_keys = {}, keys_of(value)
    for k, v in next, value do
      if type(k) == "string" or math.type(k) == "integer" then
        local secret, plain = type(k) == "string" and SECRET_KEYS[k:lower()], asked(v, depth + 1, is_error)
        if plain == nil and kind_of_keys == "list" then plain = json.null end
        copy[kind_of_keys == "keyed" and tostring(k) or k] = secret and "[redacted]" or plain
      end
    end
    return copy
  elseif kind == "string" then
    if utf8.len(value) then return value end
    return { ["$bytes"] = hash.base64(log.redact(value)) }
  elseif kind == "number" then
    if value ~= value or value == math.huge or value == -math.huge then return tostring(value) end
    return value
  elseif kind == "nil" or value == json.null then
    return nil
  elseif kind == "boolean" then
    return value
  end
  return "[" .. kind .. "]"
end

---The text of what a step was asked.
---@param value any
---@param name string The step.
---@param is_error? fun(value: any): boolean In the first two editions any table with a text `code` was an error.
---@return string json
function M.asked(value, name, is_error)
  local what = "what " .. name .. " was asked"
  return text_of(asked(value == nil and {} or value, 0, is_error or errors.made), what)
end

-- ---- results ----

local encoded ---@type fun(value: any, what: string, depth: integer): any

local function pairs_of(value, what, depth)
  local list = json.array {}
  for k, v in next, value do
    local key = type(k)
    if key ~= "string" and key ~= "number" and key ~= "boolean" then refuse(what, "a key is a " .. key) end
    list[#list + 1] = { encoded(k, what, depth), encoded(v, what, depth) }
  end
  -- In a fixed order: equal results give equal text.
  local texts = {}
  for _, pair in ipairs(list) do texts[pair] = text_of(pair[1], what) end
  table.sort(list, function(a, b) return texts[a] < texts[b] end)
  return { ["$pairs"] = list }
end

-- An error with all its fields that are plain data: what a policy asks of it (its status, its cause) is there after a
-- crash, too.
local function error_of(err, what, depth)
  local fields = {}
  for k, v in next, err do
    local ok, plain = pcall(encoded, v, what, depth)
    if ok and type(k) == "string" and utf8.len(k) then fields[k] = plain end
  end
  return fields
end

local function encoded_table(value, what, depth)
  if errors.made(value) and depth <= DEEP then return { ["$error"] = error_of(value, what, depth + 1) } end
  if answers.is(value) then
    local plain, why = answers.plain(value)
    if not plain then refuse(what, why) end
    return { ["$answer"] = encoded(plain, what, depth + 1) }
  end
  if depth > DEEP then refuse(what, ("it has more than %d levels, or contains itself"):format(DEEP)) end
  local kind = keys_of(value)
  if kind == "keyed" then return pairs_of(value, what, depth + 1) end
  local copy = (kind == "list" or json.is_array(value)) and json.array {} or {}
  for k, v in next, value do
    if type(k) == "string" then
      if not utf8.len(k) then return pairs_of(value, what, depth + 1) end
      if k:byte() == 36 then k = "$" .. k end
    end
    copy[k] = encoded(v, what, depth + 1)
  end
  return copy
end

function encoded(value, what, depth)
  local kind = type(value)
  if kind == "string" then
    if utf8.len(value) then return value end
    return { ["$bytes"] = hash.base64(log.redact(value)) }
  elseif kind == "number" then
    if value ~= value or value == math.huge or value == -math.huge then return { ["$number"] = tostring(value) } end
    -- JSON would make a whole number of a float that has no fraction, and forget the sign of its zero.
    if math.type(value) == "float" and value % 1 == 0 and math.abs(value) <= WIDE then
      return { ["$number"] = ("%.1f"):format(value) }
    end
    return value
  elseif kind == "boolean" or value == json.null then
    return value
  elseif kind == "table" then
    return encoded_table(value, what, depth)
  end
  refuse(what, "it holds a " .. kind)
end

local decoded ---@type fun(value: any): any

---An error from what the journal has of it.
---@param data table
---@return Err
function M.error(data)
  local fields = {}
  for k, v in next, data do fields[k] = decoded(v) end
  return errors.new(fields.code or "failed", fields.message or "", fields)
end

---The error that a step's row has.
---@param text string JSON.
---@return Err
function M.failure(text) return M.error(assert(json.decode(text))) end

local NUMBERS <const> = { inf = math.huge, ["-inf"] = -math.huge }

---@type table<string, fun(value: any): any>
local marks = {
  ["$bytes"] = function(value) return (assert(hash.unbase64(value))) end,
  ["$number"] = function(value) return NUMBERS[value] or tonumber(value) or 0.0 / 0.0 end,
  ["$error"] = function(value) return M.error(value) end,
  ["$answer"] = function(value) return answers.revive(decoded(value)) end,
  ["$pairs"] = function(value)
    local t = {}
    for _, pair in ipairs(value) do t[decoded(pair[1])] = decoded(pair[2]) end
    return t
  end,
}

function decoded(value)
  if type(value) ~= "table" then return value end
  local key, content = next(value)
  local mark = type(key) == "string" and next(value, key) == nil and marks[key]
  if mark then return (mark --[[@as function]])(content) end
  local copy = json.is_array(value) and json.array {} or {}
  for k, v in next, value do
    if type(k) == "string" and k:sub(1, 2) == "$$" then k = k:sub(2) end
    copy[k] = decoded(v)
  end
  return copy
end

---Several results, nil and errors among them, as one text.
---@param name string The step.
---@param ... any
---@return string json
function M.results(name, ...)
  local n, list, what = select("#", ...), json.array {}, "the result of " .. name
  for i = 1, n do
    local v = select(i, ...)
    if v == nil then
      list[i] = { t = "nil" }
    elseif errors.made(v) then
      list[i] = { t = "err", v = error_of(v, what, 0) }
    else
      list[i] = { t = "v", v = encoded(v, what, 0) }
    end
  end
  return text_of({ n = n, list = list }, what)
end

---The results that a text stands for.
---@param text string
---@return any ...
function M.revive(text)
  local packed, out = assert(json.decode(text)), {}
  for i = 1, packed.n do
    local item = packed.list[i]
    if item.t == "err" then out[i] = M.error(item.v) elseif item.t == "v" then out[i] = decoded(item.v) end
  end
  return table.unpack(out, 1, packed.n)
end

---One value as a text; nil is none.
---@param value any
---@param name string The step.
---@return string json
function M.value(value, name)
  local what = "the value of " .. name
  return text_of({ value = value ~= nil and encoded(value, what, 0) or nil }, what)
end

---The value that a text stands for.
---@param text string
---@return any
function M.value_of(text) return decoded(assert(json.decode(text)).value) end

return M
