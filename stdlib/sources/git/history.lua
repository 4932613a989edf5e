-- How commits relate: ancestry, what lies between two of them, who wrote it. Out of a mirror.

local command = require "sources.git.command"
local errors = require "errors"
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
