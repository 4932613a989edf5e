-- Secrets: only where to find them is configured, and only reveal() opens them.
--
-- A secret is read anew at each use, so a rotated file or variable counts at once. Whatever is read is
-- registered with the log's filter before anybody can write it.

local s = require "base.schema"
local sys = require "base.sys"

local M = {}

---@class Secret Opaque: as text it is "[secret env NAME]".
---@field kind "env"|"file"
---@field name string
local Secret = {}

-- What a secret knows, apart from the object: walking or encoding the object shows nothing to leak.
local known = setmetatable({}, { __mode = "k" }) ---@type table<table, {[string]: string}>

-- The log's filter refuses shorter values, since it would blank ordinary text.
local SHORTEST, LARGEST = 4, 65536

local meta = {
  __name = "secret",
  __metatable = "secret",
  __index = function(self, key)
    if Secret[key] then return Secret[key] end
    if key == "kind" or key == "name" then return known[self][key] end
    return nil
  end,
  __newindex = function() error("a secret cannot be changed", 2) end,
  __tostring = function(self) return ("[secret %s %s]"):format(known[self].kind, known[self].name) end,
}

---Makes a secret from where it is found.
---@param kind "env"|"file"
---@param name string variable or absolute path
---@return Secret
function M.new(kind, name)
  local object = setmetatable({}, meta)
  known[object] = { kind = kind, name = name }
  return object
end

---Whether a value is a secret.
---@param value any
---@return boolean
---@return_cast value Secret
function M.is(value)
  return type(value) == "table" and known[value] ~= nil
end

---Reads the value and registers it for redaction.
---@async
---@return string?
---@return Err? err
---@return_overload nil, Err
function Secret:reveal()
  local errors = require "errors"
  local me = assert(known[self], "usage: secret:reveal()")
  local value
  if me.kind == "env" then
    value = sys.env(me.name)
    if not value then
      return errors.fail("not_found", ("the environment variable %s is not set"):format(me.name), { op = "secret" })
    end
  else
    local text, err = require("fs").read(me.name, { max = LARGEST })
    if not text then return nil, err end
    -- One line end belongs to the editor, not to the secret.
    value = text:gsub("\r?\n$", "")
  end
  if #value < SHORTEST then
    return errors.fail("invalid", ("%s is empty or too short"):format(tostring(self)), { op = "secret" })
  end
  require("log").secret(value)
  return value
end

---Gives the text of what may be written down or may be a secret.
---@async
---@param value? string|Secret
---@return string?
---@return Err? err
---@return_overload nil, Err
function M.text(value)
  if M.is(value) then return value:reveal() end
  return value
end

---The shape of a secret in a configuration.
---@param options? table
---@return Shape
function M.shape(options)
  options = options or {}
  options.what = "a secret"
  options.example = '{ env = "NAME" } or { file = "/path" }'
  options.accept = function(self, value, at)
    if type(value) == "string" or type(value) == "number" then
      -- The value itself is never repeated.
      return at:fault("is a secret written in plain sight",
        'write { env = "NAME" } or { file = "/path" }, and change the secret: it may have been seen')
    end
    if type(value) ~= "table" then return at:fault("must be " .. self.example) end
    local kind, name
    for key, item in next, value do
      if (key ~= "env" and key ~= "file") or kind then
        return at:fault("must be { env = ... } or { file = ... } and nothing else",
          s.meant(key, { "env", "file" }))
      end
      kind, name = key, item
    end
    if not kind then return at:fault("must be " .. self.example) end
    local here = at:child(kind)
    if type(name) ~= "string" or name == "" then return here:fault("must be text") end
    if kind == "env" then
      if not name:find("^[%a_][%w_]*$") then
        return here:fault("is not the name of an environment variable", "the name, not the secret itself")
      end
      local value_now = sys.env(name)
      if not value_now or value_now == "" then
        return here:fault(("the environment variable %s is %s"):format(name, value_now and "empty" or "not set"))
      end
      if #value_now < SHORTEST then
        return here:fault(("the environment variable %s is too short for a secret"):format(name),
          ("a secret has at least %d bytes: shorter ones cannot be kept out of the logs"):format(SHORTEST))
      end
      require("log").secret(value_now)
    else
      if name:find("%c") then return here:fault("holds control characters") end
      name = at.source.resolve(name)
      local wrong = at.source.missing(name)
      if wrong then return here:fault(wrong) end
    end
    return M.new(kind, name)
  end
  return s.custom(options)
end

return M
