-- Runs the checks of a release, in order, each within its time.
--
-- A probe is one HTTP request, a command one run of a program; both are tried again until they succeed or their time
-- is over. An attempt gets no more time than is left, so a hanging release costs its time and not more. A job of a
-- Kubernetes cluster (checks/job.lua) runs once. Extensions add others of both kinds.
local errors, http, log, proc, text, time =
  require "errors", require "http", require "log", require "proc", require "base.text", require "time"
local checks, last_words = require "config.checks", require("targets").last_words

local M = {}

local ATTEMPT <const> = 10 -- seconds for one probe
local SHORTEST <const> = 0.05
local MAX_BODY <const> = 1 << 20

---Asks an address once.
---@async
---@param check VerifyConfig
---@param _ VerifyRequest
---@param left Seconds
---@return true? ok
---@return string? reason
function M.probe(check, _, left)
  local answer, err = http.get(assert(check.http), {
    timeout = math.min(ATTEMPT, left), redirects = 0, max_body = MAX_BODY,
  })
  if not answer then return nil, ("%s: %s"):format(check.http, err.message) end
  local first = text.clean((answer.body or ""):match("^[^\r\n]*") or "", 120)
  if answer.status ~= check.status then
    return nil, ("%s answered %d instead of %d%s"):format(check.http, answer.status, check.status,
      first ~= "" and ": " .. first or "")
  end
  if check.contains and not (answer.body or ""):find(check.contains, 1, true) then
    return nil, ("%s does not say '%s'%s"):format(check.http, check.contains, first ~= "" and " but: " .. first or "")
  end
  return true
end

---Runs a program once.
---@async
---@param check VerifyConfig
---@param request VerifyRequest
---@param left Seconds
---@return true? ok
---@return string? reason
function M.command(check, request, left)
  local program = assert(check.command)
  local argv = { timeout = left, stdin = false, env = {
    APP = request.app, ENVIRONMENT = request.environment, PART = request.part, VERSION = request.version,
    COMMIT = request.commit, DIGEST = request.digest,
  } --[[@as table<string, string>]] } ---@type ProcSpec
  for i, arg in ipairs(program) do argv[i] = arg end
  if request.hooks then argv.on_line = function(line, stream) request.hooks.output(stream, line) end end
  local result, err = proc.run(argv)
  if not result then return nil, ("%s: %s"):format(program[1], err.message) end
  if result.ok then return true end
  local said = last_words(result.stderr:match("%S") and result.stderr or result.stdout, 1)
  return nil, ("%s ended with %s%s"):format(program[1], result.signal or "exit status " .. result.code,
    said ~= "" and ": " .. said or "")
end

-- What an error names as its target.
local function target_of(way, check)
  local value = check[way.name]
  if type(value) == "table" then value = value[1] end
  return type(value) == "string" and value or way.name
end

-- Tries one check until its time is over.
local function prove(way, check, request)
  local within = request.within and math.min(request.within, check.within) or check.within
  local last, attempts = time.monotonic() + within, 0
  while true do
    attempts = attempts + 1
    local left = math.max(SHORTEST, last - time.monotonic())
    local ok, reason = way.attempt(check, request, left)
    if ok then return true end
    if time.monotonic() + check.every > last then
      return errors.fail("unhealthy", log.redact(("%s (%d attempt%s in %s)"):format(reason, attempts,
        attempts == 1 and "" or "s", time.words(within))), { op = "verify", target = target_of(way, check) })
    end
    if request.hooks then request.hooks.progress(log.redact(reason --[[@as string]])) end
    time.sleep(check.every)
  end
end

---@class VerifyRequest
---@field app string
---@field environment string
---@field part? string
---@field version? string
---@field commit? string
---@field digest? string
---@field image? string "repository@sha256:..."
---@field run? integer Without it jobs are skipped: an observation starts none.
---@field release? integer
---@field hooks? table
---@field within? Seconds At most that long for each check, when it is less than its own time.

---Runs the checks, one after the other; the first that does not succeed in its time ends them.
---@async
---@param list VerifyConfig[]
---@param request VerifyRequest
---@param world? World For jobs.
---@return true? ok
---@return Err? err unhealthy: the last attempt's reason.
---@return_overload nil, Err
function M.run(list, request, world)
  for _, check in ipairs(list) do
    local way = checks.way(check)
    local ok, err = true, nil ---@type boolean?, Err?
    if way.attempt then
      ok, err = prove(way, check, request)
    elseif request.run then
      ok, err = assert(way.prove)(check, request, assert(world))
    end
    if not ok then return nil, err end
  end
  return true
end

return M
