-- Where code lives: references of any git remote, and the commits behind them.
--
--     local repo = git.repository { url = "https://git.example.com/web.git", mirrors = "/var/lib/mirrors" }
--     local head = assert(repo:head "main")          -- { commit = ..., ref = "refs/heads/main", ... }
--     assert(repo:archive(head.commit, { to = "/tmp/web.tar" }))
--
-- All repository objects of one address and one set of credentials share their polls: one request per
-- interval, however many apps and policies ask. Over HTTP references come by protocol version 2 in this
-- process (sources/git/smart.lua); file and ssh remotes are asked through the git program.

-- What only mirrors need is loaded with the first one: most repositories are only polled.
local shrunken = require "sources.git.shrunken"
local budget = require "base.budget"
local errors = require "errors"
local hash = require "hash"
local log = require "log"
local refs = require "sources.git.refs"
local smart = require "sources.git.smart"
local task = require "task"
local text = require "base.text"
local time = require "time"
local url = require "sources.git.url"

local M = {}

---Reads the address of a repository; see sources/git/url.lua for what is accepted.
M.parse_url = url.parse

local MAX_QUIET = 300

---@class GitSource one remote with one set of credentials, shared by its repository objects
---@field url GitUrl
---@field endpoint? SmartEndpoint
---@field timeout Seconds
---@field interval Seconds the shortest interval of those who ask
---@field last? {asked: number, snapshot?: GitSnapshot, err?: Err}
---@field shrunken GitShrunken keeps what is missing from a shrunken answer for a while
---@field fingerprint? string
---@field denial? Err
---@field denials? integer refused credentials in a row
---@field quiet_until number monotonic; not asked before, because of them
---@field mirrors? table<string, GitMirror>
local Source = { denials = 0, quiet_until = -math.huge, timeout = 30 }
Source.__index = Source

local sources = setmetatable({}, { __mode = "v" }) ---@type table<string, GitSource>

---@param address GitUrl
---@param opts table
---@return GitSource
local function source_of(address, opts)
  local key = address.text
  if opts.username or opts.ca or opts.password then
    key = table.concat({ key, opts.username or "", opts.ca or "", opts.password and hash.sha256(opts.password) or "" },
      "\0")
  end
  local source = sources[key]
  if not source then
    local made = setmetatable({
      url = address, interval = opts.interval or 30, shrunken = shrunken.new(address.text),
    }, Source)
    if opts.timeout then made.timeout = opts.timeout end
    if address.scheme == "http" or address.scheme == "https" then
      made.endpoint = smart.endpoint { url = address, username = opts.username, password = opts.password,
        ca = opts.ca, timeout = opts.timeout, interval = made.interval }
    end
    source, sources[key] = made, made
  end
  source.interval = math.min(source.interval --[[@as number]], opts.interval or 30)
  if source.endpoint then source.endpoint.interval = source.interval end
  return source
end

---References through the git program; the same contract as SmartEndpoint:ls_refs.
---@private
function Source:ls_remote(known)
  local share = budget.of(self.url.origin, 4)
  local slot <close>, err = share:enter(nil, self.url.text)
  if not slot then return nil, err end
  local result
  result, err = require("sources.git.command").run("git.ls_remote",
    { "ls-remote", "--quiet", "--symref", "--", self.url.text, "HEAD", "refs/heads/*", "refs/tags/*" },
    { protocol = self.url.scheme --[[@as "file"|"ssh"]], timeout = self.timeout, max_output = 64 * 1024 * 1024 })
  if not result then
    err.target = self.url.text
    if self.url.scheme == "ssh" and err.code ~= "not_found" then share:failed(err, self.interval, self.url.text) end
    return nil, err
  end
  share:succeeded(self.url.text)
  local fingerprint = hash.sha256(result.stdout)
  if fingerprint == known then return true, known end
  local snapshot
  snapshot, err = refs.parse_ls_remote(result.stdout, function() time.sleep(0) end)
  if not snapshot then return nil, err end
  snapshot.at = time.now()
  return snapshot, fingerprint
end

-- Servers lock accounts out after some wrong passwords, and asking more often makes none right: twice the pause
-- each time, up to five minutes. New credentials come with a new source.
local function note_denial(self, err)
  if err.code ~= "unauthorized" then
    self.denials = nil
    return
  end
  self.denials = self.denials + 1
  self.quiet_until = time.monotonic() + math.min(self.interval * 2 ^ math.min(self.denials - 1, 16), MAX_QUIET)
  self.denial = err
end

---@private
function Source:poll()
  if time.monotonic() < self.quiet_until then return nil, self.denial end
  local snapshot, fingerprint
  if self.endpoint then
    snapshot, fingerprint = self.endpoint:ls_refs(self.fingerprint)
  else
    snapshot, fingerprint = self:ls_remote(self.fingerprint)
  end
  if not snapshot then
    note_denial(self, fingerprint)
    return nil, fingerprint
  end
  self.denials = nil
  self.fingerprint = fingerprint
  if snapshot ~= true then return self.shrunken:take(snapshot) end
  local known = self.shrunken:again()
  known.at = time.now()
  return known
end

---An answer that was asked for at `limit` (monotonic) or later.
---@async
---@param limit number
---@return GitSnapshot?
---@return Err? err
function Source:refs(limit)
  while not self.last or self.last.asked < limit do
    task.once(self, "refs", function()
      local answer = { asked = time.monotonic() }
      answer.snapshot, answer.err = self:poll()
      self.last = answer
    end)
  end
  local last = assert(self.last)
  return last.snapshot, last.err
end

---@class GitRepository
---@field url string the address without a password
---@field interval Seconds
---@field private source GitSource
---@field mirror GitMirror Made when something of it is asked for; nil without a folder for mirrors.
---@field private opts GitOptions
---@field depth integer among submodules
---@field private absent? table<string, number> commits that the server did not have, with the monotonic time
---@field private working? table<string, Task> what is being found
---@field private answers? {key: string, changes: GitChanges}[] the last ones asked for
---@field private wholes? table<string, string> commits to what they are with LFS files and submodules
local Repository = { depth = 0 }
Repository.__index = Repository

local OPTIONS = { url = "string", username = "string", password = "string", ca = "string", mirrors = "string",
  borrows = "string", interval = "number", timeout = "number", lfs = "boolean", lfs_url = "string",
  submodules = "boolean", depth = "number" }
local USAGE = "usage: git.repository{ url =, username =, password =, ca =, mirrors =, interval =, timeout =, lfs =, "
  .. "lfs_url =, submodules = }"

---@class GitOptions
---@field url string
---@field username? string
---@field password? string
---@field ca? string file of certificates to trust instead of the system's
---@field mirrors? string folder of bare mirrors; without it only references can be asked for
---@field borrows? string another folder of mirrors, only read: what they have is not fetched
---@field interval? Seconds between two requests, 30 by default
---@field timeout? Seconds of one request for references, 30 by default
---@field lfs? boolean archives and checkouts hold the files of Git LFS instead of their pointers
---@field lfs_url? string of the LFS server, where it is not the repository's own
---@field submodules? boolean archives and checkouts hold the files of submodules
---@field depth? integer how many repositories this one is a submodule below; for ourselves

---Makes a repository object. Does no I/O.
---@param opts GitOptions
---@return GitRepository
---@nodiscard
function M.repository(opts)
  if type(opts) ~= "table" then error(USAGE, 2) end
  for name, value in pairs(opts) do
    if type(value) ~= OPTIONS[name] then error(("%s: bad option %s"):format(USAGE, tostring(name)), 2) end
  end
  if not opts.url then error(USAGE, 2) end
  local address, err = url.parse(opts.url)
  if not address then error(("%s: %s"):format(USAGE, err.message), 2) end
  if opts.username and opts.username:find "[%c:]" then
    error(USAGE .. ": a user name holds no colon and no control characters", 2)
  end
  if opts.password then
    log.secret(opts.password)
    log.secret(hash.base64((opts.username or address.user or "git") .. ":" .. opts.password))
  end
  local source = source_of(address, opts)
  local self = setmetatable({ url = address.text, interval = opts.interval or 30, source = source, opts = opts },
    Repository)
  if opts.depth then self.depth = opts.depth end
  return self
end

-- The mirror of a repository that has a folder for them, made when something of it is asked for: most are only polled.
local function mirror_of(self)
  local folder, source = self.opts.mirrors, self.source
  if self.mirror or not folder then return self.mirror end
  source.mirrors = source.mirrors or {}
  self.mirror = source.mirrors[folder] or require("sources.git.mirror").new {
    mirrors = folder, borrows = self.opts.borrows, url = source.url, endpoint = source.endpoint,
    list = function() return source:refs(time.monotonic()) end,
  }
  source.mirrors[folder] = self.mirror
  return self.mirror
end

---Gets the references: a shared answer that is younger than the interval, or a new one.
---@async
---@param opts? {max_age?: Seconds} 0 asks anew
---@return GitSnapshot? snapshot shared: not to be changed
---@return Err? err
---@return_overload nil, Err
function Repository:refs(opts)
  -- Younger than a part of the interval, and not always the same part: callers with the same interval share
  -- an answer, but no caller waits two intervals for a change, and many repositories drift apart.
  local age = opts and opts.max_age or self.interval * (0.6 + math.random() / 5)
  return self.source:refs(time.monotonic() - age)
end

---Makes the next question ask the server, whatever is known: an event said that it changed.
function Repository:expire()
  self.source.last = nil
end

---Sets what the journal remembers of the repository, so that a first answer that lost much of that
---is noticed. Without effect once there was an answer.
---@param branch string
---@param head? string a commit
---@param tags table<string, string> name to commit
---@param others? table<string, string> further branches to their commits
function Repository:expect(branch, head, tags, others)
  if self.source.shrunken.snapshot then return end
  local heads = { [branch] = head --[[@as string]] }
  for name, commit in pairs(others or {}) do heads[name] = heads[name] or commit end
  self.source.shrunken:expect(refs.snapshot(heads, tags, head and branch))
end

---Gets what a branch is at; without a name, the branch that the server's HEAD names.
---@async
---@param branch? string
---@return {key: string, commit: string, ref: string, branch: string, reason: string, at: Wall}?
---@return Err? err code "not_found" when there is no such branch
---@return_overload nil, Err
function Repository:head(branch)
  if branch ~= nil and type(branch) ~= "string" then error("usage: repo:head([branch])", 2) end
  local snapshot, err = self:refs()
  if not snapshot then return nil, err end
  local name = branch and (branch:sub(1, 11) == "refs/heads/" and branch or "refs/heads/" .. branch)
    or snapshot.head
  local ref = name and snapshot.refs[name]
  if not ref then
    local message = snapshot.heads + snapshot.tags == 0 and "the repository is empty"
      or name and "there is no branch " .. name:sub(12)
      or "the server does not say which branch is the main one"
    return errors.fail("not_found", message, { op = "git.head", target = self.url })
  end
  local short = assert(name):sub(12) ---@cast name string
  return { key = ref.commit, commit = ref.commit, ref = name, branch = short, at = snapshot.at,
    reason = ("%s is at %s"):format(short, text.short(ref.commit)) }
end

---Lists the branches in the order of their names.
---@async
---@return {branch: string, commit: string}[]?
---@return Err? err
function Repository:branches()
  local snapshot, err = self:refs()
  if not snapshot then return nil, err end
  return require("sources.git.branches").list(snapshot)
end

---Lists the tags in the order of their names. The list belongs to the snapshot and is made once: it is not to be
---changed.
---@async
---@return {name: string, oid: string, commit: string, annotated: boolean}[]?
---@return Err? err
function Repository:tags()
  local snapshot, err = self:refs()
  if not snapshot then return nil, err end
  return refs.tag_list(snapshot)
end

-- Checks the ids that a word was called with, and has their commits in the mirror.
local function present(self, usage, ...)
  if not mirror_of(self) then error(usage .. ": this repository has no `mirrors` folder", 3) end
  for i = 1, select("#", ...) do
    if not refs.id_format((select(i, ...))) then error(usage .. ": needs full commit ids", 3) end
  end
  for i = 1, select("#", ...) do
    local ok, err = self.mirror:fetch((select(i, ...)))
    if not ok then return nil, err end
  end
  return true
end

---Makes sure that a commit with its whole history is in the mirror. The words below do this by themselves.
---@async
---@param commit string full id
---@return true?
---@return Err? err
---@return_overload nil, Err
function Repository:fetch(commit)
  return present(self, "usage: repo:fetch(commit)", commit)
end

---What archives and checkouts of a commit lack: submodules and files of Git LFS that were not asked for.
---@async
---@param commit string full id
---@return string[]? lines for the log of a run
---@return Err? err
---@return_overload nil, Err
function Repository:left_out(commit)
  local ok, err = present(self, "usage: repo:left_out(commit)", commit)
  if not ok then return nil, err end
  local refers
  refers, err = require("sources.git.whole").refers(self.mirror, commit)
  if not refers then return nil, err end
  return require("sources.git.whole").left_out(refers, self.opts)
end

---Gives the commit that holds what this one refers to, as far as `lfs` and `submodules` ask for it. The words that
---write or read files do this by themselves.
---@async
---@param commit string full id
---@return string? commit
---@return Err? err
---@return_overload nil, Err
function Repository:whole(commit)
  local ok, err = present(self, "usage: repo:whole(commit)", commit)
  if not ok then return nil, err end
  local opts, address = self.opts, self.source.url
  if not (opts.lfs or opts.submodules) then return commit end
  self.wholes = self.wholes or {}
  local made = self.wholes[commit]
  if made then return made end
  made, err = require("sources.git.whole").make(self.mirror, commit, {
    url = address, depth = self.depth,
    lfs = opts.lfs and { url = address, api = opts.lfs_url, username = opts.username or address.user,
      password = opts.password, ca = opts.ca } or nil,
    submodule = opts.submodules and function(at, own)
      return M.repository {
        url = at.text, username = own and opts.username or nil, password = own and opts.password or nil,
        ca = own and opts.ca or nil, mirrors = opts.mirrors, timeout = opts.timeout, lfs = opts.lfs, submodules = true,
        depth = self.depth + 1,
      }
    end or nil,
  })
  if made then self.wholes[commit] = made end
  return made, err
end

---The mirror with this repository's objects, for a repository that it is a submodule of.
---@return GitMirror
function Repository:objects() return mirror_of(self) end

---Whether `a` is an ancestor of `b`, or `b` itself.
---@async
---@param a string full id
---@param b string full id
---@return boolean?
---@return Err? err
---@return_overload nil, Err
function Repository:is_ancestor(a, b)
  local ok, err = present(self, "usage: repo:is_ancestor(a, b)", a, b)
  if not ok then return nil, err end
  return require("sources.git.history").is_ancestor(self.mirror, a, b)
end

---Compares two commits as a branch would move from `a` to `b`: push, reset or force.
---@async
---@param a string full id
---@param b string full id
---@return GitComparison?
---@return Err? err
---@return_overload nil, Err
function Repository:compare(a, b)
  local ok, err = present(self, "usage: repo:compare(a, b)", a, b)
  if not ok then return nil, err end
  return require("sources.git.history").compare(self.mirror, a, b)
end

---Counts the commits that lead to one, itself among them.
---@async
---@param commit string full id
---@return integer?
---@return Err? err
---@return_overload nil, Err
function Repository:count(commit)
  local ok, err = present(self, "usage: repo:count(commit)", commit)
  if not ok then return nil, err end
  return require("sources.git.history").count(self.mirror, commit)
end

---Lists the commits that `b` has and `a` has not, newest first.
---@async
---@param a? string full id; nil: from the beginning
---@param b string full id
---@param limit? integer 50 by default
---@return GitCommit[]?
---@return Err? err
---@return_overload nil, Err
function Repository:log(a, b, limit)
  local usage = "usage: repo:log(a, b [, limit])"
  local ok, err
  if a then ok, err = present(self, usage, a, b) else ok, err = present(self, usage, b) end
  if not ok then return nil, err end
  return require("sources.git.history").log(self.mirror, a, b, limit)
end

local ABSENT_FOR <const> = 600 -- seconds in which a commit that the server does not have is not asked for again
local ANSWERS <const> = 8      -- that are kept: policies ask the same at each poll

-- Compares two commits; `unknown` when the server has the first one no more: it was forced away and forgotten.
local function status_of(self, a, b)
  local absent = self.absent[a]
  if absent and time.monotonic() - absent < ABSENT_FOR then return "unknown" end
  local comparison, err = self:compare(a, b)
  if comparison then return comparison.status end
  if not errors.is(err, "not_found") or not self.mirror:fetch(b) then return nil, err end
  self.absent[a] = time.monotonic()
  return "unknown"
end

local function find_changes(self, a, b, most)
  local ok, err = present(self, "usage: repo:changes(a, b, most)", b)
  if not ok then return nil, err end
  local status = "ahead"
  if a then
    status, err = status_of(self, a, b)
    if not status then return nil, err end
  end
  local key = ("%s %s %d"):format(status ~= "unknown" and a or "", b, most)
  for i, answer in ipairs(self.answers) do
    if answer.key == key then
      table.insert(self.answers, table.remove(self.answers, i))
      answer.changes.status = status
      return answer.changes
    end
  end
  local changes
  changes, err = require("sources.git.history").changes(self.mirror, status ~= "unknown" and a or nil, b, most)
  if not changes then return nil, err end
  changes.status = status
  self.answers[#self.answers + 1] = { key = key, changes = changes }
  if #self.answers > ANSWERS then table.remove(self.answers, 1) end
  return changes
end

---Lists the commits that `b` has and `a` has not, newest first, with the paths that each changed. When the server does
---not have `a` any more, they are the newest of `b`, and the status says so.
---@async
---@param a? string full id; nil: from the beginning
---@param b string full id
---@param most integer
---@return GitChanges? changes shared: not to be changed
---@return Err? err
---@return_overload nil, Err
function Repository:changes(a, b, most)
  if a and not refs.id_format(a) or not refs.id_format(b) then
    error("usage: repo:changes(a, b, most): needs full commit ids", 2)
  end
  self.absent, self.answers, self.working = self.absent or {}, self.answers or {}, self.working or {}
  -- A task of its own: it goes on when the policy that asked has no time left, and the next poll has its answer.
  local key = ("%s %s %d"):format(a or "", b, most)
  local work = self.working[key]
  if not work then
    work = task.start({ name = "changes", detached = true }, find_changes, self, a, b, most)
    self.working[key] = work
  end
  local found, err = work:join()
  self.working[key] = nil
  return found, err
end

---Writes a tar of exactly one commit: no attribute leaves files out or changes them, and the same commit
---always gives the same bytes.
---@async
---@param commit string full id
---@param opts {to: string, path?: string, timeout?: Seconds} to: the file; path: the folder to take as the root
---@return {path: string, size: integer, files: integer}?
---@return Err? err
---@return_overload nil, Err
function Repository:archive(commit, opts)
  local usage = "usage: repo:archive(commit, { to = FILE, path = FOLDER })"
  if type(opts) ~= "table" or type(opts.to) ~= "string" then error(usage, 2) end
  local from, err = self:whole(commit)
  if not from then return nil, err end
  return require("sources.git.content").archive(self.mirror, from, opts)
end

---Writes the files of one commit into a new or empty folder.
---@async
---@param commit string full id
---@param dir string
---@param opts? {path?: string, symlinks?: boolean, timeout?: Seconds} symlinks=false makes links plain files
---@return {path: string, files: integer}?
---@return Err? err
---@return_overload nil, Err
function Repository:checkout(commit, dir, opts)
  local usage = "usage: repo:checkout(commit, folder [, { path =, symlinks = }])"
  if type(dir) ~= "string" or dir:sub(1, 1) ~= "/" then error(usage .. ": needs an absolute folder", 2) end
  local from, err = self:whole(commit)
  if not from then return nil, err end
  return require("sources.git.content").checkout(self.mirror, from, dir, opts or {})
end

---Reads one small regular file of a commit.
---@async
---@param commit string full id
---@param path string
---@param opts? {max?: integer} largest size in bytes, 1 MiB by default
---@return string?
---@return Err? err
---@return_overload nil, Err
function Repository:read(commit, path, opts)
  local usage = "usage: repo:read(commit, path [, { max = }])"
  if type(path) ~= "string" then error(usage, 2) end
  local from, err = self:whole(commit)
  if not from then return nil, err end
  return require("sources.git.content").read(self.mirror, from, path, opts and opts.max)
end

---What a repository says of its references once it has `refs`: the same for one that is simulated.
M.of_references = {
  expect = Repository.expect, head = Repository.head, branches = Repository.branches, tags = Repository.tags,
}

return M
