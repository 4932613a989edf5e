-- A metric: a number of a Prometheus server or of a JSON address, sampled over a time against a bound.
--
-- A sample is a number in bounds, a number out of bounds, or missing: the server did not answer, or had no number. What
-- is missing proves nothing; with too many missing the metric is inconclusive. An answer that will not change (a query
-- with a fault, no right to ask) is an error at once.
local errors, json, log, text, time =
  require "errors", require "json", require "log", require "base.text", require "time"
local tables = require "base.tables"
local escape = require("http").escape

local M = {}

local LONGEST <const> = 10 -- seconds for one answer
local MAX_BODY <const> = 4 << 20

-- ---- what a policy gives ----

---What run:metric is given, judged as in a configuration.
---@param options table
---@param place Place
---@return MetricConfig
---@return table asked As the journal has it: plain.
function M.given(options, place)
  if type(options) ~= "table" then error("usage: run:metric { prometheus =, query =, below = }", 3) end
  local plain = {}
  for key, value in next, options do
    local nested = type(value) == "table" and {} or value
    if type(value) == "table" then
      for k, v in next, value do nested[k] = v end
    end
    plain[key] = nested
  end
  -- Of the host's secrets a policy has the variables that the app names, and no file.
  for kind, name in next, type(plain.token) == "table" and plain.token or {} do
    if kind ~= "env" then
      error(errors.new("denied", "a policy's token is a variable, { env = NAME }, that the app's `env` names",
        { op = "metric" }), 0)
    elseif not tables.contains(place.app_config.env or {}, name) then
      error(errors.new("denied", ("policies of %s may not have the variable %s: name it in the app's `env`"):format(
        place.app, tostring(name)), { op = "metric" }), 0)
    end
  end
  local at = require("config.load").cursor_of_file("run:metric", place.world.config.dir)
  local m = require("config.metric").shape():check(plain, at)
  local fault = at.source.faults[1]
  if fault then
    error(("usage: run:metric: %s%s%s"):format(fault.path and fault.path .. " " or "", fault.message,
      fault.suggestion and " (" .. fault.suggestion .. ")" or ""), 3)
  end
  return m, plain
end

-- ---- one sample ----

-- The server as errors name it: what follows the question mark may hold a password.
local function server_of(m) return (assert(m.prometheus or m.url):match "^[^?]*") end

local function wrong(m, code, words)
  return errors.new(code, ("metric %s: %s"):format(text.clean(m.name, 200), text.clean(words, 300)),
    { op = "metric", target = server_of(m) })
end

-- Kinds of errors of Prometheus's API that may pass; the others are about the query.
local PASSING <const> = { timeout = true, canceled = true, internal = true, unavailable = true,
  too_many_requests = true }

local function number_of(value)
  local n = type(value) == "number" and value or nil
  if type(value) == "string" then
    n = value:match "^%s*%+?[Ii]nf" and math.huge or value:match "^%s*%-[Ii]nf" and -math.huge or tonumber(value)
  end
  return n == n and n or nil
end

-- The numbers of a query's answer. nil: it has none, and why.
local function of_prometheus(m, body)
  local data = type(body.data) == "table" and body.data or {}
  if type(body.warnings) == "table" and #body.warnings > 0 and not m.partial then
    return nil, "the answer is incomplete: " .. tostring(body.warnings[1])
  end
  local result = type(data.result) == "table" and data.result or {}
  if data.resultType == "scalar" then return { number_of(result[2]) }, "it is NaN" end
  if data.resultType ~= "vector" then
    error(wrong(m, "invalid", ("the query gives a %s; it must give a scalar or an instant vector"):format(
      tostring(data.resultType))), 0)
  end
  local numbers = {}
  for _, series in ipairs(result) do
    local value = type(series) == "table" and type(series.value) == "table" and series.value[2]
    numbers[#numbers + 1] = number_of(value)
  end
  return numbers, #result > 0 and "it is NaN" or "no series matches"
end

local function of_json(m, body)
  local value = body
  for key in m.json:gmatch("[^.]+") do
    if type(value) ~= "table" then return {}, ("the answer has no %s"):format(m.json) end
    local here = value[key]
    if here == nil then here = value[math.tointeger(tonumber(key))] end
    value = here
  end
  return { number_of(value) }, ("the answer has no number at %s"):format(m.json)
end

-- What a refusal means: nil and why when it may pass, else the error is raised.
local function refused(m, status, body)
  local kind = type(body) == "table" and body.errorType
  local words = kind and ("%s: %s"):format(kind, tostring(body.error)) or ("HTTP %d"):format(status)
  if kind and PASSING[kind] or not kind and errors.passing(status) then return nil, words end
  local code = (status == 401 or status == 403) and "denied" or kind and "invalid" or "protocol"
  error(wrong(m, code, "the server refuses: " .. words), 0)
end

---Asks once.
---@async
---@param m MetricConfig
---@param http table The world's module.
---@return number[]? numbers At least one; nil: none.
---@return string? why There is none.
function M.ask(m, http)
  local auth
  if m.token then
    local token, err = m.token:reveal()
    if not token then error(err, 0) end
    auth = { bearer = token }
  end
  local address = m.url or ("%s/api/v1/query?query=%s"):format(assert(m.prometheus):gsub("/+$", ""),
    escape(assert(m.query)))
  local answer, err = http.get(address, {
    timeout = LONGEST, max_body = MAX_BODY, auth = auth, redirects = 0, headers = { Accept = "application/json" },
  })
  if not answer then
    if not errors.passing(err) then error(wrong(m, err.code, err.message), 0) end
    return nil, err.message
  end
  local body = json.decode(answer.body or "")
  local failed = type(body) == "table" and m.prometheus and body.status == "error"
  if failed or answer.status < 200 or answer.status > 299 then return refused(m, answer.status, body) end
  if type(body) ~= "table" then return nil, "the answer is no JSON" end
  local numbers, why = (m.prometheus and of_prometheus or of_json)(m, body)
  if numbers and #numbers > 0 then return numbers end
  if numbers and m.empty then return { m.empty } end
  return nil, why
end

-- ---- bounds ----

---The bound in words.
---@param m MetricConfig
---@return string
function M.bound(m)
  local words = {}
  if m.above then words[#words + 1] = ("above %g"):format(m.above) end
  if m.below then words[#words + 1] = ("below %g"):format(m.below) end
  if m.within then words[#words + 1] = ("within %g and %g"):format(m.within[1], m.within[2]) end
  return table.concat(words, " and ")
end

---@param m MetricConfig
---@param n number
---@return boolean
function M.in_bounds(m, n)
  return (not m.above or n > m.above) and (not m.below or n < m.below)
    and (not m.within or n >= m.within[1] and n <= m.within[2])
end

-- ---- what was sampled ----

---@class MetricReadings What the journal keeps of a metric that is being sampled.
---@field began Wall
---@field seen? string The samples: "0.1 0.2! -"; "!": out of bounds, "-": missing.
---@field why? string Why the last missing one was missing.

---@class MetricResult
---@field outcome "passed"|"failed"|"inconclusive"
---@field summary string One line for people.
---@field samples integer Numbers.
---@field failures integer Numbers out of bounds.
---@field missing integer
---@field min? number
---@field max? number
---@field mean? number
---@field last? number

local WRITTEN <const> = { inf = math.huge, ["-inf"] = -math.huge }

---@param readings MetricReadings
---@return MetricResult
local function counted(readings)
  ---@type MetricResult
  local r = { outcome = "passed", summary = "", samples = 0, failures = 0, missing = 0 }
  local sum = 0.0
  for sample in (readings.seen or ""):gmatch("%S+") do
    local words, bad = sample:match("^([^!]+)(!?)$")
    local n = WRITTEN[words] or tonumber(words)
    if n then
      r.samples, r.last, sum = r.samples + 1, n, sum + n
      r.min, r.max = math.min(r.min or n, n), math.max(r.max or n, n)
      if bad == "!" then r.failures = r.failures + 1 end
    else
      r.missing = r.missing + 1
    end
  end
  if r.samples > 0 then r.mean = sum / r.samples end
  return r
end

local function plural(n, word) return ("%d %s%s"):format(n, word, n == 1 and "" or "s") end

-- One line of what was seen so far.
local function told(m, r, readings)
  local seen = r.samples == 0 and "no number" or r.min == r.max and ("%g"):format(r.min)
    or ("%g to %g, mean %g"):format(r.min, r.max, r.mean)
  local missing = r.missing > 0 and ("; %s missing (%s)"):format(plural(r.missing, "sample"),
    text.clean(readings.why or "nobody knows why", 200)) or ""
  return ("%s: %s in %s, must be %s%s"):format(text.clean(m.name, 120), seen, plural(r.samples, "sample"), M.bound(m),
    missing)
end

---Takes a sample; the readings have it then.
---@async
---@param m MetricConfig
---@param http table
---@param readings MetricReadings
---@param last boolean There is no further one.
---@return MetricResult? result nil: it goes on.
---@return string said One line of what was seen so far.
function M.sample(m, http, readings, last)
  local numbers, why = M.ask(m, http)
  local sample = "-"
  if numbers then
    local worst = numbers[#numbers]
    for _, n in ipairs(numbers) do
      if not M.in_bounds(m, n) then worst = n break end
    end
    sample = ("%.6g%s"):format(worst, M.in_bounds(m, worst) and "" or "!")
  else
    readings.why = log.redact(text.clean(why or "no answer", 200))
  end
  readings.seen = readings.seen and readings.seen .. " " .. sample or sample
  local r = counted(readings)
  local said = told(m, r, readings)
  local needed = m.samples or math.max(1, math.floor((m.over // m.every + 1) / 2))
  if r.failures > m.failures then
    r.outcome = "failed"
    said = ("%s; %d out of bounds, %d allowed"):format(said, r.failures, m.failures)
  elseif not last then
    return nil, said
  elseif r.samples < needed then
    r.outcome = "inconclusive"
    said = ("%s; it takes %s to tell"):format(said, plural(needed, "sample"))
  end
  r.summary = said
  return r, said
end

---What a result means for who asked: whether it passes, and the line that says so.
---@param m MetricConfig
---@param result MetricResult
---@return boolean passes
---@return string words
function M.verdict(m, result)
  local passes = result.outcome == "passed" or result.outcome == "inconclusive" and m.inconclusive == "pass"
  local words = ("metric %s: %s"):format(result.outcome, result.summary)
  if m.dry_run then return true, passes and words or "dry run, it would have failed: " .. words end
  return passes, words
end

---The checks of a release that are one step together, and its metrics, each of which is a step by itself.
---@param list VerifyConfig[]
---@return VerifyConfig[] others
---@return MetricConfig[] metrics
function M.apart(list)
  local others, metrics = {}, {}
  for _, check in ipairs(list) do
    if check.metric then metrics[#metrics + 1] = check.metric else others[#others + 1] = check end
  end
  return others, metrics
end

---The error of a metric that does not pass.
---@param m MetricConfig
---@param words string Of its verdict.
---@return Err
function M.failure(m, words)
  return errors.new("unhealthy", words, { op = "metric", target = server_of(m) })
end

-- Samples over the time of a metric, without a journal.
local function measure(m, http)
  local readings, last = { began = time.now() }, time.monotonic() + m.over
  while true do
    local result = M.sample(m, http, readings, time.monotonic() + m.every > last)
    if result then return result end
    time.sleep(m.every)
  end
end

---As a check of who is no run: a run samples in a step of its own.
---@async
---@param check VerifyConfig
---@param _ VerifyRequest
---@param world World
---@return true? ok
---@return Err? err
function M.prove(check, _, world)
  local m = assert(check.metric)
  local passes, words = M.verdict(m, measure(m, world.module "http"))
  if passes then return true end
  return nil, M.failure(m, words)
end

return M
