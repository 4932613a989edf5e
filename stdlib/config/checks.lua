-- The keys of a check. Each kind of checks has a key of its own name, and further ones.
local extensions = require "extensions"
local names = require "config.names"
local s = require "base.schema"
local shapes = require "config.shapes"

local with, text = shapes.with, shapes.text

local M = {}

local within = s.duration { doc = "Time in which it must succeed. Default 30s, of a job 10m.", min = 0.1,
  max = 86400 }
local every = s.duration { doc = "Pause between two attempts.", default = "1s", min = 0.05, max = 3600 }

---The keys that all kinds have in common.
---@type SchemaField[]
M.common = {
  { "within", within }, { "every", every },
  { "part", shapes.text("With `targets`: the one part that it is for. Default: each of them.") },
}

---The keys of each kind of checks that is not an extension's: the one of its name, and further ones.
---@type table<string, {key: Shape, keys: SchemaField[]}>
M.own = {
  http = {
    key = shapes.url "Address to ask.",
    keys = {
      { "status", s.integer { doc = "With http: the status to expect. Default 200.", min = 100, max = 599 } },
      { "contains", text("With http: text that the body must hold.") },
    },
  },
  metric = {
    key = require("config.metric").shape {
      doc = "A number that is sampled over a time, of Prometheus or a JSON address (`moontide help canary`). After the "
        .. "other checks of a release, not again while its health is watched.",
    },
    keys = {},
  },
  command = { key = shapes.command "Program that must exit with 0.", keys = {} },
  job = {
    key = text("Kubernetes Job that must succeed once for each release: cronjob/NAME, of whose template it is made, or"
      .. " a manifest in the repository.", { what = "cronjob/NAME or a file", verify = with(names.job) }),
    keys = {
      { "cluster", text("With job: cluster it runs in. Default: the target's.") },
      { "namespace", text("With job: namespace. Default: the target's.",
        { what = "a namespace", verify = with(names.namespace) }) },
    },
  },
}

-- "a, b or c"
local function list_of(words, last)
  if #words < 2 then return words[1] or "" end
  return table.concat(words, ", ", 1, #words - 1) .. " " .. last .. " " .. words[#words]
end

local function ways_of(value)
  local ways = {}
  for _, entry in ipairs(extensions.all "check") do
    if value[entry.name] ~= nil then ways[#ways + 1] = entry end
  end
  return ways
end

---How a check proves a release: what is registered under the key that it has.
---@param check VerifyConfig
---@return CheckKind
function M.way(check) return ways_of(check)[1] end

local function verify(value, at)
  local ways, all = ways_of(value), extensions.all "check"
  local way = ways[1]
  if #ways ~= 1 then
    local words = {}
    for i, entry in ipairs(all) do words[i] = entry.name end
    return at:fault("needs either " .. list_of(words, "or"), '{ http = "http://127.0.0.1:8080/", within = "30s" }')
  end
  assert(way)
  value.within = value.within or way.within or 30
  for _, entry in ipairs(all) do
    local further = {}
    for i, field in ipairs(entry ~= way and extensions.fields(entry) or {}) do further[i] = field[1] end
    for _, key in ipairs(further) do
      if value[key] ~= nil then
        return at:fault(("%s belong%s to %s, not to %s"):format(list_of(further, "and"), #further == 1 and "s" or "",
          entry.name, way.name))
      end
    end
  end
  if way.name == "http" then value.status = value.status or 200 end
  return value
end

---The shape of one check.
---@return Shape
function M.shape()
  local fields = {}
  for _, entry in ipairs(extensions.all "check") do
    fields[#fields + 1] = { entry.name, extensions.key(entry) }
    for _, field in ipairs(extensions.fields(entry)) do fields[#fields + 1] = field end
  end
  table.move(M.common, 1, #M.common, #fields + 1, fields)
  return s.record(fields, { plural = "checks", verify = verify })
end

return M
