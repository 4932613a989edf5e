-- The simulated git server: repositories with branches, tags and commits.
local errors, git, hash, refs, shrunken = require "errors", require "sources.git", require "hash",
  require "sources.git.refs", require "sources.git.shrunken"
local history, text, time = require "sources.git.history", require "base.text", require "time"

local M = {}

---@class SimulatedCommit
---@field parents string[]
---@field message string
---@field by string
---@field at Wall
---@field paths string[] Files that it touches.

---@class SimulatedRepository
---@field branches table<string, string>
---@field tags table<string, string>
---@field commits table<string, SimulatedCommit>
---@field edition integer Rises when a branch or a tag changes.

---The commit that has a name.
---@param name string
---@return string id
function M.commit(name) return (hash.sha256(name):sub(1, 40)) end

---A repository of the state; it is there once it is asked for.
---@param state SimulatedState
---@param url string
---@return SimulatedRepository
function M.of(state, url)
  local found = state.repositories[url]
  if not found then
    found = { branches = {}, tags = {}, commits = {}, edition = 0 }
    state.repositories[url] = found
  end
  return found
end

---Makes a commit, unless it is there.
---@param state SimulatedState
---@param url string
---@param name string
---@param about {parent?: string, message?: string, by?: string, paths?: string[]}
---@return string id
function M.make(state, url, name, about)
  local id, repository = M.commit(name), M.of(state, url)
  state.names[id] = name
  repository.commits[id] = repository.commits[id] or {
    parents = { about.parent ~= id and about.parent or nil }, message = about.message or "commit " .. name,
    by = about.by or "ann", at = math.floor(time.now()), paths = about.paths or { name },
  }
  return id
end

---Sets or deletes a branch or a tag.
---@param state SimulatedState
---@param url string
---@param kind "branches"|"tags"
---@param name string
---@param commit? string nil: it is deleted.
function M.point(state, url, kind, name, commit)
  local repository = M.of(state, url)
  repository[kind][name], repository.edition = commit, repository.edition + 1
end

-- A commit and all before it.
local function ancestors(repository, id)
  local found, list, i = {}, { id }, 1
  while list[i] do
    if not found[list[i]] then
      found[list[i]] = true
      for _, parent in ipairs((repository.commits[list[i]] or { parents = {} }).parents) do list[#list + 1] = parent end
    end
    i = i + 1
  end
  return found
end

-- What the one has and the other has not, newest first.
local function between(repository, from, to)
  local known, list = from and ancestors(repository, from) or {}, {}
  local id = to
  while id and not known[id] do -- first parents: a simulated history has no merges
    list[#list + 1] = id
    id = (repository.commits[id] or { parents = {} }).parents[1]
  end
  return list
end

-- Commits that the hosts of a world have: they need no server for them.
local mirrors = setmetatable({}, { __mode = "k" }) ---@type table<Outside, table<string, true>>

---The repository of an app, with the methods of a real one (sources/git).
---@param outside Outside
---@param url string
---@return table
function M.repository(outside, url)
  local edition, answered
  local repo = { url = url, interval = 0, source = { shrunken = shrunken.new(url) } }
  mirrors[outside] = mirrors[outside] or {}
  local mirror = mirrors[outside]
  for name, method in pairs(git.of_references) do repo[name] = method end
  -- The repository, with these commits in the mirror of this host.
  local function there(op, ...)
    local repository = M.of(outside:look(), url)
    for _, id in ipairs { ... } do
      if not refs.id_format(id) then error(("usage: repo:%s: needs full commit ids"):format(op), 3) end
      if not mirror[url .. id] then
        local up, err = outside:reach "git"
        if not up then return nil, err end
        if not repository.commits[id] then
          return errors.fail("not_found", ("the repository has no commit %s"):format(text.short(id)),
            { op = "git." .. op, target = url })
        end
        for ancestor in pairs(ancestors(repository, id)) do mirror[url .. ancestor] = true end
      end
    end
    return repository
  end
  function repo.refs()
    local up, err = outside:reach "git"
    if not up then return nil, err end
    local repository, kept = M.of(outside:look(), url), repo.source.shrunken
    local snapshot
    if answered and edition == repository.edition then
      snapshot = kept:again()
    else
      edition, answered = repository.edition, true
      snapshot = kept:take(refs.snapshot(repository.branches, repository.tags, "main"))
    end
    snapshot.at = time.now()
    return snapshot
  end
  function repo.expire() end
  function repo.fetch(_, commit)
    local repository, err = there("fetch", commit)
    return repository and true, err
  end
  function repo.is_ancestor(_, a, b)
    local repository, err = there("is_ancestor", a, b)
    if not repository then return nil, err end
    return ancestors(repository, b)[a] or false
  end
  function repo.read(_, commit, path) -- of files there is but a chart in each folder, of the folder's name
    local repository, err = there("read", commit)
    if not repository then return nil, err end
    local name = path:match "([^/]+)/Chart%.yaml$"
    if name then return ('apiVersion: v2\nname: "%s"\nversion: 0.0.0\n'):format(name) end
    return errors.fail("not_found", "there is no file " .. path, { op = "git.read", target = url })
  end
  function repo.compare(_, a, b)
    local repository, err = there("compare", a, b)
    if not repository then return nil, err end
    local in_a, in_b, ahead, behind = ancestors(repository, a), ancestors(repository, b), 0, 0
    for id in pairs(in_b) do if not in_a[id] then ahead = ahead + 1 end end
    for id in pairs(in_a) do if not in_b[id] then behind = behind + 1 end end
    return history.comparison(ahead, behind)
  end
  function repo.count(_, commit)
    local repository, err = there("count", commit)
    if not repository then return nil, err end
    return #between(repository, nil, commit)
  end
  function repo.changes(_, a, b, most)
    local repository, err = there("changes", b)
    if not repository then return nil, err end
    local comparison = a and repository.commits[a] and repo:compare(a, b)
    local status = not a and "ahead" or comparison and comparison.status or "unknown"
    local list = { status = status }
    for i, id in ipairs(between(repository, status ~= "unknown" and a or nil, b)) do
      list.cut = i > most or nil
      if i > most then break end
      local c = repository.commits[id]
      list[i] = {
        commit = id, parents = { table.unpack(c.parents) }, author = c.by, at = c.at,
        message = c.message:match "^(.-)%s*$", paths = { table.unpack(c.paths) },
      }
    end
    return list
  end
  function repo.log(_, a, b, limit)
    local repository, err = there("log", b)
    if not repository then return nil, err end
    local list = {}
    for i, id in ipairs(between(repository, a, b)) do
      if i > (limit or 50) then break end
      local c = repository.commits[id]
      list[i] = {
        commit = id, author = c.by, email = c.by .. "@simulated", authored_at = c.at, committed_at = c.at,
        subject = (c.message:match "^[^\n]*"),
      }
    end
    return list
  end
  return repo
end

return M
