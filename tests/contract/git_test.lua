-- What hosts may rely on of a git server: proved of the simulated one and of git's own over HTTP.
--
-- On purpose the simulated one has no files (archive, checkout; `read` finds a chart in each folder), no merges, no
-- annotated tags (a tag is at its commit at once), and never forgets a commit.
---@diagnostic disable: need-check-nil, undefined-field -- a nil fails the test
local check = require "check"
local errors, kit, lab, simulation, time = require "errors", require "contract.kit", require "lab",
  require "simulation", require "time"
local eq, ok, fails, has = check.eq, check.ok, check.fails, check.has

---@class GitPart
---@field id fun(name: string): string The commit that has a name.
---@field push fun(name: string, options?: {branch?: string, message?: string, by?: string, paths?: string[]})
---@field reset fun(name: string)
---@field tag fun(tag: string, name: string)
---@field untag fun(tag: string)
---@field delete_branch fun(branch: string)
---@field down fun()
---@field up fun()
---@field open fun(): table The repository, as a host that knows nothing opens it.

---@return GitPart
local function simulated()
  local world, open = kit.simulated()
  local web = world:app("web", { environments = { staging = {} } })
  local part = {
    id = simulation.commit, down = function() world:down "git" end, up = function() world:up "git" end,
    open = function() return open().repository(web:config()) end,
  }
  for _, word in ipairs { "push", "reset", "tag", "untag", "delete_branch" } do
    part[word] = function(...) return web[word](web, ...) end
  end
  return part --[[@as GitPart]]
end

local server, made ---@type LabGit, integer

---@return GitPart
local function real()
  server, made = server or lab.git {}, (made or 0) + 1
  local origin, ids, opened = server:repo("web" .. made), {}, 0
  return {
    id = function(name) return ids[name] end,
    push = function(name, options)
      options = options or {}
      local files = {}
      for _, path in ipairs(options.paths or { name }) do files[path] = name end
      ids[name] = origin:commit(files, { branch = options.branch, message = options.message or "commit " .. name,
        env = { GIT_AUTHOR_NAME = options.by or "ann" } })
    end,
    reset = function(name) origin:reset(ids[name]) end,
    tag = function(tag, name) origin:tag(tag, { commit = ids[name], message = "an annotated one" }) end,
    untag = function(tag) origin:delete("refs/tags/" .. tag) end,
    delete_branch = function(branch) origin:delete("refs/heads/" .. branch) end,
    down = function() server:stop() end, up = function() server:start() end,
    open = function()
      opened = opened + 1 -- another address, so that nothing is shared with those opened before
      lab.run { "ln", "-s", origin.path, ("%s/repositories/web%d-%d.git"):format(server.dir, made, opened) }
      local source = ("%s/web%d-%d.git"):format(server.url, made, opened)
      local world = kit.real({}, { web = { source = source, environments = { staging = {} } } })
      return world.repository(world.config.apps.web)
    end,
  }
end

local both = kit.each { simulated = simulated, real = real }

-- Asks the server, whatever is known.
local function now(repo, word, ...)
  repo:expire()
  return repo[word](repo, ...)
end

both("while nothing changes it is the same snapshot, and it says when it was seen", function(git)
  git.push "a"
  local repo = git.open()
  local first = ok(repo:refs())
  eq({ first.heads, first.tags, first.head, first.format, first.refused }, { 1, 0, "refs/heads/main", "sha1", 0 })
  eq(first.refs["refs/heads/main"], { oid = git.id "a", commit = git.id "a", annotated = false })
  local seen = first.at
  ok(math.abs(seen - time.now()) < 300)
  check.eventually(function() return time.now() > seen end)
  ok(rawequal(ok(now(repo, "refs")), first))
  ok(first.at > seen)
  git.push "b"
  local second = ok(now(repo, "refs"))
  ok(not rawequal(second, first))
  eq(second.refs["refs/heads/main"].commit, git.id "b")
end)

both("a branch is at its newest commit", function(git)
  git.push "a"
  local repo = git.open()
  local head = ok(repo:head "main")
  eq({ head.commit, head.key, head.ref, head.branch, head.reason },
    { git.id "a", git.id "a", "refs/heads/main", "main", "main is at " .. git.id("a"):sub(1, 7) })
  eq(math.type(head.at), "float")
  eq(ok(repo:head()).branch, "main")
  eq(ok(repo:head "refs/heads/main").commit, git.id "a")
  git.push "b"
  eq(ok(now(repo, "head", "main")).commit, git.id "b")
  git.reset "a"
  eq(ok(now(repo, "head", "main")).commit, git.id "a")
end)

both("a branch that is not there is missed, in an empty repository, too", function(git)
  local repo = git.open()
  local err = fails("not_found", repo:head "main")
  eq({ err.op, err.target, err.message, errors.passing(err) }, { "git.head", repo.url, "the repository is empty",
    false })
  eq(ok(repo:tags()), {})
  eq(ok(repo:branches()), {})
  git.push "a"
  has(fails("not_found", now(repo, "head", "mai")).message, "there is no branch mai")
  eq(ok(repo:head "main").commit, git.id "a")
  check.raises("usage: repo:head", repo.head, repo, 5)
end)

both("branches come and go", function(git)
  git.push "a"
  git.push("b", { branch = "feature/x" })
  local repo = git.open()
  eq(ok(repo:branches()), {
    { branch = "feature/x", commit = git.id "b" }, { branch = "main", commit = git.id "a" },
  })
  git.delete_branch "feature/x"
  eq(ok(now(repo, "branches")), { { branch = "main", commit = git.id "a" } })
  fails("not_found", repo:head "feature/x")
end)

both("tags are listed by name with their commits, and move", function(git)
  git.push "a"
  local repo = git.open()
  git.tag("v1.1.0", "a")
  git.tag("v1.0.0", "a")
  local function tags()
    local list = {}
    for i, tag in ipairs(ok(now(repo, "tags"))) do list[i] = tag.name .. " " .. tag.commit end
    return list
  end
  eq(tags(), { "v1.0.0 " .. git.id "a", "v1.1.0 " .. git.id "a" })
  git.push "b"
  git.tag("v1.1.0", "b")
  eq(tags(), { "v1.0.0 " .. git.id "a", "v1.1.0 " .. git.id "b" })
  git.untag "v1.0.0"
  eq(tags(), { "v1.1.0 " .. git.id "b" })
end)

both("most tags gone at once are held back, and counted when they come again", function(git)
  git.push "a"
  for i = 1, 6 do git.tag("v1." .. i, "a") end
  local repo = git.open()
  eq(#ok(repo:tags()), 6)
  for i = 3, 6 do git.untag("v1." .. i) end
  git.push "b"
  eq(#ok(now(repo, "tags")), 6)
  eq(ok(repo:head "main").commit, git.id "b")
  local held = ok(repo:refs()).held
  eq({ held.complaint, held.count, held.names[1] }, { "4 of 6 tags are gone", 4, "refs/tags/v1.3" })
  for i = 3, 6 do git.tag("v1." .. i, "a") end
  eq({ #ok(now(repo, "tags")), ok(repo:refs()).held }, { 6 })
end)

both("what a host remembers of a server is what its first answer is judged by", function(git)
  git.push "a"
  local repo, tags = git.open(), {}
  for i = 1, 6 do tags["v1." .. i] = git.id "a" end
  repo:expect("main", git.id "a", tags, { other = git.id "a" })
  eq(#ok(now(repo, "tags")), 6)
  eq(ok(repo:refs()).held.complaint, "6 of 6 tags are gone")
  repo:expect("main", nil, {})
  eq(#ok(repo:tags()), 6, "what it has heard since counts")
end)

both("a server that is down is a passing error, and what hosts have of it can still be asked", function(git)
  git.push "a"
  git.push "b"
  local repo = git.open()
  eq(ok(repo:compare(git.id "a", git.id "b")).kind, "push")
  git.push "c"
  git.down()
  for _, word in ipairs { "refs", "head", "tags", "branches" } do
    local err = fails("refused", now(repo, word))
    eq(errors.passing(err), true)
  end
  eq(ok(repo:is_ancestor(git.id "a", git.id "b")), true)
  eq(#ok(repo:changes(git.id "a", git.id "b", 10)), 1)
  eq(errors.passing(fails("refused", repo:compare(git.id "a", git.id "c"))), true)
  git.up()
  check.eventually(function() return now(repo, "head") end) -- a real one is left alone for a while
  eq(ok(repo:head()).commit, git.id "c")
end)

both("commits are compared as a branch moves", function(git)
  git.push "a"
  git.push "b"
  git.push("c", { branch = "other" })
  git.reset "a"
  git.push "d"
  local repo, id = git.open(), git.id
  eq(ok(repo:compare(id "a", id "a")), { status = "identical", ahead = 0, behind = 0, kind = "none" })
  eq(ok(repo:compare(id "a", id "c")), { status = "ahead", ahead = 2, behind = 0, kind = "push" })
  eq(ok(repo:compare(id "c", id "a")), { status = "behind", ahead = 0, behind = 2, kind = "reset" })
  eq(ok(repo:compare(id "c", id "d")), { status = "diverged", ahead = 1, behind = 2, kind = "force" })
  eq({ repo:is_ancestor(id "a", id "c"), repo:is_ancestor(id "c", id "a"), repo:is_ancestor(id "a", id "a") },
    { true, false, true })
  eq({ repo:count(id "c"), repo:fetch(id "c") }, { 3, true })
end)

both("a commit that the server does not have is missed; what is no commit is a mistake", function(git)
  git.push "a"
  local repo, nobody = git.open(), ("0123456789"):rep(4)
  for _, call in ipairs {
    { "compare", nobody, git.id "a" }, { "compare", git.id "a", nobody }, { "is_ancestor", nobody, git.id "a" },
    { "count", nobody }, { "fetch", nobody }, { "log", nil, nobody }, { "changes", git.id "a", nobody, 10 },
  } do
    local err = fails("not_found", repo[call[1]](repo, call[2], call[3], call[4]))
    eq(errors.passing(err), false)
  end
  local changes = ok(repo:changes(nobody, git.id "a", 10))
  eq({ changes.status, #changes, changes[1].commit }, { "unknown", 1, git.id "a" })
  for _, call in ipairs {
    { "compare", "main", git.id "a" }, { "changes", git.id "a", "main", 10 }, { "fetch", "main" },
  } do
    check.raises("needs full commit ids", repo[call[1]], repo, call[2], call[3], call[4])
  end
end)

both("changes are the commits between two, newest first, with who, what and where", function(git)
  git.push("a", { paths = { "README" } })
  git.push("b", { by = "bob", message = "feat: more\n\nof it\n", paths = { "api/x", "web/y" } })
  git.push("c", { message = "fix: less" })
  local repo, id = git.open(), git.id
  local changes = ok(repo:changes(id "a", id "c", 10))
  eq({ changes.status, #changes, changes.cut }, { "ahead", 2 })
  local first, second = changes[1], changes[2]
  eq({ first.commit, first.author, first.message, first.parents, first.paths },
    { id "c", "ann", "fix: less", { id "b" }, { "c" } })
  eq({ second.commit, second.author, second.message, second.parents, second.paths },
    { id "b", "bob", "feat: more\n\nof it", { id "a" }, { "api/x", "web/y" } })
  eq({ math.type(first.at), math.abs(first.at - time.now()) < 300 }, { "integer", true })
  local cut = ok(repo:changes(nil, id "c", 1))
  eq({ cut.status, #cut, cut.cut, cut[1].commit }, { "ahead", 1, true, id "c" })
  eq(ok(repo:changes(nil, id "c", 3)).cut, nil)
  eq(ok(repo:changes(nil, id "a", 3))[1].parents, {})
  local back = ok(repo:changes(id "c", id "a", 10))
  eq({ back.status, #back }, { "behind", 0 })
  local none = ok(repo:changes(id "c", id "c", 10))
  eq({ none.status, #none }, { "identical", 0 })
  local log = ok(repo:log(id "a", id "c", 1))
  eq({ #log, log[1].commit, log[1].author, log[1].subject, math.type(log[1].committed_at) },
    { 1, id "c", "ann", "fix: less", "integer" })
end)
