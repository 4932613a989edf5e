-- The command target: programs of the user's own put releases in place.
--
-- They see IMAGE, DIGEST, COMMIT, VERSION, APP, ENVIRONMENT, RELEASE and (of several targets) PART
-- in an otherwise clean environment, and their output goes to the run's log. Without a `current` program the target
-- knows only what it applied itself: that is remembered in the state folder, after `apply` has ended well.
local errors, fs, json, log, proc, time =
  require "errors", require "fs", require "json", require "log", require "proc", require "time"
local targets = require "targets"

local M = {}

local WORDS <const> = 4 -- lines of a failed program's output in its error
local LOOK_EVERY <const> = 1

---@class CommandTarget: Target
---@field app string
---@field environment string
---@field part? string
---@field config table
---@field cwd string
---@field folder string
---@field memory string
local Command = {}
Command.__index = Command

---@param environment EnvironmentConfig
---@param world World
---@return CommandTarget
function M.open(environment, world)
  local cfg = world.config
  return setmetatable({
    app = environment.app, environment = environment.name, part = environment.part, config = environment.target,
    cwd = environment.target.cwd or cfg.dir, folder = cfg.state .. "/command",
    memory = ("%s/command/%s@%s.json"):format(cfg.state, environment.app, targets.called(environment, "@")),
  }, Command)
end

-- Runs one of the programs. An exit status other than 0 is an error with `code`.
local function run(self, word, request, code, timeout)
  local env, err = targets.variables(self.config.env or {})
  if not env then return nil, err end
  env.APP, env.ENVIRONMENT, env.PART = self.app, self.environment, self.part
  env.IMAGE, env.DIGEST, env.COMMIT, env.VERSION = request.image, request.digest, request.commit, request.version
  env.RELEASE = request.release and tostring(request.release)
  local argv = { env = env, cwd = self.cwd, stdin = false, timeout = timeout or self.config.timeout }
  for i, arg in ipairs(self.config[word]) do argv[i] = arg end
  if request.hooks then argv.on_line = function(line, stream) request.hooks.output(stream, line) end end
  local fields = { op = "target." .. word, target = argv[1] }
  local result
  result, err = proc.run(argv)
  if not result then
    local said = err.result and targets.last_words(err.result.stderr .. "\n" .. err.result.stdout, WORDS)
    -- The program's own time is over: whether it worked is not known, as with a bad exit status.
    local late = errors.is(err, "timeout") and code or err.code
    return targets.complain(late, ("%s: %s"):format(argv[1], err.message), said, fields)
  end
  if result.ok then return result end
  return targets.complain(code, ("%s ended with %s"):format(argv[1], result.signal or "exit status " .. result.code),
    targets.last_words(result.stderr ~= "" and result.stderr or result.stdout, WORDS), fields)
end

-- What was applied last, nil when that is not known.
local function remembered(self)
  local body, err = fs.read(self.memory, { max = 1 << 16 })
  if not body then
    if errors.is(err, "not_found") then return nil end
    return nil, err
  end
  local value = json.decode(body)
  if type(value) ~= "table" or type(value.digest) ~= "string" then
    log.warn("what the command target remembered cannot be read", { file = self.memory })
    return nil
  end
  return value
end

local function remember(self, request)
  local ok, err = fs.mkdir(self.folder, { parents = true, mode = 448 }) -- 0700
  if not ok then return nil, err end
  return fs.write(self.memory, assert(json.encode {
    digest = request.digest, image = request.image, commit = request.commit, version = request.version,
    release = request.release,
  }))
end

---@async
function Command:current()
  local known, err = remembered(self)
  if err then return nil, err end
  if not self.config.current then
    if known then known.state = "applied" end
    return known
  end
  local result
  result, err = run(self, "current", known or {}, "exit")
  if not result then return nil, err end
  local digest = result.stdout:match("sha256:%x+")
  if digest and #digest == 71 then
    if known and known.digest == digest then
      known.state = "running"
      return known
    end
    return { digest = digest, state = "running" }
  end
  if not result.stdout:match("%S") then return nil end
  return targets.complain("protocol", self.config.current[1] .. " must print the digest that runs, or nothing",
    targets.last_words(result.stdout, 1), { op = "target.current", target = self.config.current[1] })
end

---@async
---@param request TargetRequest
function Command:apply(request)
  local known, err = remembered(self)
  if err then return nil, err end
  if known and known.release == request.release and known.digest == request.digest then return true end
  local result
  result, err = run(self, "apply", request, "unhealthy")
  if not result then return nil, err end
  return remember(self, request)
end

---@async
---@param request TargetRequest
function Command:wait(request)
  local within = request.timeout or self.config.timeout
  if self.config.wait then
    local known, err = remembered(self)
    if err then return nil, err end
    if not known or known.digest ~= request.digest then
      known = { digest = request.digest, release = request.release }
    end
    known.hooks = request.hooks
    local result
    result, err = run(self, "wait", known, "unhealthy", within)
    return result and true, err
  end
  if not self.config.current then return true end -- apply's word is all there is
  local last = time.monotonic() + within
  while true do
    local now, err = self:current()
    if err then return nil, err end
    if now and now.digest == request.digest then return true end
    if time.monotonic() + LOOK_EVERY > last then
      local program = self.config.current[1]
      return errors.fail("unhealthy", ("%s says %s after %s"):format(program, now and now.digest or "that nothing runs",
        time.words(within)), { op = "target.wait", target = program })
    end
    time.sleep(LOOK_EVERY)
  end
end

---Nothing is kept here that could go.
function Command.settle() return true end

---Takes down what was applied, by the program for that.
---@async
---@param request TargetRequest
function Command:destroy(request)
  if not self.config.destroy then
    return errors.fail("unsupported", "its target has no program `destroy`", { op = "target.destroy" })
  end
  local known, err = remembered(self)
  if err then return nil, err end
  known = known or {}
  known.hooks = request.hooks
  local result
  result, err = run(self, "destroy", known, "failed")
  if not result then return nil, err end
  local ok
  ok, err = fs.remove(self.memory)
  if not ok and not errors.is(err, "not_found") then return nil, err end
  return true
end

return M
