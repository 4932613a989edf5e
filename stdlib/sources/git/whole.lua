-- Expands a commit: LFS files and submodules, which it only refers to, are put in their places.
--
-- The result is another commit in the same mirror, the same one for the same commit always, so that code that archives,
-- checks out or reads it need not know. Everything that is named in a commit is hostile: a submodule may come from the
-- origin of its parent, with the parent's credentials, or from elsewhere over HTTP without any; never from this
-- machine's files, unless the parent itself is a neighbour there.
local command = require "sources.git.command"
local content = require "sources.git.content"
local errors = require "errors"
local fs = require "fs"
local lfs = require "sources.git.lfs"
local refs = require "sources.git.refs"
local text = require "base.text"
local url = require "sources.git.url"

local M = {}

local OP = "git.whole"
local MAX_DEPTH = 8       -- of submodules in submodules
local MAX_SUBMODULES = 200
local MAX_BYTES = 8 << 30 -- of all LFS files
local MAX_LISTED = 64 << 20

local run = command.run_at

local function fail(code, commit, message, ...)
  return errors.fail(code, message:format(...), { op = OP, target = commit })
end

---@class GitRefers what a commit refers to
---@field submodules {path: string, commit: string}[]
---@field lfs {path: string, mode: string, pointer: LfsPointer}[]

local function submodules_of(mirror, commit)
  local listed, err = run(mirror, OP, commit, { "ls-tree", "-r", "-d", "-z", "--full-tree", commit },
    { max_output = MAX_LISTED, timeout = 600 })
  if not listed then return nil, err end
  local list = {}
  for oid, path in listed.stdout:gmatch "160000 commit (%x+)\t([^\0]+)\0" do
    if #list >= MAX_SUBMODULES then
      return fail("too_large", commit, "the commit has more than %d submodules", MAX_SUBMODULES)
    end
    list[#list + 1] = { path = path, commit = oid }
  end
  return list
end

-- The files that hold git's mark of a pointer somewhere; their text says what they are.
local function marked(mirror, commit)
  local found, err = run(mirror, OP, commit,
    { "grep", "-z", "-l", "-F", "--no-textconv", "-e", lfs.VERSION, commit, "--" },
    { exits = { [1] = true }, max_output = MAX_LISTED, timeout = 600 })
  if not found then return nil, err end
  local paths, any = {}, false
  for path in found.stdout:gmatch "[^\0]+" do
    paths[path:sub(#commit + 2)] = true
    any = true
  end
  return any and paths or {}, nil, any
end

local function pointers_of(mirror, commit)
  local paths, err, any = marked(mirror, commit)
  if not paths then return nil, err end
  local list, asked = {}, {}
  if not any then return list end
  local ok
  ok, err = content.entries(mirror, OP, commit, commit, function(mode, kind, oid, size, path)
    if kind == "blob" and mode ~= "120000" and size <= lfs.MAX_POINTER and paths[path] then
      list[#list + 1] = { path = path, mode = mode, oid = oid }
      asked[#asked + 1] = oid .. "\n"
    end
    return true
  end)
  if not ok then return nil, err end
  local read
  read, err = run(mirror, OP, commit, { "cat-file", "--batch" },
    { stdin = table.concat(asked), max_output = MAX_LISTED, timeout = 600 })
  if not read then return nil, err end
  local at, kept = 1, {}
  for _, entry in ipairs(list) do
    local size, from = read.stdout:match("^%x+ blob (%d+)\n()", at)
    if not size then return fail("protocol", commit, "git cat-file gave something else than was asked for") end
    entry.pointer = lfs.parse(read.stdout:sub(from, from + tonumber(size) - 1))
    if entry.pointer then kept[#kept + 1] = entry end
    at = from + tonumber(size) + 1
  end
  return kept
end

---Lists what a commit refers to.
---@async
---@param mirror GitMirror
---@param commit string
---@return GitRefers?
---@return Err? err
---@return_overload nil, Err
function M.refers(mirror, commit)
  local submodules, err = submodules_of(mirror, commit)
  if not submodules then return nil, err end
  local pointers
  pointers, err = pointers_of(mirror, commit)
  if not pointers then return nil, err end
  return { submodules = submodules, lfs = pointers }
end

local function some(list)
  local names = {}
  for i = 1, math.min(#list, 3) do names[i] = text.clean(list[i].path, 80) end
  return table.concat(names, ", ") .. (#list > 3 and ", ..." or "")
end

---What of a commit stays out because it was not asked for, one line each for the log of a run.
---@param refers GitRefers
---@param asked {lfs?: boolean, submodules?: boolean}
---@return string[]
function M.left_out(refers, asked)
  local lines = {}
  if #refers.submodules > 0 and not asked.submodules then
    lines[1] = ("%d submodules are left empty (%s): set `submodules = true` for this app to fetch them"):format(
      #refers.submodules, some(refers.submodules))
  end
  if #refers.lfs > 0 and not asked.lfs then
    lines[#lines + 1] = ("%d files of Git LFS are only pointers (%s): set `lfs = true` for this app to fetch them")
      :format(#refers.lfs, some(refers.lfs))
  end
  return lines
end

-- ---- LFS files ----

-- Which blob of the mirror an LFS file became: remembered beside its objects, so that the next commit needs no
-- transfer.
local function known_blob(mirror, commit, oid)
  local path = ("%s/lfs/%s"):format(mirror:path(refs.id_format(commit)), oid)
  local blob = fs.read(path)
  if not blob or not refs.id_format(blob) then return nil, path end
  local there = run(mirror, OP, commit, { "cat-file", "-e", blob }, { exits = { [1] = true, [128] = true } })
  return there and there.code == 0 and blob or nil, path
end

-- Index lines that put the files in the place of their pointers.
local function lfs_lines(mirror, commit, entries, source)
  local blobs, missing, marks, bytes = {}, {}, {}, 0
  for _, entry in ipairs(entries) do
    local p = entry.pointer
    if blobs[p.oid] == nil then
      blobs[p.oid], marks[p.oid] = known_blob(mirror, commit, p.oid)
      if not blobs[p.oid] then
        blobs[p.oid] = false
        missing[#missing + 1] = p
        bytes = bytes + p.size
      end
    end
  end
  if bytes > MAX_BYTES then
    return fail("too_large", commit, "the commit's LFS files have more than %d GiB", MAX_BYTES >> 30)
  end
  if #missing > 0 then
    local temp <close>, err = fs.temp_dir { prefix = "lfs-" }
    if not temp then return nil, err end
    local paths
    paths, err = lfs.fetch(source, missing, temp.path)
    if not paths then return nil, err end
    local names = {}
    for i, p in ipairs(missing) do names[i] = paths[p.oid] .. "\n" end
    local hashed
    hashed, err = run(mirror, OP, commit, { "hash-object", "-w", "--no-filters", "--stdin-paths" },
      { stdin = table.concat(names), max_output = MAX_LISTED, timeout = 600 })
    if not hashed then return nil, err end
    local ok
    ok, err = fs.mkdir(mirror:path(refs.id_format(commit)) .. "/lfs", { parents = true })
    if not ok then return nil, err end
    local i = 0
    for blob in hashed.stdout:gmatch "%x+" do
      i = i + 1
      blobs[missing[i].oid] = blob
      fs.write(marks[missing[i].oid], blob, { sync = false }) -- a mark that is lost costs one more transfer
    end
  end
  local lines = {}
  for i, entry in ipairs(entries) do
    lines[i] = ("%s %s\t%s\0"):format(entry.mode, blobs[entry.pointer.oid], entry.path)
  end
  return table.concat(lines)
end

-- ---- submodules ----

-- The addresses that .gitmodules gives: path -> address.
local function addresses(mirror, commit)
  local listed, err = run(mirror, OP, commit,
    { "config", "--blob", commit .. ":.gitmodules", "--no-includes", "-z", "--get-regexp",
      "^submodule\\..*\\.(path|url)$" },
    { exits = { [1] = true } })
  if not listed then
    if err.code ~= "exit" then return nil, err end
    return {} -- there is no such file
  end
  local modules = {}
  for name, field, value in listed.stdout:gmatch "submodule%.([^\n%z]*)%.(%a+)\n([^%z]*)%z" do
    modules[name] = modules[name] or {}
    modules[name][field] = value
  end
  local by_path = {}
  for _, module in pairs(modules) do
    if module.path and module.url then by_path[module.path] = module.url end
  end
  return by_path
end

---The address of a submodule, judged by its parent's.
---@param parent GitUrl
---@param address string as .gitmodules gives it, relative or whole
---@return GitUrl?
---@return boolean|Err own Whether the parent's credentials may go there; or what is wrong.
function M.resolve(parent, address)
  local whole = address
  if address:find "^%.%.?/" then
    local base = parent.text:gsub("/+$", "")
    local rest = address
    while true do
      local up, behind = rest:match "^(%.%.?)/(.*)$"
      if not up then break end
      if up == ".." then base = base:match "^(.*)/[^/]*$" or base:match "^(.*:)[^:/]*$" or "" end
      rest = behind --[[@as string]]
    end
    whole = base .. (base:sub(-1) == ":" and "" or "/") .. rest
  end
  local at, err = url.parse(whole)
  if not at then return nil, err end
  if ("/" .. at.path .. "/"):find("/../", 1, true) then
    return errors.fail("denied", "the submodule's address leads out of its server's folders",
      { op = OP, target = at.text })
  end
  if at.scheme == "file" then
    local folder = parent.scheme == "file" and parent.path:match "^(.*/)[^/]*$"
    if folder and at.path:sub(1, #folder) == folder then return at, true end
  elseif at.origin == parent.origin then
    return at, true
  elseif at.scheme == "https" or at.scheme == "http" then
    return at, false
  end
  return errors.fail("denied", ("a submodule of %s may not come from %s"):format(parent.text, at.text),
    { op = OP, target = at.text })
end

-- Brings the commit of another mirror, whole as it is, into this one.
local function import(mirror, commit, other, oid)
  if refs.id_format(oid) ~= refs.id_format(commit) then
    return fail("unsupported", commit, "a submodule has another object format")
  end
  return command.run(OP, { "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
    "--no-auto-maintenance", "--update-shallow", "--refmap=", "--", other:path(refs.id_format(oid)),
    "+" .. oid .. ":refs/moontide/" .. oid },
    { dir = mirror:path(refs.id_format(commit)), protocol = "file", timeout = 900 })
end

-- ---- the whole ----

---@class WholeOptions
---@field url GitUrl of the repository
---@field lfs? LfsSource fetch LFS files
---@field submodule? (fun(address: GitUrl, own: boolean): GitRepository) fetch submodules
---@field depth integer of this repository among submodules

-- A call on the index that reads its lines.
local function with_input(index, lines) return { env = index.env, cwd = index.cwd, stdin = lines } end

local function place_submodules(mirror, commit, list, options, index)
  local known, err = addresses(mirror, commit)
  if not known then return nil, err end
  for _, module in ipairs(list) do
    local address = known[module.path]
    if not address then
      return fail("invalid", commit, ".gitmodules gives no address for the submodule %s", module.path)
    end
    local at, own = M.resolve(options.url, address)
    if not at then return fail(own.code, commit, "the submodule %s: %s", module.path, own.message) end
    if options.depth >= MAX_DEPTH then
      return fail("too_large", commit, "submodules in submodules, deeper than %d", MAX_DEPTH)
    end
    local repo = options.submodule(at, own)
    local whole
    whole, err = repo:whole(module.commit)
    if not whole then ---@cast err Err
      local problem = errors.new(err.code, ("the submodule %s: %s"):format(module.path, err.message),
        { op = OP, target = commit, cause = err })
      return nil, problem
    end
    local ok
    ok, err = import(mirror, commit, repo:objects(), whole)
    if not ok then return nil, err end
    ok, err = run(mirror, OP, commit, { "update-index", "-z", "--index-info" },
      with_input(index, ("0 %s\t%s\0"):format(("0"):rep(#commit), module.path)))
    if not ok then return nil, err end
    ok, err = run(mirror, OP, commit, { "read-tree", "--prefix=" .. module.path .. "/", whole }, index)
    if not ok then return nil, err end
  end
  return true
end

---Makes a commit whole. What it does not refer to, or what is not asked for, stays as it is.
---@async
---@param mirror GitMirror that has the commit
---@param commit string
---@param options WholeOptions
---@return string? commit another one, or the same
---@return Err? err
---@return_overload nil, Err
function M.make(mirror, commit, options)
  local refers, err = M.refers(mirror, commit)
  if not refers then return nil, err end
  local modules = options.submodule and refers.submodules or {}
  local files = options.lfs and refers.lfs or {}
  if #modules + #files == 0 then return commit end
  local temp <close>, problem = fs.temp_dir { prefix = "whole-" }
  if not temp then return nil, problem end
  local index = { env = { GIT_INDEX_FILE = temp.path .. "/index", GIT_WORK_TREE = temp.path }, cwd = temp.path }
  local ok
  ok, err = run(mirror, OP, commit, { "read-tree", commit }, index)
  if not ok then return nil, err end
  if #files > 0 then
    local lines
    lines, err = lfs_lines(mirror, commit, files, options.lfs)
    if not lines then return nil, err end
    ok, err = run(mirror, OP, commit, { "update-index", "-z", "--index-info" }, with_input(index, lines))
    if not ok then return nil, err end
  end
  ok, err = place_submodules(mirror, commit, modules, options, index)
  if not ok then return nil, err end
  local tree
  tree, err = run(mirror, OP, commit, { "write-tree" }, index)
  if not tree then return nil, err end
  local whole
  whole, err = content.commit_of(mirror, OP, commit, assert(tree.stdout:match "^%x+"))
  if not whole then return nil, err end
  ok, err = run(mirror, OP, commit, { "update-ref", "--no-deref", "refs/moontide/" .. whole, whole })
  if not ok then return nil, err end
  return whole
end

return M
