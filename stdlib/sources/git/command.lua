-- The git program as a child process, hardened against hostile repositories.
--
-- Every call gets the same restrictions: no system, global or environment configuration, no hooks,
-- no attributes or filters from elsewhere, no prompts, no pager, no replace references, only the transports
-- that the caller names, literal path specifications, and an environment built from nothing. Text from
-- outside is handed over only as a full object id, as `refs/...`, as a checked address after `--`, or on
-- standard input.

local errors = require "errors"
local proc = require "proc"
local refs = require "sources.git.refs"
local text = require "base.text"

local M = {}

local WALLS = {
  "core.hooksPath=/dev/null",
  "core.fsmonitor=false",
  "core.attributesFile=/dev/null",
  "core.excludesFile=/dev/null",
  "core.protectHFS=true",
  "core.protectNTFS=true",
  "core.symlinks=true",
  "core.askPass=",
  "credential.helper=",
  "protocol.allow=never",
  "protocol.version=2",
  "submodule.recurse=false",
  "fetch.recurseSubmodules=false",
  "fetch.writeCommitGraph=false",
  "transfer.fsckObjects=true",
  "gc.auto=0",
  "gc.autoDetach=false",
  "maintenance.auto=false",
  "tar.umask=0022",
  "log.mailmap=false",
  "log.showSignature=false",
  "i18n.logOutputEncoding=UTF-8",
  "advice.detachedHead=false",
}

---Harmless faults of old repositories; every other fsck complaint refuses the
---object.
M.TOLERATED = { "zeroPaddedFilemode", "badTimezone", "missingSpaceBeforeDate", "missingNameBeforeEmail",
  "missingTaggerEntry", "badTagName" }

---The program that git calls for ssh remotes, without a shell. It finds keys, agent and known hosts by itself, and
---without a terminal it does not prompt.
M.ssh = "ssh"

---@class GitCall
---@field dir? string repository (--git-dir)
---@field cwd? string
---@field env? table<string, string> on top of the walls
---@field protocol? "file"|"ssh" the one transport that this call may use
---@field stdin? string
---@field stdout? table as proc.run takes it
---@field timeout? Seconds 60 by default
---@field max_output? integer 1 MiB by default
---@field exits? table<integer, boolean> exit codes that are answers; 0 always is

local function environment(call)
  local env = {
    PATH = "/usr/local/bin:/usr/bin:/bin", HOME = "/nonexistent", LC_ALL = "C", TZ = "UTC",
    GIT_CONFIG_NOSYSTEM = "1", GIT_CONFIG_GLOBAL = "/dev/null", GIT_ATTR_NOSYSTEM = "1",
    GIT_TERMINAL_PROMPT = "0", GIT_NO_REPLACE_OBJECTS = "1", GIT_OPTIONAL_LOCKS = "0",
    GIT_LITERAL_PATHSPECS = "1", GIT_ALLOW_PROTOCOL = call.protocol or "none", GIT_SSH = M.ssh,
    GIT_SSH_VARIANT = "ssh",
  }
  for name, value in pairs(call.env or {}) do env[name] = value end
  return env
end

---Makes the argument list and the options of a call, for proc.run and proc.spawn.
---@param args string[]
---@param call GitCall
---@return table
---@nodiscard
function M.command(args, call)
  local argv = { "git", "--no-pager" } ---@type table
  if call.dir then argv[#argv + 1] = "--git-dir=" .. call.dir end
  for _, wall in ipairs(WALLS) do
    argv[#argv + 1] = "-c"
    argv[#argv + 1] = wall
  end
  for _, word in ipairs(M.TOLERATED) do
    argv[#argv + 1] = "-c"
    argv[#argv + 1] = "fetch.fsck." .. word .. "=warn"
  end
  table.move(args, 1, #args, #argv + 1, argv)
  argv.cwd = call.cwd or "/"
  argv.env = environment(call)
  -- ssh finds its keys, its agent and the known hosts through these; git's own configuration stays shut off.
  if call.protocol == "ssh" then
    argv.env.HOME = nil
    argv.inherit = { "HOME", "SSH_AUTH_SOCK" }
  end
  argv.stdin = call.stdin
  argv.stdout = call.stdout
  argv.timeout = call.timeout or 60
  argv.max_output = call.max_output or 1024 * 1024
  return argv
end

local CAUSES = {
  { "Permission denied %(", "unauthorized" },
  { "Host key verification failed", "unauthorized" },
  { "Authentication failed", "unauthorized" },
  { "Could not resolve host", "dns" },
  { "Connection refused", "refused" },
  { "Connection timed out", "timeout" },
  { "Network is unreachable", "unreachable" },
  { "No route to host", "unreachable" },
  { "not our ref", "not_found" },
  { "does not appear to be a git repository", "not_found" },
  { "[Rr]epository not found", "not_found" },
  { "No such file or directory", "not_found" },
  { "No space left on device", "full" },
  { "dubious ownership", "denied" },
  { "bad object", "not_found" },
}

---Turns the end of a call that did not work into an error; the last telling line of its own words is in it.
---@param op string
---@param target? string
---@param result ProcResult
---@return nil
---@return Err err
function M.failure(op, target, result)
  local stderr = result.stderr or ""
  local said
  for line in stderr:gmatch "[^\n]+" do
    if line:find "^fatal: " or line:find "^error: " then
      said = said or line:gsub("^%a+: ", "")
    end
  end
  said = said or stderr:match "([^\n]+)\n*$" or "it said nothing"
  local code = result.signal and "signal" or "exit"
  for _, cause in ipairs(CAUSES) do
    if stderr:find(cause[1]) then
      code = cause[2]
      break
    end
  end
  local ending = result.signal and "signal " .. tostring(result.signal) or "exit " .. tostring(result.code)
  return errors.fail(code, ("git failed (%s): %s"):format(ending, text.clean(said)),
    { op = op, target = target })
end

---Runs git to its end.
---@async
---@param op string who asks, for errors
---@param args string[]
---@param call GitCall
---@return ProcResult?
---@return Err? err
---@return_overload nil, Err
function M.run(op, args, call)
  local result, err = proc.run(M.command(args, call))
  if not result then
    local message = err.code == "not_found" and "the git program is not installed" or err.message
    return errors.fail(err.code, message, { op = op, target = call.dir, cause = err })
  end
  if result.code == 0 or (call.exits and result.code and call.exits[result.code]) then
    if result.truncated then
      return errors.fail("too_large", "git printed more than the limit", { op = op, target = call.dir })
    end
    return result
  end
  return M.failure(op, call.dir, result)
end

---Runs git in the mirror that holds a commit; the commit is the target of its failures.
---@async
---@param mirror GitMirror
---@param op string
---@param commit string
---@param args string[]
---@param call? GitCall
---@return ProcResult?
---@return Err? err
---@return_overload nil, Err
function M.run_at(mirror, op, commit, args, call)
  call = call or {}
  call.dir = mirror:path(refs.id_format(commit))
  local result, err = M.run(op, args, call)
  if not result then err.target = commit end
  return result, err
end

return M
