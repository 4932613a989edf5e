-- helmsman as a program on this machine: a clean environment, folders of its own, an end to everything it started.
--
-- helmsman reads `.env` in the folder where it runs, helm keeps repositories and caches in its home, and kubectl
-- writes into its kubeconfig: all of that lies in one folder for each environment, below the state.
local errors, fs, proc = require "errors", require "fs", require "proc"
local flags, kubeconfig = require "extensions.helmsman.flags", require "extensions.helmsman.kubeconfig"

local M = {}

local MOST <const> = 4 << 20 -- bytes of output that are read
local TAIL <const> = 200 -- lines that are kept of what is beyond
local GRACE <const> = 20 -- helm notes that a release failed when it is told to end

---@class HelmsmanResult
---@field code? integer the exit status
---@field how string "exit status 1", "SIGKILL"
---@field said string what it said, both streams
---@field unread? Err why `said` is not all of it

---@class HelmsmanRunner
---@field call fun(self, act: HelmsmanAct, request: HelmsmanCall): HelmsmanResult?, Err?

---@class HelmsmanCall
---@field env table<string, string>
---@field timeout Seconds
---@field hooks? table
---@field release integer|string a destroying run is "d" and its number
---@field attempt? string distinguishes this call from others of the same release

---@class HelmsmanCommand: HelmsmanRunner
---@field config table
---@field cfg Config
---@field folder string
local Command = {}
Command.__index = Command

---@param config table The target's configuration.
---@param cfg Config
---@param folder string
---@return HelmsmanCommand
function M.open(config, cfg, folder)
  return setmetatable({ config = config, cfg = cfg, folder = folder }, Command)
end

-- The folders of an environment; `work` is new for each call and gone after it.
local function folders(self)
  local home = self.folder .. "/home"
  for _, name in ipairs { "/home", "/helm/cache", "/helm/config", "/helm/data" } do
    local ok, err = fs.mkdir(self.folder .. name, { parents = true, mode = 448 }) -- 0700
    if not ok then return nil, err end
  end
  return home
end

-- The environment: what helm needs, what the configuration adds, what this release is. Nothing of the host's.
local function environment(self, env, work)
  local all = {
    HOME = self.folder .. "/home", TMPDIR = work, KUBECONFIG = work .. "/kubeconfig",
    HELM_CACHE_HOME = self.folder .. "/helm/cache", HELM_CONFIG_HOME = self.folder .. "/helm/config",
    HELM_DATA_HOME = self.folder .. "/helm/data",
  }
  for name, value in pairs(env) do all[name] = value end
  return all
end

local function ended(result)
  return result.signal or "exit status " .. result.code
end

---Runs a program with helmsman's environment.
---@async
---@param argv string[]
---@param call HelmsmanCall
---@return HelmsmanResult? result
---@return Err? err
---@return_overload nil, Err
function Command:run(argv, call)
  local home, err = folders(self)
  if not home then return nil, err end
  local work <close>, wrong = fs.temp_dir { dir = home, prefix = "run-" }
  if not work then return nil, wrong end
  local ok
  ok, err = kubeconfig.write(work.path .. "/kubeconfig", self.config.cluster, self.cfg)
  if not ok then return nil, err end
  local spec = {
    env = environment(self, call.env, work.path), cwd = work.path, stdin = false, timeout = call.timeout, grace = GRACE,
    max_output = MOST,
  }
  for i, word in ipairs(argv) do spec[i] = word end
  local tail = {}
  function spec.on_line(line, stream)
    tail[#tail + 1] = line
    if #tail > 2 * TAIL then tail = table.move(tail, #tail - TAIL + 1, #tail, 1, {}) end
    if call.hooks then call.hooks.output(stream, line) end
  end
  local result
  result, err = proc.run(spec)
  if result then
    local said = result.stdout .. "\n" .. result.stderr
    if result.truncated then said = said .. "\n" .. table.concat(tail, "\n") end -- the end is what matters most
    return { code = result.code, how = ended(result), said = said }
  end
  if errors.is(err, "not_found") then
    return errors.fail("not_found", ("there is no program %s; helmsman must be in PATH, or named in `command`")
      :format(argv[1]), { op = "helmsman", target = argv[1], cause = err })
  end
  -- The time of the whole act: another try has no more of it, and what this one did may be half done.
  if errors.is(err, "timeout") then err.passing = false end
  return nil, err
end

---Runs helmsman.
---@async
---@param act HelmsmanAct
---@param call HelmsmanCall
---@return HelmsmanResult? result
---@return Err? err timeout: it was ended; what it was doing may be half done
---@return_overload nil, Err
function Command:call(act, call)
  local argv = table.move(self.config.command, 1, #self.config.command, 1, {})
  for _, word in ipairs(flags.make(self.config, act)) do argv[#argv + 1] = word end
  return self:run(argv, call)
end

---Runs helm, which helmsman needs anyway, where the same repositories and the same cluster are.
---@async
---@param words string[]
---@param call HelmsmanCall
---@return HelmsmanResult? result
---@return Err? err
---@return_overload nil, Err
function Command:helm(words, call)
  return self:run({ "helm", table.unpack(words) }, call)
end

return M
