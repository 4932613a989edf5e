-- A bare mirror of one repository: holds the whole histories of the commits that were asked for.
--
-- The mirror is a cache: it can be deleted at any time and is rebuilt when it is broken. Over HTTP the pack
-- comes through this process (sources/git/smart.lua) into `git index-pack`, so that credentials are never in an
-- argument list, an environment or a file of a child; file and ssh repositories, which have no secrets of
-- ours, use `git fetch`. Only one task of one host changes a mirror at a time; reading needs no lock.

local budget = require "base.budget"
local command = require "sources.git.command"
local errors = require "errors"
local fs = require "fs"
local hash = require "hash"
local log = require "log"
local parted = require "base.parted"
local proc = require "proc"
local refs = require "sources.git.refs"
local time = require "time"

local M = {}

local KEPT = "refs/moontide/"
local MAX_HAVES = 64
local FETCHES_PER_GC = 32

---Attributes have the last word in info/attributes: no file may leave itself out of a build (export-ignore),
---change itself (export-subst, ident), be re-encoded, or run a filter. What is built is what was committed,
---byte for byte.
local ATTRIBUTES = "* -export-ignore -export-subst -ident -text -eol -filter -working-tree-encoding\n"

---@class GitMirror
---@field dir string
---@field url GitUrl
---@field endpoint? SmartEndpoint http and https only
---@field borrows? string folder of mirrors that this one begins with
---@field list fun(): GitSnapshot?, Err? fresh references, for servers that do not give a commit by its id
---@field timeout Seconds of one transfer
---@field max_pack integer bytes
---@field turns Budget one writer at a time
---@field private swept table<string, boolean> formats in whose folder no stale locks can be
---@field known table<string, boolean> commits that are here with all of their history
---@field private fetches integer
local Mirror = {}
Mirror.__index = Mirror

---Makes a mirror. Does no I/O.
---@param opts {mirrors: string, borrows?: string, url: GitUrl, endpoint?: SmartEndpoint, list: function,
--- timeout?: Seconds}
---@return GitMirror
---@nodiscard
function M.new(opts)
  local slug = (opts.url.path:match "([^/:]*)$" or ""):gsub("%.git$", ""):gsub("[^%w_-]", "_"):sub(1, 40)
  local dir = ("%s/%s-%s"):format(opts.mirrors, slug, hash.sha256(opts.url.text):sub(1, 16))
  return setmetatable({
    dir = dir, borrows = opts.borrows, url = opts.url, endpoint = opts.endpoint, list = opts.list,
    timeout = opts.timeout or 900, max_pack = 4 * 1024 * 1024 * 1024,
    turns = budget.new(dir, 1), swept = {}, known = {}, fetches = 0,
  }, Mirror)
end

---Folder of the bare repository for one object format.
---@param format "sha1"|"sha256"
---@return string
function Mirror:path(format)
  return self.dir .. (format == "sha256" and ".sha256.git" or ".git")
end

---@private
function Mirror:git(op, commit, args, call)
  call = call or {}
  call.dir = self:path(refs.id_format(commit))
  return command.run(op, args, call)
end

-- Begins a mirror with what another folder's mirror of the repository has: its objects are read where they are, and
-- nothing is written there. One that cannot be read is not needed.
local function borrow(self, fresh, path)
  local other = self.borrows and self.borrows .. "/" .. path:match "[^/]*$"
  local known = other and fs.exists(other .. "/info/attributes") and command.run("git.mirror",
    { "for-each-ref", "--format=create %(refname) %(objectname)", KEPT }, { dir = other })
  if not known then return end
  local borrowed = fresh .. "/objects/info/alternates"
  local shallow = fs.read(other .. "/shallow", { max = 64 << 20 })
  if shallow then fs.write(fresh .. "/shallow", shallow) end
  fs.write(borrowed, other .. "/objects\n")
  if command.run("git.mirror", { "update-ref", "--stdin" }, { dir = fresh, stdin = known.stdout }) then return end
  fs.remove(borrowed)
  fs.remove(fresh .. "/shallow")
end

local function create(self, path, format)
  local fresh = path .. ".new"
  local ok, err = fs.remove(fresh, { recursive = true })
  if not ok and err.code ~= "not_found" then return nil, err end
  local ran
  ran, err = command.run("git.mirror",
    { "init", "--quiet", "--bare", "--template=", "--object-format=" .. format, "--initial-branch=none",
      "--", fresh },
    {})
  if not ran then return nil, err end
  ok, err = fs.mkdir(fresh .. "/info")
  if not ok and err.code ~= "exists" then return nil, err end
  ok, err = fs.write(fresh .. "/info/attributes", ATTRIBUTES)
  if not ok then return nil, err end
  borrow(self, fresh, path)
  return fs.rename(fresh, path)
end

-- A killed git leaves lock files behind. The holder of the mirror's own lock may remove them.
local function clear_stale_locks(path)
  for _, name in ipairs { "packed-refs.lock", "HEAD.lock", "config.lock", "shallow.lock", "gc.pid",
    "gc.pid.lock" } do
    fs.remove(path .. "/" .. name)
  end
  local found = fs.list(path .. "/" .. KEPT:sub(1, -2))
  for _, name in ipairs(found or {}) do
    if name:find "%.lock$" then fs.remove(path .. "/" .. KEPT .. name) end
  end
end

-- Keeps other hosts on this machine (a `once` beside a `run`) away from the mirror.
local function lock_file(self)
  local ok, err = fs.mkdir(self.dir:match "^(.*)/", { parents = true })
  if not ok and err.code ~= "exists" then return nil, err end
  local deadline = time.monotonic() + self.timeout
  while true do
    local file
    file, err = fs.lock(self.dir .. ".lock")
    if file or err.code ~= "busy" or time.monotonic() > deadline then return file, err end
    time.sleep(0.2)
  end
end

local function open(self, format)
  local path = self:path(format)
  if fs.exists(path .. "/info/attributes") then
    if not self.swept[format] then clear_stale_locks(path) end
  else
    self.known = {}
    local ok, err = fs.remove(path, { recursive = true })
    if not ok and err.code ~= "not_found" then return nil, err end
    ok, err = create(self, path, format)
    if not ok then return nil, err end
  end
  self.swept[format] = true
  return true
end

-- Whether the commit is here with everything that it reaches; then it is kept from garbage collection.
local function keep(self, commit)
  local op = "git.fetch"
  local found, err = self:git(op, commit, { "cat-file", "--batch-check" }, { stdin = commit .. "\n" })
  if not found then return nil, err end
  local kind = found.stdout:match "^%x+ (%a+)"
  if kind == "missing" or not kind then return false end
  if kind ~= "commit" then
    return errors.fail("invalid", "this is a " .. kind .. ", not a commit", { op = op, target = commit })
  end
  local whole = self:git(op, commit,
    { "rev-list", "--objects", "--quiet", commit, "--not", "--glob=" .. KEPT },
    { timeout = self.timeout })
  if not whole then return false end
  local kept
  kept, err = self:git(op, commit, { "update-ref", "--no-deref", KEPT .. commit, commit })
  if not kept then return nil, err end
  self.known[commit] = true
  return true
end

local function haves(self, commit)
  local found = self:git("git.fetch", commit,
    { "for-each-ref", "--format=%(objectname)", "--sort=-committerdate",
    "--count=" .. MAX_HAVES, KEPT })
  local list = {}
  for oid in (found and found.stdout or ""):gmatch "%x+" do list[#list + 1] = oid end
  return list
end

-- Tells git at which commits the server's own history ends. Where it ends elsewhere than before, what is missing here
-- is no longer known: the mirror is begun anew.
local function graft(self, format, shallow)
  local path = self:path(format) .. "/shallow"
  table.sort(shallow)
  local now, before = table.concat(shallow, "\n"), fs.read(path, { max = 64 << 20 })
  if before and before ~= now .. "\n" then
    fs.remove(path)
    return errors.fail("exit", "the history ends elsewhere than before", { op = "git.fetch", target = self.url.text })
  end
  if now == "" then return true end
  return fs.write(path, now .. "\n")
end

-- Streams a pack from an HTTP server into the object store.
local function receive(self, format, wants, have)
  local op = "git.fetch"
  local tolerated = {}
  for i, word in ipairs(command.TOLERATED) do tolerated[i] = word .. "=warn" end
  local child <close>, err = proc.spawn(command.command(
    { "index-pack", "--stdin", "--strict=" .. table.concat(tolerated, ","), "--max-input-size="
      .. self.max_pack },
    { dir = self:path(format), timeout = self.timeout }))
  if not child then return nil, err end
  local refused, grafted, shallow = false, false, {}
  local fetched, trouble = self.endpoint:fetch {
    wants = wants, haves = have, timeout = self.timeout, max = self.max_pack, shallow = shallow,
    sink = function(bytes)
      if not grafted then -- before git reads what the first commits reach
        local noted, problem = graft(self, format, shallow)
        if not noted then return nil, problem end
        grafted = true
      end
      local taken, why = child:write(bytes)
      refused = not taken
      return taken, why
    end,
  }
  -- A child that refused the pack is why the transfer broke; a transfer that broke is why the child
  -- complains.
  if not fetched and not refused then return nil, trouble end
  child:close_stdin()
  local result
  result, err = child:wait()
  if not result then return nil, err end
  if not result.ok then return command.failure(op, self.url.text, result) end
  if not fetched then return nil, trouble end
  return true
end

local function git_fetch(self, format, ...)
  local argv = { "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
    "--no-auto-maintenance", "--no-write-commit-graph", "--update-shallow", "--refmap=", ... }
  return command.run("git.fetch", argv,
    { dir = self:path(format), protocol = self.url.scheme, timeout = self.timeout })
end

-- Gets the objects of one commit by its id, or, where a server refuses that, of everything that has a name
-- there; then the second result is true.
local function transfer(self, format, commit, have)
  local ok, err
  if self.endpoint then
    ok, err = receive(self, format, { commit }, have)
  else
    ok, err = git_fetch(self, format, "--", self.url.text, "+" .. commit .. ":" .. KEPT .. commit)
  end
  if ok or err and err.code ~= "not_found" then return ok, err end
  if not self.endpoint then
    ok, err = git_fetch(self, format, "--prune", "--", self.url.text,
      "+refs/heads/*:refs/remote/heads/*", "+refs/tags/*:refs/remote/tags/*")
    return ok, err or true
  end
  local snapshot
  snapshot, err = self.list()
  if not snapshot then return nil, err end
  local wants, seen = {}, parted.table()
  for _, ref in pairs(snapshot.refs) do
    if not seen[ref.commit] then
      seen[ref.commit] = true
      wants[#wants + 1] = ref.commit
    end
  end
  if #wants == 0 then
    return errors.fail("not_found", "the repository is empty", { op = "git.fetch", target = commit })
  end
  table.sort(wants)
  ok, err = receive(self, format, wants, have)
  return ok, err or true
end

-- Git itself gave up, rather than a server or the network.
local function is_local(err)
  return err.code == "exit" or err.code == "signal"
end

local function is_healthy(self, commit)
  return self:git("git.fetch", commit, { "rev-list", "--objects", "--quiet", "--glob=" .. KEPT },
    { timeout = self.timeout }) ~= nil
end

-- One try to have a commit here. False with an error: the mirror may be what is wrong.
local function try(self, format, commit)
  local here, err = keep(self, commit)
  if here then return true end
  if here == nil then
    if is_local(err) then return false, err end
    return nil, err
  end
  local ok, everything = transfer(self, format, commit, haves(self, commit))
  if not ok then
    err = everything
    if is_local(err) and not is_healthy(self, commit) then return false, err end
    return nil, err
  end
  here, err = keep(self, commit)
  if here then return true end
  if here == nil and not is_local(err) then return nil, err end
  if everything == true and here == false then
    return errors.fail("not_found", "the server does not have this commit", { op = "git.fetch", target = commit })
  end
  return false, err or errors.new("mismatch", "the server's pack does not hold the commit with its history",
    { op = "git.fetch", target = commit })
end

---Makes sure that a commit and its whole history are in the mirror.
---@async
---@param commit string full id
---@return true?
---@return Err? err code "not_found" when the server does not have it
---@return_overload nil, Err
function Mirror:fetch(commit)
  local format = refs.id_format(commit)
  local path = self:path(format)
  if self.known[commit] and fs.exists(path) then return true end
  local turn <close>, busy = self.turns:enter(self.timeout)
  if not turn then return nil, busy end
  local file <close>, locked = lock_file(self)
  if not file then return nil, locked end
  local ok, err = open(self, format)
  if not ok then return nil, err end
  ok, err = try(self, format, commit)
  if ok == false then
    -- A mirror is only a cache: begin again without it.
    log.warn("a mirror seems to be damaged and is built anew", { mirror = path, error = tostring(err) })
    self.known = {}
    ok, err = fs.remove(path, { recursive = true })
    if not ok and err.code ~= "not_found" then return nil, err end
    ok, err = open(self, format)
    if not ok then return nil, err end
    ok, err = try(self, format, commit)
  end
  if not ok then return nil, err end
  self.fetches = self.fetches + 1
  if self.fetches % FETCHES_PER_GC == 0 then
    self:git("git.gc", commit, { "-c", "gc.auto=6700", "gc", "--auto", "--quiet" }, { timeout = self.timeout })
  end
  return true
end

return M
