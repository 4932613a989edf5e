-- Shapes that several parts of the configuration share: texts, files, addresses, commands, environments.
local names = require "config.names"
local s = require "base.schema"
local secret = require "config.secret"

---Makes a verifier of a check that answers with what is wrong.
---@param check fun(value: any): string?, string? What is wrong, and a suggestion.
---@return fun(value: any, at: Cursor): any
local function with(check)
  return function(value, at)
    local wrong, suggestion = check(value)
    if wrong then return at:fault(wrong, suggestion) end
    return value
  end
end

---Text with a word about what it means.
---@param doc string
---@param options? table
---@return Shape
local function text(doc, options)
  options = options or {}
  options.doc = doc
  return s.text(options)
end

---Tells values of one type of Lua, for s.either.
---@param kind string
---@return fun(value: any): boolean
local function is(kind)
  return function(value) return type(value) == kind end
end

local plain = s.text { verify = with(names.plain) }
local host_key = s.text { what = "host or host:port", verify = with(names.host) }
-- Text for a program. Whole numbers (ports) are accepted, since their text is unambiguous.
local argument = s.text { min = 0, multiline = true, plural = "text" }
local accept_text = argument.accept
function argument:accept(value, at)
  if math.type(value) == "integer" then value = tostring(value) end
  local good = accept_text(self, value, at)
  if good and good:find("\0", 1, true) then return at:fault("holds a NUL byte") end
  return good
end
local variable = s.text {
  verify = function(value, at)
    if not value:find("^[%a_][%w_]*$") then return at:fault("is not the name of an environment variable") end
    return value
  end,
}

---A program and its arguments.
---@param doc string
---@param options? table
---@return Shape
local function command(doc, options)
  options = options or {}
  options.doc, options.min, options.what = doc, 1, "a list of arguments"
  options.example = options.example or '{ "/usr/bin/program", "argument" }'
  options.hint = "no shell is involved: " .. options.example
  options.verify = function(value, at)
    if value[1] == "" then return at:child(1):fault("must name a program") end
    return value
  end
  return s.list(argument, options)
end

---A file that must be there now. Relative paths start at the folder of the configuration.
---@param doc string
---@param options? table
---@return Shape
local function file(doc, options)
  options = options or {}
  options.doc, options.what = doc, "the path of a file"
  options.verify = function(value, at)
    local path = at.source.resolve(value)
    local wrong = at.source.missing(path)
    if wrong then return at:fault(wrong) end
    return path
  end
  return s.text(options)
end

---A folder, which need not be there yet.
---@param doc string
---@param options? table
---@return Shape
local function folder_path(doc, options)
  options = options or {}
  options.doc, options.what = doc, "the path of a folder"
  options.verify = function(value, at) return at.source.resolve(value) end
  return s.text(options)
end

---A path inside the checkout.
---@param doc string
---@param default? string
---@return Shape
local function inside(doc, default)
  return text(doc, { default = default, what = "a path inside the checkout", verify = with(names.inside) })
end

---An http or https address.
---@param doc? string
---@param options? table
---@return Shape
local function url(doc, options)
  options = options or {}
  options.doc, options.what, options.verify = doc, "an http or https URL", with(names.http_url)
  return s.text(options)
end

---Variables of an environment; their values may be secrets.
---@param doc string
---@return Shape
local function env_map(doc)
  return s.map(variable, s.either({
    { is "table", secret.shape() }, { function(value) return type(value) ~= "table" end, argument },
  }, { plural = "text or secrets" }), { doc = doc, default = {}, name = "NAME" })
end

---Variables of an environment, texts only.
---@param doc string
---@return Shape
local function plain_env(doc)
  return s.map(variable, argument, { doc = doc, default = {}, name = "NAME" })
end

---Checks a workload of a cluster: deployment/NAME and the like.
---@param value string
---@param at Cursor
---@return string?
local function workload(value, at)
  local known, err = require("cluster.rollout").workload(value)
  if not known then return at:fault("is no workload", err.message:match(": (.+)$")) end
  return value
end

---Checks a name of something inside of a pod or a cluster (RFC 1123 label).
---@param value string
---@param at Cursor
---@return string?
local function label_name(value, at)
  if #value > 63 or not value:find("^[%l%d][%l%d-]*$") or value:sub(-1) == "-" then
    return at:fault("is not a name of Kubernetes", "lower-case letters, digits and -, at most 63")
  end
  return value
end

---Checks what targets have in common that are a workload of a cluster.
---@param target TargetConfig
---@param _ EnvironmentConfig
---@param at Cursor
---@param cross CrossCheck
local function cross_workload(target, _, at, cross)
  cross.cluster(target.cluster, at)
  if not target.workload then return end
  local key = ("%s %s %s"):format(target.cluster or "default", target.namespace or "", target.workload)
  cross.claim("this workload", key, at, "workload", "two environments would replace each other's releases")
end

return {
  with = with, text = text, is = is, plain = plain, host_key = host_key, argument = argument, variable = variable,
  command = command, file = file, folder_path = folder_path, inside = inside, url = url, env_map = env_map,
  plain_env = plain_env, workload = workload, label_name = label_name, cross_workload = cross_workload,
}
