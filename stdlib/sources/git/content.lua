-- What is in a commit: exact archives, checkouts and single files, out of a mirror.
--
-- Only object ids, checked paths after `--` and our own file names reach git. Tree bombs (small packs that
-- unfold to billions of files) are found by listing before anything is written.

local command = require "sources.git.command"
local errors = require "errors"
local fs = require "fs"
local proc = require "proc"
local refs = require "sources.git.refs"

local M = {}

local MAX_FILES = 500000
local MAX_CONTENT = 8 << 30

local ENTRY = "(%d+) (%a+) (%x+) +([%d-]+)\t([^\0]*)\0()" -- of git ls-tree -l -z

local run = command.run_at

---Brings a path inside of a tree to git's form; refuses those that could mean something else.
---@param path? string
---@return string? path "" is the root
---@return Err? err code "invalid"
---@return_overload nil, Err
function M.tree_path(path)
  local clean = (path or ""):gsub("^%./", ""):gsub("/+$", "")
  if clean == "." then clean = "" end
  local padded = "/" .. clean .. "/"
  if clean:find "[\0-\31\127]" or clean:sub(1, 1) == "/" or padded:find("/../", 1, true)
    or padded:find("/./", 1, true)
    or clean:find("//", 1, true) then
    return errors.fail("invalid", "a path inside of a repository is relative and has no . or .. in it",
      { op = "git.path", target = path })
  end
  return clean
end

---@class GitEntry
---@field mode string "100644", "100755", "120000" (symbolic link), "040000" or "160000" (submodule)
---@field kind "blob"|"tree"|"commit"
---@field oid string
---@field size? integer of blobs

---Finds one path in a commit.
---@async
---@param mirror GitMirror
---@param commit string
---@param path string
---@return GitEntry?
---@return Err? err
---@return_overload nil, Err
function M.entry(mirror, commit, path)
  local op = "git.entry"
  local listed, err = run(mirror, op, commit, { "ls-tree", "-z", "-l", "--full-tree", commit, "--", path })
  if not listed then return nil, err end
  for mode, kind, oid, size, name in listed.stdout:gmatch "(%d+) (%a+) (%x+) +([%d-]+)\t([^\0]+)\0" do
    if name == path then return { mode = mode, kind = kind, oid = oid, size = math.tointeger(tonumber(size)) } end
  end
  return errors.fail("not_found", "the commit has no " .. path, { op = op, target = commit })
end

-- Id of the tree at `path`, for "" that of the commit.
local function tree_of(mirror, op, commit, path)
  if path == "" then
    local found, err = run(mirror, op, commit, { "rev-parse", "--verify", "--quiet", commit .. "^{tree}" })
    return found and found.stdout:match "^(%x+)", err
  end
  local entry, err = M.entry(mirror, commit, path)
  if not entry then return nil, err end
  if entry.kind ~= "tree" then
    return errors.fail("invalid", path .. " is not a folder", { op = op, target = commit })
  end
  return entry.oid
end

---Calls each() for every file of a tree while git lists them.
---@async
---@param mirror GitMirror
---@param op string
---@param commit string for errors
---@param tree string
---@param each fun(mode: string, kind: string, oid: string, size: integer, path: string): boolean?, Err? nil ends it
---@return true?
---@return Err? err
---@return_overload nil, Err
function M.entries(mirror, op, commit, tree, each)
  local child <close>, err = proc.spawn(command.command({ "ls-tree", "-r", "-l", "-z", "--full-tree", tree },
    { dir = mirror:path(refs.id_format(commit)), timeout = 600 }))
  if not child then return nil, err end
  local rest = ""
  for piece in function() return child:read "stdout" end do
    piece = rest .. piece
    local last = 0 ---@type any
    for mode, kind, oid, size, path, at in piece:gmatch(ENTRY) do
      local ok, problem = each(mode, kind, oid, math.tointeger(tonumber(size)) or 0, path)
      if not ok then return nil, problem end
      last = at - 1
    end
    rest = piece:sub(last + 1)
  end
  local result
  result, err = child:wait()
  if not result then return nil, err end
  if not result.ok then return command.failure(op, commit, result) end
  return true
end

-- Counts what a tree unfolds to; a bomb is left as soon as it shows.
local function measure(mirror, op, commit, tree)
  local bytes, files = 0, 0
  local ok, err = M.entries(mirror, op, commit, tree, function(_, _, _, size)
    bytes = bytes + size
    files = files + 1
    if bytes <= MAX_CONTENT and files <= MAX_FILES then return true end
    return errors.fail("too_large", ("the commit unfolds to more than %d files or %d GiB"):format(MAX_FILES,
      MAX_CONTENT >> 30), { op = op, target = commit })
  end)
  if not ok then return nil, err end
  return { bytes = bytes, files = files }
end

---Makes a commit of a tree, with the times of another commit and nothing else: the same one for the same two, always.
---A tree that is archived by itself would carry the time of day.
---@async
---@param mirror GitMirror
---@param op string
---@param commit string whose times it gets
---@param tree string
---@return string? commit
---@return Err? err
---@return_overload nil, Err
function M.commit_of(mirror, op, commit, tree)
  local dated, err = run(mirror, op, commit, { "log", "-1", "--no-patch", "--format=%ct", commit, "--" })
  if not dated then return nil, err end
  local date = "@" .. (dated.stdout:match "^%d+" or "0") .. " +0000"
  local made
  made, err = run(mirror, op, commit, { "commit-tree", tree }, { stdin = "", env = {
    GIT_AUTHOR_NAME = "moontide", GIT_AUTHOR_EMAIL = "moontide@localhost", GIT_AUTHOR_DATE = date,
    GIT_COMMITTER_NAME = "moontide", GIT_COMMITTER_EMAIL = "moontide@localhost", GIT_COMMITTER_DATE = date,
  } })
  return made and made.stdout:match "^(%x+)", err
end

---Writes a tar of exactly one commit, or of one of its folders with that folder as the root.
---@async
---@param mirror GitMirror
---@param commit string
---@param opts {to: string, path?: string, timeout?: Seconds} to: file that appears only when it is complete
---@return {path: string, size: integer, files: integer}?
---@return Err? err
---@return_overload nil, Err
function M.archive(mirror, commit, opts)
  local op = "git.archive"
  local path, err = M.tree_path(opts.path)
  if not path then return nil, err end
  local tree, size, ok, info
  tree, err = tree_of(mirror, op, commit, path)
  if not tree then return nil, err end
  size, err = measure(mirror, op, commit, tree)
  if not size then return nil, err end
  local source = commit ---@type any
  if path ~= "" then
    source, err = M.commit_of(mirror, op, commit, tree)
    if not source then return nil, err end
  end
  local part = opts.to .. ".part"
  ok, err = run(mirror, op, commit, { "archive", "--format=tar", "--output=" .. part, source },
    { timeout = opts.timeout or 600 })
  if not ok then
    fs.remove(part)
    return nil, err
  end
  ok, err = fs.rename(part, opts.to)
  if not ok then return nil, err end
  info, err = fs.stat(opts.to)
  if not info then return nil, err end
  return { path = opts.to, size = info.size, files = size.files }
end

---Writes the files of one commit, or of one of its folders, into a new folder. Submodules that were not fetched are
---empty folders; symbolic links are as committed unless `symlinks` is false, else files that hold their target.
---@async
---@param mirror GitMirror
---@param commit string
---@param dir string must not exist, or be empty
---@param opts {path?: string, symlinks?: boolean, timeout?: Seconds}
---@return {path: string, files: integer}?
---@return Err? err
---@return_overload nil, Err
function M.checkout(mirror, commit, dir, opts)
  local op = "git.checkout"
  local path, err = M.tree_path(opts.path)
  if not path then return nil, err end
  local tree, size, ok, entries
  tree, err = tree_of(mirror, op, commit, path)
  if not tree then return nil, err end
  size, err = measure(mirror, op, commit, tree)
  if not size then return nil, err end
  ok, err = fs.mkdir(dir, { parents = true })
  if not ok and err.code ~= "exists" then return nil, err end
  local unread
  entries, unread = fs.list(dir)
  if not entries then return nil, unread --[[@as Err]] end
  if #entries > 0 then return errors.fail("exists", "the folder is not empty", { op = op, target = dir }) end
  local temp <close>, trouble = fs.temp_dir()
  if not temp then return nil, trouble end
  local call = { env = { GIT_INDEX_FILE = temp.path .. "/index", GIT_WORK_TREE = dir }, cwd = dir,
    timeout = opts.timeout or 600 }
  ok, err = run(mirror, op, commit, { "read-tree", tree }, call)
  if not ok then return nil, err end
  local args = { "-c", "core.symlinks=true", "checkout-index", "--all", "--quiet" }
  if opts.symlinks == false then args[2] = "core.symlinks=false" end
  ok, err = run(mirror, op, commit, args, call)
  if not ok then return nil, err end
  return { path = dir, files = size.files }
end

---Reads one small file of a commit. A symbolic link is not followed: it is refused.
---@async
---@param mirror GitMirror
---@param commit string
---@param path string
---@param max? integer largest size, 1 MiB by default
---@return string?
---@return Err? err
---@return_overload nil, Err
function M.read(mirror, commit, path, max)
  local op = "git.read"
  max = max or 1024 * 1024
  local clean, entry, err, result
  clean, err = M.tree_path(path)
  if not clean then return nil, err end
  entry, err = M.entry(mirror, commit, clean)
  if not entry then return nil, err end
  if entry.mode ~= "100644" and entry.mode ~= "100755" then
    return errors.fail("invalid", clean .. " is not a regular file", { op = op, target = commit })
  end
  if entry.size > max then
    return errors.fail("too_large", ("%s has %d bytes"):format(clean, entry.size),
      { op = op, target = commit })
  end
  result, err = run(mirror, op, commit, { "cat-file", "blob", entry.oid }, { max_output = max + 1 })
  return result and result.stdout, err
end

return M
