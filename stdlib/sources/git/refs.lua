-- References as a server lists them: names, advertisements, ls-refs answers, and when an answer equals the last one.
--
-- Pure text work. Everything here comes from the other side and is hostile: every name is checked, every
-- count and length has a limit, and an answer without its final flush is a failure, never "no refs"
-- (git-http-backend answers many mistakes with 200 and an empty body).

local errors = require "errors"
local parted = require "base.parted"
local pktline = require "sources.git.pktline"
local shrink = require "base.shrink"
local text = require "base.text"

local M = {}

---References in one answer; github.com's largest mirrors stay below it by far.
M.MAX_REFS = 200000
local MAX_NAME = 1024

---@class GitRef
---@field oid string what the reference names: a commit, or a tag object
---@field commit string the commit (an annotated tag peeled)
---@field annotated boolean

---@class GitSnapshot
---@field refs table<string, GitRef> full name to reference; refs/heads/ and refs/tags/ only
---@field head? string full name of the branch that HEAD points at
---@field head_commit? string absent while that branch has no commit
---@field heads integer number of branches
---@field tags integer number of tags
---@field refused integer references left out because of their names
---@field format "sha1"|"sha256"
---@field package names string[] of the tags, as they came
---@field package ordered boolean they came in the order of their names, as git lists them
---@field package list? table[] what tag_list made of them
---@field branches? {branch: string, commit: string}[] what sources/git/branches.lua made of them
---@field held? Held what is in `refs` although the server lists it no more (sources/git/shrunken.lua)
---@field at number wall seconds of the answer

local function fail(message, ...)
  return errors.fail("protocol", message:format(...), { op = "git.refs" })
end

local LENGTH = { sha1 = 40, sha256 = 64 }

---Whether a text is a full lower-case object id; which format it has.
---@param id any
---@return "sha1"|"sha256"|any
function M.id_format(id)
  if type(id) ~= "string" or not id:find "^[0-9a-f]+$" then return nil end
  return #id == 40 and "sha1" or #id == 64 and "sha256" or nil
end

---Whether a full reference name is well-formed (git-check-ref-format) and printable.
---
---A legal name can still be like an option or a shell command: callers pass it only where no option is
---read.
---@param name string
---@return boolean
function M.valid_name(name)
  if #name > MAX_NAME or name:sub(1, 5) ~= "refs/" then return false end
  -- Nearly every name is one plain word below a kind.
  if name:find "^refs/%l+/[%w_-][%w_.-]*$" then
    return not (name:find("..", 1, true) or name:byte(-1) == 46 or name:sub(-5) == ".lock")
  end
  if name:find "[\0-\32\127~^:?*%[\\]" or not text.printable(name) then return false end
  if name:find("..", 1, true) or name:find("@{", 1, true) or name:find("//", 1, true) then return false end
  if name:find("/.", 1, true) or name:find("%.lock/") then return false end
  return not (name:find "[/.]$" or name:find "%.lock$")
end

---@return any
local function new_snapshot(format)
  return {
    refs = parted.table(), names = {}, ordered = true, heads = 0, tags = 0, refused = 0, format = format, at = 0,
  }
end

-- Adds one reference. Unused kinds (pull requests, notes) are dropped: servers may send more
-- than was asked for.
local function add(snapshot, name, oid, commit, annotated)
  local kind = name:sub(1, 10) == "refs/tags/" and "tags" or name:sub(1, 11) == "refs/heads/" and "heads"
  if not kind then return true end
  if not M.valid_name(name) then
    snapshot.refused = snapshot.refused + 1
    return true
  end
  if snapshot.refs[name] then return fail("the server names a reference twice") end
  if snapshot.heads + snapshot.tags >= M.MAX_REFS then
    return errors.fail("too_large", "more than " .. M.MAX_REFS .. " references", { op = "git.refs" })
  end
  snapshot[kind] = snapshot[kind] + 1
  if kind == "tags" then
    local names = snapshot.names
    snapshot.ordered = snapshot.ordered and (#names == 0 or names[#names] < name)
    names[#names + 1] = name
  end
  snapshot.refs[name] = { oid = oid, commit = commit or oid, annotated = annotated or false }
  return true
end

local function check_id(snapshot, oid)
  return oid and #oid == LENGTH[snapshot.format] and not oid:find "[^0-9a-f]"
end

local function set_head(snapshot, target, commit)
  if target and target:sub(1, 11) == "refs/heads/" and M.valid_name(target) then snapshot.head = target end
  snapshot.head_commit = commit
end

-- A thousand lines take two or three milliseconds: then other tasks get a turn.
local LINES_PER_TURN = 1000

-- Calls on_line(text) for each data frame up to the first flush. `what` names the answer in errors.
local function each_line(body, at, what, pause, on_line)
  local lines = 0
  while true do
    lines = lines + 1
    if pause and lines % LINES_PER_TURN == 0 then pause() end
    local kind, following, first, last = pktline.scan(body, at)
    if not kind then return nil, following end
    if kind == "more" then return fail("%s ends early", what) end
    if kind == "end" or kind == "delim" then return fail("%s holds an unexpected marker", what) end
    if kind == "flush" then return following end
    local line = pktline.text(body, first, last)
    if line:byte(1) == 69 and line:sub(1, 4) == "ERR " then
      return errors.fail("failed", "the server says: " .. text.clean(line:sub(5)), { op = "git.refs" })
    end
    local ok, err = on_line(line)
    if not ok then return nil, err end
    at = following
  end
end

---@class GitCaps
---@field version 0|2
---@field format "sha1"|"sha256"
---@field agent boolean the server told its agent, so it takes ours
---@field unborn boolean ls-refs may tell an unborn HEAD
---@field words table<string, boolean> version 0: capabilities without values
---@field shallow? string[] version 0: commits at which the server's own history ends
---@field snapshot? GitSnapshot version 0: the advertisement is the list of references itself
---@field request? string version 2: the body that asks for the list of references

local v2_known = {} -- by what they say: repositories of one server have one table

local function v2_caps(body, at)
  local caps = { version = 2, format = "sha1", agent = false, unborn = false, words = {} }
  local has_ls_refs, has_fetch, lines = false, false, 0
  local following, err = each_line(body, at, "the advertisement", nil, function(line)
    lines = lines + 1
    if lines > 256 then return fail "the advertisement never ends" end
    local key, value = line:match "^([^=]+)=?(.*)$"
    if key == "agent" then
      caps.agent = true
    elseif key == "ls-refs" then
      has_ls_refs = true
      caps.unborn = (" " .. value .. " "):find(" unborn ", 1, true) ~= nil
    elseif key == "fetch" then
      has_fetch = true
    elseif key == "object-format" then
      if not LENGTH[value] then
        return errors.fail("unsupported", "the repository has an unknown object format", { op = "git.refs" })
      end
      caps.format = value
    end
    return true
  end)
  if not following then return nil, err end
  if not (has_ls_refs and has_fetch) then return fail "the server offers neither ls-refs nor fetch" end
  local key = ("%s %s %s"):format(caps.format, caps.agent, caps.unborn)
  v2_known[key] = v2_known[key] or caps
  return v2_known[key]
end

local function v0_words(caps, list)
  local symref
  for word in list:gmatch "%S+" do
    local key, value = word:match "^([^=]+)=(.*)$"
    if not key then
      caps.words[word] = true
    elseif key == "symref" and value:sub(1, 5) == "HEAD:" then
      symref = value:sub(6)
    elseif key == "object-format" then
      caps.format = value
    elseif key == "agent" then
      caps.agent = true
    end
  end
  return symref
end

local function v0_line(snapshot, line, last)
  local oid, name = line:match "^(%x+) ([^ ]+)$"
  if not check_id(snapshot, oid) then return fail "a line is not an object id and a reference name" end
  local base = name:match "^(.*)%^{}$"
  if base then
    local ref = base == last.name and snapshot.refs[base]
    if ref then ref.commit, ref.annotated = oid, true end
    return true
  end
  last.name = name
  if name == "HEAD" then
    snapshot.head_commit = oid
    return true
  end
  return add(snapshot, name, oid)
end

local function v0_caps(body, at, pause)
  local caps = { version = 0, format = "sha1", agent = false, unborn = false, words = {}, shallow = {} }
  local snapshot, symref
  local last = {}
  local following, err = each_line(body, at, "the advertisement", pause, function(line)
    local ending = snapshot and line:match "^shallow (%x+)$"
    if ending and check_id(snapshot, ending) then
      caps.shallow[#caps.shallow + 1] = ending
      return true
    end
    if snapshot then return v0_line(snapshot, line, last) end
    if line == "version 1" then return true end
    local first, words = line:match "^([^\0]*)\0(.*)$"
    if not first then return fail "the first reference carries no capabilities" end
    symref = v0_words(caps, words)
    if not LENGTH[caps.format] then
      return errors.fail("unsupported", "the repository has an unknown object format", { op = "git.refs" })
    end
    snapshot = new_snapshot(caps.format)
    if first:find "^0+ capabilities%^{}$" then return true end
    return v0_line(snapshot, first, last)
  end)
  if not following then return nil, err end
  -- JGit and others answer an empty repository with the flush alone.
  snapshot = snapshot or new_snapshot(caps.format)
  if symref then set_head(snapshot, symref, snapshot.head_commit) end
  caps.snapshot = snapshot
  return caps
end

---Reads the answer to `GET info/refs?service=git-upload-pack`.
---
---Two shapes exist for version 2: git-http-backend begins with "version 2", github.com puts the service line
---and a flush before it. Without "version 2" the body is a version 0 (or 1) list of references.
---@param body string
---@param pause fun()? called now and then while the list of version 0 is long
---@return GitCaps?
---@return Err? err
---@return_overload nil, Err
function M.parse_advertisement(body, pause)
  local kind, following, first, last = pktline.scan(body, 1)
  if not kind then return nil, following end
  local at = 1
  if kind == "data" and pktline.text(body, first, last) == "# service=git-upload-pack" then
    local next_at
    kind, next_at = pktline.scan(body, following)
    if not kind then return nil, next_at --[[@as Err]] end
    at = next_at --[[@as integer]]
    if kind ~= "flush" then return fail "the service line is not followed by a flush" end
    kind, following, first, last = pktline.scan(body, at)
    if not kind then return nil, following end
  end
  if kind == "data" and pktline.text(body, first, last) == "version 2" then
    return v2_caps(body, following)
  end
  return v0_caps(body, at, pause)
end

---Makes the body of an ls-refs request for HEAD, branches and tags.
---@param caps GitCaps
---@param agent string
---@return string
---@nodiscard
function M.ls_refs_request(caps, agent)
  local line = pktline.line
  return table.concat {
    line "command=ls-refs\n",
    caps.agent and line("agent=" .. agent .. "\n") or "",
    line("object-format=" .. caps.format .. "\n"),
    pktline.DELIM,
    line "peel\n",
    line "symrefs\n",
    caps.unborn and line "unborn\n" or "",
    line "ref-prefix HEAD\n",
    line "ref-prefix refs/heads/\n",
    line "ref-prefix refs/tags/\n",
    pktline.FLUSH,
  }
end

---Reads the answer to an ls-refs request.
---@param body string
---@param format "sha1"|"sha256"
---@param pause fun()? called now and then while the list is long
---@return GitSnapshot?
---@return Err? err
---@return_overload nil, Err
function M.parse_ls_refs(body, format, pause)
  local snapshot = new_snapshot(format)
  local seen_head = false
  local following, err = each_line(body, 1, "the list of references", pause, function(line)
    local oid, name, rest = line:match "^(%x+) ([^ ]+)(.*)$"
    if not oid then
      local target = line:match "^unborn HEAD symref%-target:([^ ]+)"
      if target and not seen_head then
        seen_head = true
        set_head(snapshot, target, nil)
        return true
      end
      return fail "a line is not an object id and a reference name"
    end
    if not check_id(snapshot, oid) then return fail "an object id has the wrong form" end
    local target, peeled
    if rest ~= "" then
      target = rest:match " symref%-target:([^ ]+)"
      peeled = rest:match " peeled:([^ ]+)"
      if peeled and not check_id(snapshot, peeled) then
        return fail "a peeled object id has the wrong form"
      end
    end
    if name == "HEAD" then
      if seen_head then return fail "the server names a reference twice" end
      seen_head = true
      set_head(snapshot, target, peeled or oid)
      return true
    end
    return add(snapshot, name, oid, peeled, peeled ~= nil)
  end)
  if not following then return nil, err end
  if following <= #body then return fail "something follows the list of references" end
  return snapshot
end

---Reads the output of `git ls-remote --symref`.
---@param output string
---@param pause fun()? called now and then while the list is long
---@return GitSnapshot?
---@return Err? err
---@return_overload nil, Err
function M.parse_ls_remote(output, pause)
  local snapshot, target
  local last, lines = {}, 0
  for line in output:gmatch "([^\n]*)\n" do
    lines = lines + 1
    if pause and lines % LINES_PER_TURN == 0 then pause() end
    local symref, from = line:match "^ref: ([^\t]+)\t([^\t]+)$"
    if symref then -- any reference may be a symbolic one; its own line follows
      if from == "HEAD" then target = symref end
    else
      local oid, name = line:match "^(%x+)\t(.+)$"
      local format = M.id_format(oid)
      if not format then return fail "git ls-remote printed a line that is not a reference" end
      snapshot = snapshot or new_snapshot(format)
      -- A name with a space cannot be a reference; v0_line would take it for something else.
      local ok, err = true --[[@as boolean?]], nil
      if name:find " " then
        snapshot.refused = snapshot.refused + 1
      else
        ok, err = v0_line(snapshot, oid .. " " .. name, last)
      end
      if not ok then return nil, err end
    end
  end
  if output ~= "" and output:sub(-1) ~= "\n" then return fail "the output of git ls-remote ends early" end
  snapshot = snapshot or new_snapshot "sha1"
  if target then set_head(snapshot, target, snapshot.head_commit) end
  return snapshot
end

local NONE <const> = {}

---Lists the tags of a snapshot in the order of their names.
---@param snapshot GitSnapshot
---@return {name: string, oid: string, commit: string, annotated: boolean}[] list Shared: not to be changed.
function M.tag_list(snapshot)
  if snapshot.tags == 0 then return NONE end
  if snapshot.list then return snapshot.list end
  local list, names = {}, snapshot.names
  if not snapshot.ordered then table.sort(names) end
  for i, name in ipairs(names) do
    local ref = snapshot.refs[name]
    list[i] = { name = name:sub(11), oid = ref.oid, commit = ref.commit, annotated = ref.annotated }
  end
  snapshot.names, snapshot.list = {}, list
  return list
end

-- Whether a reference belongs to a snapshot as a branch or as a tag.
local function kind_of(name) return name:sub(1, 10) == "refs/tags/" and "tags" or "heads" end

---Adds references that an answer lacks, and the branch that HEAD names with them.
---@param snapshot GitSnapshot
---@param kept table<string, GitRef>
---@param before GitSnapshot where they come from
function M.keep(snapshot, kept, before)
  for name, ref in pairs(kept) do
    local kind = kind_of(name)
    snapshot.refs[name] = ref
    snapshot[kind] = snapshot[kind] + 1
    if kind == "tags" then
      snapshot.names[#snapshot.names + 1] = name
      snapshot.ordered = false
    end
  end
  if not snapshot.head and kept[before.head or ""] then
    snapshot.head, snapshot.head_commit = before.head, before.head_commit
  end
end

---Makes a snapshot without some of its references.
---@param snapshot GitSnapshot
---@param gone table<string, boolean>
---@return GitSnapshot
function M.without(snapshot, gone)
  local less = new_snapshot(snapshot.format)
  for _, field in ipairs { "head", "head_commit", "refused", "at" } do less[field] = snapshot[field] end
  for name, ref in pairs(snapshot.refs) do
    if not gone[name] then
      local kind = kind_of(name)
      less.refs[name] = ref
      less[kind] = less[kind] + 1
      if kind == "tags" then less.names[#less.names + 1] = name end
    end
  end
  less.ordered = false
  if gone[less.head or ""] then less.head, less.head_commit = nil, nil end
  return less
end

---Makes a snapshot of names and commits.
---@param heads table<string, string> branch to commit
---@param tags table<string, string> tag to commit
---@param head? string the branch that HEAD names
---@return GitSnapshot
function M.snapshot(heads, tags, head)
  local _, sample = next(heads)
  if not sample then _, sample = pairs(tags)(tags) end
  local snapshot = new_snapshot(M.id_format(sample) or "sha1")
  for prefix, list in pairs { ["refs/heads/"] = heads, ["refs/tags/"] = tags } do
    for name, commit in pairs(list) do add(snapshot, prefix .. name, commit) end
  end
  if head then set_head(snapshot, "refs/heads/" .. head, heads[head]) end
  return snapshot
end

---Judges a new answer by the one before it: whether it lost everything, all branches, or half of the tags.
---@param before GitSnapshot
---@param now GitSnapshot
---@return string? complaint nil when the answer is credible
function M.shrunk(before, now)
  if before.heads + before.tags == 0 then return nil end
  if now.heads + now.tags == 0 then
    return ("all %d references are gone"):format(before.heads + before.tags)
  end
  if now.heads == 0 and before.heads > 0 then return ("all %d branches are gone"):format(before.heads) end
  if shrink.suspicious(before.tags, now.tags) then
    return ("%d of %d tags are gone"):format(before.tags - now.tags, before.tags)
  end
  return nil
end

return M
