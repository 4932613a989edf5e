-- How commits relate: ancestry, what lies between two of them, who wrote it. Out of a mirror.

local command = require "sources.git.command"
local errors = require "errors"
local proc = require "proc"
local refs = require "sources.git.refs"
local text = require "base.text"

local M = {}

local run = command.run_at

---Whether `a` is an ancestor of `b`, or `b` itself.
---@async
---@param mirror GitMirror
---@param a string
---@param b string
---@return boolean?
---@return Err? err
---@return_overload nil, Err
function M.is_ancestor(mirror, a, b)
  local result, err = run(mirror, "git.is_ancestor", a, { "merge-base", "--is-ancestor", a, b },
    { exits = { [1] = true } })
  if not result then return nil, err end
  return result.code == 0
end

---@class GitComparison
---@field status "identical"|"ahead"|"behind"|"diverged" what `b` is as seen from `a`
---@field ahead integer commits only in b
---@field behind integer commits only in a
---@field kind "none"|"push"|"reset"|"force" what moving a branch from a to b is called

local KIND = { identical = "none", ahead = "push", behind = "reset", diverged = "force" }

---Makes a comparison of its two counts.
---@param ahead integer
---@param behind integer
---@return GitComparison
function M.comparison(ahead, behind)
  local status = ahead > 0 and (behind > 0 and "diverged" or "ahead") or behind > 0 and "behind"
    or "identical"
  return { status = status, ahead = ahead, behind = behind, kind = KIND[status] }
end

---Compares two commits as a branch would move from `a` to `b`.
---@async
---@param mirror GitMirror
---@param a string
---@param b string
---@return GitComparison?
---@return Err? err
---@return_overload nil, Err
function M.compare(mirror, a, b)
  local result, err = run(mirror, "git.compare", a,
    { "rev-list", "--left-right", "--count", a .. "..." .. b, "--" })
  if not result then return nil, err end
  local left, right = result.stdout:match "^(%d+)\t(%d+)"
  if not left then
    return errors.fail("protocol", "git rev-list printed no counts", { op = "git.compare" })
  end
  return M.comparison(math.tointeger(tonumber(right)) or 0, math.tointeger(tonumber(left)) or 0)
end

---Counts the commits that lead to one, itself among them: a number that grows with each commit on a branch.
---@async
---@param mirror GitMirror
---@param commit string
---@return integer?
---@return Err? err
---@return_overload nil, Err
function M.count(mirror, commit)
  local result, err = run(mirror, "git.count", commit, { "rev-list", "--count", commit, "--" })
  if not result then return nil, err end
  local count = math.tointeger(tonumber(result.stdout:match "^%d+"))
  if count then return count end
  return errors.fail("protocol", "git rev-list printed no count", { op = "git.count", target = commit })
end

---@class GitChange A commit, with what it changed.
---@field commit string
---@field parents string[]
---@field author string
---@field message string At most 8 KiB of it; no control characters but the ends of lines.
---@field at Wall When it was committed.
---@field paths string[] That it changed, as bytes; of a merge, against its first parent. At most 1000.
---@field more_paths? integer How many more there are.

---@class GitChanges: GitChange[] Newest first.
---@field status "identical"|"ahead"|"behind"|"diverged"|"unknown" What the newer is, as seen from the older one;
--- unknown: the server does not have the older one any more.
---@field cut? boolean There are more.

local HEADER <const> = 5 -- fields of a commit before its paths
local CHANGES <const> = "--format=%H%x00%P%x00%an%x00%ct%x00%B"
local MESSAGE <const>, PATHS <const>, BYTES <const> = 8192, 1000, 32 << 20

-- The fields that end with a NUL, out of pieces as they come; at most so many bytes.
local function fields_of(child)
  local rest, size = "", 0
  return function()
    local pieces, stop = {}, rest:find("\0", 1, true)
    while not stop do
      pieces[#pieces + 1] = rest
      rest = size < BYTES and child:read "stdout" or nil
      if not rest then
        rest = ""
        return nil
      end
      size = size + #rest
      stop = rest:find("\0", 1, true)
    end
    stop = assert(stop) --[[@as integer]]
    pieces[#pieces + 1] = rest:sub(1, stop - 1)
    rest = rest:sub(stop + 1)
    return table.concat(pieces)
  end, function() return size >= BYTES end
end

local function change_of(field)
  local parents = {}
  for parent in field[2]:gmatch "%x+" do parents[#parents + 1] = parent end
  return {
    commit = field[1], parents = parents, author = text.clean(field[3], 100), at = tonumber(field[4]) or 0,
    message = field[5]:sub(1, MESSAGE):gsub("[%z\1-\8\11-\31\127]", " "):gsub("%s+$", ""), paths = {},
  }
end

-- Reads what git log prints: of each commit its fields, then a line's end and, of each file, its modes and its path.
local function read_changes(child, commit, most)
  local list, now, header = {}, nil, {}
  local next_field, full = fields_of(child)
  for field in next_field do
    if #header == 0 and now and field:find "^\n?:" then
      local path = next_field()
      if not path then break end
      if #now.paths < PATHS then
        now.paths[#now.paths + 1] = path
      else
        now.more_paths = (now.more_paths or 0) + 1
      end
    else
      if #header == 0 and #list == most then
        list.cut = true
        return list
      end
      header[#header + 1] = field
      if #header == HEADER then
        if not header[1]:find "^%x+$" or #header[1] ~= #commit then
          return errors.fail("protocol", "git log printed a broken record", { op = "git.changes", target = commit })
        end
        now, header = change_of(header), {}
        list[#list + 1] = now
      end
    end
  end
  list.cut = full() or nil
  return list
end

---Lists the commits that `b` has and `a` has not, newest first, with the paths that each changed. Whatever a history
---holds, this ends within its bounds.
---@async
---@param mirror GitMirror
---@param a? string nil: from the beginning
---@param b string
---@param most integer
---@return GitChanges?
---@return Err? err
---@return_overload nil, Err
function M.changes(mirror, a, b, most)
  local child <close>, err = proc.spawn(command.command({
    "log", "-z", "--no-color", "--no-decorate", "--no-notes", "--raw", "--no-renames", "--no-abbrev",
    "--diff-merges=first-parent", "--root", "--ignore-submodules=none", CHANGES, ("--max-count=%d"):format(most + 1),
    a and a .. ".." .. b or b, "--",
  }, { dir = mirror:path(refs.id_format(b)), timeout = 120 }))
  if not child then return nil, err end
  local list
  list, err = read_changes(child, b, most)
  if not list then return nil, err end
  if not list.cut then
    local result
    result, err = child:wait()
    if not result then return nil, err end
    if not result.ok then return command.failure("git.changes", b, result) end
  end
  return list
end

---@class GitCommit
---@field commit string
---@field author string
---@field email string
---@field authored_at Wall
---@field committed_at Wall
---@field subject string

local FIELDS = 6
local FORMAT = "--format=%H%x00%an%x00%ae%x00%at%x00%ct%x00%s"

---Lists the commits that `b` has and `a` has not, newest first. Names and subjects are cleaned of control
---bytes.
---@async
---@param mirror GitMirror
---@param a? string nil: from the beginning
---@param b string
---@param limit? integer 50 by default
---@return GitCommit[]?
---@return Err? err
---@return_overload nil, Err
function M.log(mirror, a, b, limit)
  local result, err = run(mirror, "git.log", b,
    { "log", "-z", "--no-color", "--no-decorate", "--no-notes", "--no-patch",
    FORMAT, ("--max-count=%d"):format(limit or 50), a and a .. ".." .. b or b, "--" },
    { max_output = 8 * 1024 * 1024 })
  if not result then return nil, err end
  local fields = {}
  for field in result.stdout:gmatch "([^\0]*)\0" do fields[#fields + 1] = field end
  if #fields % FIELDS ~= 0 then
    return errors.fail("protocol", "git log printed a broken record", { op = "git.log", target = b })
  end
  local list = {}
  for i = 1, #fields, FIELDS do
    list[#list + 1] = {
      commit = fields[i],
      author = text.clean(fields[i + 1], 100),
      email = text.clean(fields[i + 2], 200),
      authored_at = tonumber(fields[i + 3]) or 0,
      committed_at = tonumber(fields[i + 4]) or 0,
      subject = text.clean(fields[i + 5], 200),
    }
  end
  return list
end

return M
