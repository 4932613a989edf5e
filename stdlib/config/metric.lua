-- The keys of a metric: in the configuration as a check, and in policies as what run:metric is given.
local s = require "base.schema"
local secret = require "config.secret"
local shapes = require "config.shapes"

local text = shapes.text

local M = {}

local MOST <const> = 2000 -- samples

---@class MetricConfig
---@field name string
---@field prometheus? string
---@field query? string
---@field url? string
---@field json? string
---@field token? Secret
---@field over Seconds
---@field every Seconds
---@field above? number
---@field below? number
---@field within? number[]
---@field samples? integer
---@field failures integer
---@field empty? number
---@field partial boolean
---@field inconclusive "fail"|"pass"
---@field dry_run boolean

local function number(doc)
  return s.custom {
    what = "a number", doc = doc,
    accept = function(_, value, at)
      -- YAML leaves 0.5 as the text that it is.
      local n = (type(value) == "number" or type(value) == "string") and tonumber(value) or nil
      if not n or n ~= n then return at:fault("must be a number") end
      return n
    end,
  }
end

local function verify(m, at)
  if (m.prometheus == nil) == (m.url == nil) then
    return at:fault("needs either prometheus or url",
      '{ prometheus = "http://127.0.0.1:9090", query = "...", below = 0.01 }')
  end
  if m.prometheus and not m.query then return at:fault("has no query: what to ask Prometheus for") end
  if m.url and not m.json then
    return at:fault("has no json: where in the answer the number is", 'json = "errors.rate"')
  end
  if m.prometheus and m.json or m.url and m.query then
    return at:fault(m.url and "query belongs to prometheus" or "json belongs to url")
  end
  if not (m.above or m.below or m.within) then
    return at:fault("has no bound", "above = 0.99, below = 0.01 or within = { 0.9, 1.1 }")
  end
  if m.within and not (#m.within == 2 and m.within[1] <= m.within[2]) then
    return at:child("within"):fault("must be two numbers, the lower one first")
  end
  local most = m.over // m.every + 1
  if most > MOST then return at:child("every"):fault(("is too short: at most %d samples"):format(MOST)) end
  if m.samples and m.samples > most then
    return at:child("samples"):fault(("is more than the time has room for: %d"):format(most))
  end
  m.name = m.name or m.query or m.url:match "^[^?]*" -- what follows may hold a password
  return m
end

---The shape of a metric.
---@param options? table
---@return Shape
function M.shape(options)
  options = options or {}
  options.verify = verify
  return s.record({
    { "name", text("What people call it. Default: the query or the address.", { max = 200 }) },
    { "prometheus", shapes.url "Address of a Prometheus server, or of what speaks its HTTP API, without /api/v1." },
    { "query", text("PromQL that gives numbers: a scalar or an instant vector, all of whose values must be in bounds.",
      { multiline = true }) },
    { "url", shapes.url "Address that answers with JSON." },
    { "json", text("Where the number is in the JSON: keys with dots between, such as errors.rate; items of lists are"
      .. " counted from 1.") },
    { "token", secret.shape { doc = "Bearer token for it." } },
    { "over", s.duration { doc = "How long it is sampled.", default = "1m", max = 30 * 86400 } },
    { "every", s.duration { doc = "Time between two samples.", default = "15s", min = 0.05, max = 86400 } },
    { "above", number "Each sample must be above this." },
    { "below", number "Each sample must be below this." },
    { "within", s.list(number(), { doc = "Each sample must be one of these two numbers or between them.", min = 2,
      max = 2 }) },
    { "failures", s.integer { doc = "Samples that may be out of bounds.", default = 0, min = 0, max = MOST } },
    { "samples", s.integer { doc = "Samples with a number that it takes to tell. Default: half of those that the time "
      .. "has room for.", min = 1, max = MOST } },
    { "empty", number("What an answer without a number counts as (no series, NaN). Default: a sample that is"
      .. " missing.") },
    { "partial", s.boolean { doc = "Take answers that the server itself calls incomplete (`warnings`) for whole.",
      default = false } },
    { "inconclusive", s.choice({ "fail", "pass" }, { doc = "What it means when too few samples had a number.",
      default = "fail" }) },
    { "dry_run", s.boolean { doc = "Only say what it would have said, and pass.", default = false } },
  }, options)
end

return M
