-- Settings: free tables of an app and of its environments, merged, which policies read as place.settings and
-- run.settings. A policy may declare what shape they have, with defaults: policy { settings = { soak = { type =
-- "duration", default = "2d" } } }.
local errors, s, tables = require "errors", require "base.schema", require "base.tables"

local M = {}

local DEPTH <const>, VALUES <const> = 8, 1000 -- how deep settings may be, and how many values

-- ---- in the configuration ----

local PLAIN <const> = { string = true, number = true, boolean = true }

local function plain(value, at, depth, count)
  count[1] = count[1] + 1
  if count[1] > VALUES then return nil end
  if PLAIN[type(value)] then return value end
  if type(value) ~= "table" then
    return at:fault(("is %s: settings are text, numbers, true, false and tables of them"):format(
      type(value) == "userdata" and "null" or "a " .. type(value)))
  end
  if depth > DEPTH then return at:fault(("is deeper than %d tables"):format(DEPTH)) end
  local copy, list = {}, rawlen(value) > 0
  for key, item in next, value do
    if list and math.type(key) ~= "integer" or not list and type(key) ~= "string" then
      return at:fault("is neither a list nor a table with names")
    end
    copy[key] = plain(item, at:child(key), depth + 1, count)
  end
  return copy
end

---The key `settings` of the configuration.
---@param doc string
---@return Shape
function M.key(doc)
  return s.custom {
    doc = doc, what = "a table", example = '{ soak = "2d" }',
    accept = function(_, value, at)
      if type(value) ~= "table" or rawlen(value) > 0 then return at:fault("must be a table with names") end
      local count = { 0 }
      local copy = plain(value, at, 1, count)
      if count[1] > VALUES then return at:fault(("has more than %d values"):format(VALUES)) end
      return copy
    end,
  }
end

-- ---- what a policy declares ----

local OPTIONS <const> = { "type", "default", "required", "doc", "min", "max", "words", "of", "keys", "multiline" }

local shape_of ---@type fun(path: string, declared: any): Shape

local function number(options)
  options.what = "a number"
  function options.accept(self, value, at)
    if type(value) ~= "number" or value ~= value then return at:fault("must be a number") end
    if value < (self.min or -math.huge) or value > (self.max or math.huge) then
      return at:fault(("must be between %s and %s"):format(self.min or "any", self.max or "any"))
    end
    return value
  end
  return s.custom(options)
end

local function record(path, keys, options)
  if type(keys) ~= "table" or next(keys) == nil then
    error(path .. " needs keys: a table from names to what they are", 0)
  end
  local fields = {}
  for name, declared in next, keys do
    if type(name) ~= "string" then error(("%s: a setting has a name, not %s"):format(path, tostring(name)), 0) end
    fields[#fields + 1] = { name, shape_of(path .. "." .. name, declared) }
  end
  table.sort(fields, function(a, b) return a[1] < b[1] end)
  return s.record(fields, options)
end

local TYPES <const> = {
  text = function(_, _, options) return s.text(options) end,
  integer = function(_, _, options) return s.integer(options) end,
  number = function(_, _, options) return number(options) end,
  boolean = function(_, _, options) return s.boolean(options) end,
  duration = function(_, _, options) return s.duration(options) end,
  choice = function(path, declared, options)
    local words = rawget(declared, "words")
    if type(words) ~= "table" or rawlen(words) == 0 then error(path .. " needs words: a list of them", 0) end
    local copy = {}
    for i = 1, rawlen(words) do copy[i] = tostring(rawget(words, i)) end
    return s.choice(copy, options)
  end,
  list = function(path, declared, options)
    return s.list(shape_of(path .. "[]", rawget(declared, "of") or { type = "text" }), options)
  end,
  map = function(path, declared, options)
    return s.map(s.text(), shape_of(path .. ".*", rawget(declared, "of") or { type = "text" }), options)
  end,
  record = function(path, declared, options) return record(path, rawget(declared, "keys"), options) end,
}

function shape_of(path, declared)
  if type(declared) ~= "table" or type(rawget(declared, "type")) ~= "string" then
    error(path .. ' is declared as a table with a type: { type = "duration", default = "2d" }', 0)
  end
  for option in next, declared do
    if not tables.contains(OPTIONS, option) then
      local meant = s.meant(option, OPTIONS)
      error(("%s has no option '%s'%s"):format(path, tostring(option), meant and "; " .. meant or ""), 0)
    end
  end
  local kind = rawget(declared, "type")
  local make = TYPES[kind]
  if not make then
    local known = tables.keys(TYPES)
    table.sort(known)
    error(("%s has an unknown type '%s'; there are %s"):format(path, kind, table.concat(known, ", ")), 0)
  end
  local shape = make(path, declared, {
    doc = tostring(rawget(declared, "doc") or path), default = tables.copy(rawget(declared, "default")),
    required = rawget(declared, "required") == true or nil, min = tonumber(rawget(declared, "min")),
    max = tonumber(rawget(declared, "max")), multiline = rawget(declared, "multiline") == true or nil,
  })
  local at = s.cursor("", function() return nil end)
  if shape.default ~= nil then shape:check(nil, at) end
  local fault = at.source.faults[1]
  if fault then error(("the default of %s %s"):format(path, fault.message), 0) end
  return shape
end

---The shape that a policy declares; raises what is wrong with it.
---@param declared table
---@return Shape
function M.shape(declared) return record("settings", declared, { doc = "settings" }) end

-- ---- what a policy gets ----

local function is_list(value) return type(value) == "table" and rawlen(value) > 0 end

-- The second over the first: tables with names are merged, anything else takes the place of what was there.
local function merged(below, above)
  if type(below) ~= "table" or type(above) ~= "table" or is_list(below) or is_list(above) then
    return tables.copy(above)
  end
  local out = tables.copy(below)
  for key, value in next, above do out[key] = merged(out[key], value) end
  return out
end

---The settings of an environment, over those of its app.
---@param app AppConfig
---@param environment EnvironmentConfig
---@return table
local function both(app, environment) return merged(app.settings or {}, environment.settings or {}) end

---The settings as a policy sees them: a copy, with its defaults.
---@param app AppConfig
---@param environment EnvironmentConfig
---@param shape? Shape What the policy declares.
---@return table? settings
---@return Err? err invalid: they are not as the policy declares them.
---@return_overload nil, Err
function M.of(app, environment, shape)
  local given = both(app, environment)
  if not shape then return given end
  local at, known = s.cursor("", function() return nil end), {}
  for _, field in ipairs(assert(shape.fields)) do known[field[1]] = given[field[1]] end
  local settings = shape:check(known, at:child "settings")
  local fault = at.source.faults[1]
  if fault then
    return errors.fail("invalid", ("%s %s: %s %s"):format(app.name, environment.name, fault.path, fault.message))
  end
  for name, value in next, given do
    if settings[name] == nil then settings[name] = value end
  end
  return tables.copy(settings)
end

-- ---- faults ----

-- The shapes that the policies of an environment declare, and whether its own policy does.
local function shapes_at(environment, policies)
  local own = policies[environment.policy]
  local shapes, back = { own and own.settings }, environment.rollback and policies[environment.rollback]
  shapes[#shapes + 1] = back and back.settings or nil
  return shapes, own and own.settings ~= nil
end

local function names_of(shapes)
  local names = {}
  for _, shape in ipairs(shapes) do
    for _, field in ipairs(shape.fields) do names[#names + 1] = field[1] end
  end
  return names
end

local function unknown(settings, names, at)
  for key in next, settings or {} do
    if not tables.contains(names, key) then
      at:child(key):fault(("unknown setting %s"):format(s.quote(tostring(key))), s.meant(key, names)
        or "the policy declares " .. table.concat(names, ", "))
    end
  end
end

-- The environments of the file: those that are templates, too.
local function written(app)
  if app.found then return {} end
  local list = table.move(app.environment_list, 1, #app.environment_list, 1, {})
  return table.move(app.templates or {}, 1, #(app.templates or {}), #list + 1, list)
end

---What is wrong with the settings of a configuration, by what its policies declare.
---@param config Config
---@param policies table<string, Policy>
---@param top Cursor Where the configuration's lines are.
---@return Fault[] faults
function M.faults(config, policies, top)
  for _, app in ipairs(config.app_list) do
    local here = top:child("apps"):child(app.name)
    local environments = written(app)
    local all, every = {}, #environments > 0 -- whether each of its policies declares some
    for _, environment in ipairs(environments) do
      local shapes, declares = shapes_at(environment, policies)
      local given, names = both(app, environment), names_of(shapes)
      local at = here:child("environments"):child(environment.template or environment.name):child("settings")
      for _, shape in ipairs(shapes) do
        for _, field in ipairs(shape.fields) do
          local name = field[1]
          local of_app = (environment.settings or {})[name] == nil and (app.settings or {})[name] ~= nil
          field[2]:check(given[name], (of_app and here:child "settings" or at):child(name))
        end
      end
      if declares then unknown(environment.settings, names, at) end
      table.move(names, 1, #names, #all + 1, all)
      every = every and declares
    end
    if every then unknown(app.settings, all, here:child "settings") end
  end
  for _, finder in ipairs(require("extensions").all "finder") do
    local part = config[finder.name]
    for _, name in ipairs(type(part) == "table" and part.settings and finder.policies(part) or {}) do
      local shape = policies[name] and policies[name].settings
      local at = top:child(finder.name):child("settings")
      if shape then shape:check((part --[[@as table]]).settings, at) end
    end
  end
  local faults, told = {}, {}
  for _, fault in ipairs(top.source.faults) do
    local words = tostring(fault.path) .. fault.message
    if not told[words] then faults[#faults + 1] = fault end
    told[words] = true
  end
  table.sort(faults, function(a, b)
    if (a.line or 0) ~= (b.line or 0) then return (a.line or 0) < (b.line or 0) end
    return tostring(a.path) < tostring(b.path)
  end)
  return faults
end

return M
