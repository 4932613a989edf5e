-- Verification: a release proves itself by checks, in order, each within its time.
local errors, http, proc, text, time = require "errors", require "http", require "proc", require "text", require "time"

local M = {}

local ATTEMPT_TIMEOUT <const> = 10

---@param check VerifyConfig
local function probe(check)
  local answer, err = http.get(check.http, { timeout = math.min(ATTEMPT_TIMEOUT, check.within), redirects = 0, max_body = 1 << 20 })
  if not answer then return nil, tostring(err.message) end
  local first = text.clean((answer.body or ""):match("^[^\r\n]*") or "", 120)
  if answer.status ~= check.status then
    return nil, ("%s answered %d instead of %d%s"):format(check.http, answer.status, check.status, first ~= "" and ": " .. first or "")
  end
  if check.contains and not answer.body:find(check.contains, 1, true) then
    return nil, ("%s does not say '%s'%s"):format(check.http, check.contains, first ~= "" and " but: " .. first or "")
  end
  return true
end

local function command(check, request)
  local argv = { timeout = check.within, env = {
    APP = request.app, ENVIRONMENT = request.environment, VERSION = request.version, COMMIT = request.commit, DIGEST = request.digest,
  } }
  for i, arg in ipairs(check.command) do argv[i] = arg end
  if request.hooks then argv.on_line = function(line, stream) request.hooks.output(stream, line) end end
  local result, err = proc.run(argv)
  if not result then return nil, tostring(err.message) end
  if result.ok then return true end
  local last = (result.stderr ~= "" and result.stderr or result.stdout):match("([^\r\n]+)%s*$")
  return nil, ("%s ended with %s%s"):format(check.command[1], result.signal or "exit status " .. result.code,
    last and ": " .. text.clean(last, 200) or "")
end

---Runs the checks; each is tried until it succeeds or its time is over.
---@async
---@param list VerifyConfig[]
---@param request {app: string, environment: string, version?: string, commit?: string, digest?: string, hooks?: table, within?: number}
---@return true? ok
---@return Err? err unhealthy: the last attempt's reason.
function M.run(list, request)
  for _, check in ipairs(list) do
    local within = request.within and math.min(request.within, check.within) or check.within
    local last, attempts = time.monotonic() + within, 0
    while true do
      attempts = attempts + 1
      local ok, reason
      if check.http then ok, reason = probe(check) else ok, reason = command(check, request) end
      if ok then break end
      if time.monotonic() + check.every > last then
        return errors.fail("unhealthy", ("%s (%d attempts in %s)"):format(reason, attempts, time.words(within)),
          { op = "verify", target = check.http or check.command[1] })
      end
      if request.hooks then request.hooks.progress(("check %d: %s"):format(attempts, reason)) end
      time.sleep(check.every)
    end
  end
  return true
end

return M
