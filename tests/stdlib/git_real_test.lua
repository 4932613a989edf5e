-- References of real repositories over real HTTP, compared with what git itself says.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: access-invisible -- sets clocks and counters behind the words, instead of waiting
local check = require "check"
local command = require "sources.git.command"
local fs = require "fs"
local git = require "sources.git"
local lab = require "lab"
local lab_git = require "lab.git"
local pktline = require "sources.git.pktline"
local proc = require "proc"
local refs = require "sources.git.refs"
local relay = require "fixture.relay"
local sys = require "base.sys"
local task = require "task"
local time = require "time"
local test, eq, ok, fails = check.test, check.eq, check.ok, check.fails

local server = lab.git {}
local private = lab.git { auth = true }

-- A repository object that never answers from memory.
local function fresh(url, fields)
  local opts = { url = url, interval = 0.001 }
  for key, value in pairs(fields or {}) do opts[key] = value end
  return git.repository(opts)
end

-- What `git ls-remote` says, in the shape of a snapshot.
local function ls_remote(url, env)
  local list, last = {}, nil
  for line in (lab_git.git { "ls-remote", "-q", "--", url, env = env } .. "\n"):gmatch "([^\n]+)\n" do
    local oid, name = line:match "^(%x+)\t(.+)$"
    if name:find "%^{}$" then
      list[last].commit, list[last].annotated = oid, true
    elseif name:find "^refs/heads/" or name:find "^refs/tags/" then
      list[name], last = { oid = oid, commit = oid, annotated = false }, name
    end
  end
  return list
end

test("says what git ls-remote says: branches, light and annotated tags, tags of tags", function()
  local origin = server:repo "plain"
  origin:commit { ["a"] = "1" }
  origin:tag "v1.0.0"
  origin:commit { ["a"] = "2" }
  origin:tag("v1.1.0", { message = "notes" })
  origin:commit({ ["b"] = "3" }, { branch = "feature/x" })
  origin:git { "tag", "-a", "-m", "outer", "outer", "v1.1.0" }
  origin:push "refs/tags/outer"
  origin:git { "update-ref", "refs/pull/1/head", "HEAD" }
  origin:push "refs/pull/1/head"
  local repo = fresh(origin.url)
  local snapshot = ok(repo:refs())
  eq(snapshot.refs, ls_remote(origin.url))
  eq({ snapshot.head, snapshot.heads, snapshot.tags, snapshot.format }, { "refs/heads/main", 2, 3, "sha1" })
  local tags = ok(repo:tags())
  eq({ #tags, tags[1].name, tags[1].annotated, tags[2].name, tags[2].annotated, tags[3].annotated },
    { 3, "outer", true, "v1.0.0", false, true })
  eq(tags[1].commit, origin:head "v1.1.0")
  ok(tags[1].oid ~= tags[1].commit)
end)

test("knows what a branch is at, and which branch is the main one", function()
  local origin = server:repo "head"
  local one = origin:commit { ["a"] = "1" }
  local repo = fresh(origin.url)
  local head = ok(repo:head "main")
  eq({ head.commit, head.key, head.ref, head.branch }, { one, one, "refs/heads/main", "main" })
  check.has(head.reason, "main is at " .. one:sub(1, 7))
  eq(ok(repo:head()).commit, one)
  eq(ok(repo:head "refs/heads/main").commit, one)
  fails("not_found", repo:head "mai")
  fails("not_found", repo:head "main2")
  fails("not_found", repo:head "")
  local two = origin:commit { ["a"] = "2" }
  eq(ok(repo:head "main").commit, two)
  origin:reset(one)
  eq(ok(repo:head "main").commit, one, "a reset is a move like any other")
end)

test("a thousand tags, packed, in one request", function()
  local origin = server:repo "many"
  origin:commit { ["a"] = "1" }
  origin:tags(1000, "v0.0.")
  origin:pack()
  local between = relay.open(server.host)
  local repo = fresh(between.url .. "/pub/many.git")
  local snapshot = ok(repo:refs())
  eq(snapshot.tags, 1000)
  eq(snapshot.refs, ls_remote(origin.url))
  eq(#between:drain(), 2)
  ok(repo:refs())
  eq(#between:drain(), 1, "the discovery is remembered")
  between:close()
end)

test("a SHA-256 repository", function()
  local origin = server:repo("sha256", { object_format = "sha256" })
  local one = origin:commit { ["a"] = "1" }
  origin:tag("v1", { message = "x" })
  local snapshot = ok(fresh(origin.url):refs())
  eq(snapshot.format, "sha256")
  eq(#one, 64)
  eq(snapshot.refs, ls_remote(origin.url))
end)

test("an empty repository is empty, and then it is not", function()
  local origin = server:repo "empty"
  local repo = fresh(origin.url)
  eq(ok(repo:refs()).heads, 0)
  eq(ok(repo:refs()).head, "refs/heads/main")
  check.has(fails("not_found", repo:head "main").message, "empty")
  eq(ok(repo:tags()), {})
  local one = origin:commit { ["a"] = "1" }
  eq(ok(repo:head "main").commit, one)
end)

test("a repository that is deleted half-way is missed, and found again", function()
  local origin = server:repo "gone"
  local one = origin:commit { ["a"] = "1" }
  local repo = fresh(origin.url)
  ok(repo:head "main")
  lab.run { "mv", origin.path, origin.path .. ".away" }
  fails("not_found", repo:head "main")
  fails("not_found", repo:tags())
  lab.run { "mv", origin.path .. ".away", origin.path }
  eq(ok(repo:head "main").commit, one)
end)

test("half of the tags gone is not believed at once; a branch that moved is news; all of them back is fine", function()
  local origin = server:repo "shrink"
  origin:commit { ["a"] = "1" }
  for i = 1, 6 do origin:tag("v1." .. i) end
  local repo = fresh(origin.url)
  eq(#ok(repo:tags()), 6)
  origin:delete "refs/tags/v1.6"
  eq(#ok(repo:tags()), 5, "one tag less is news")
  lab.run { "cp", "-a", origin.path, origin.path .. ".kept" }
  for i = 3, 5 do origin:delete("refs/tags/v1." .. i) end
  local moved = origin:commit { ["a"] = "2" }
  eq(#ok(repo:tags()), 5)
  eq(ok(repo:head "main").commit, moved)
  local held = ok(repo:refs()).held
  eq({ held.complaint, held.count, held.names }, { "3 of 5 tags are gone", 3,
    { "refs/tags/v1.3", "refs/tags/v1.4", "refs/tags/v1.5" } })
  eq(held.till, held.since + 600)
  lab.run { "rm", "-r", origin.path }
  lab.run { "mv", origin.path .. ".kept", origin.path }
  eq({ #ok(repo:tags()), ok(repo:refs()).held }, { 5 })
  local kept = ok(repo:head()).commit
  lab_git.git { "init", "-q", "--bare", "-b", "main", origin.path .. ".new" }
  lab.run { "rm", "-r", origin.path }
  lab.run { "mv", origin.path .. ".new", origin.path }
  eq({ ok(repo:head()).commit, ok(repo:head()).branch }, { kept, "main" })
  held = ok(repo:refs()).held
  eq({ held.complaint, held.till }, { "all 6 references are gone" })
end)

-- Who asks how often ----------------------------------------------------------------------------------------

test("one poll per interval, however many ask", function()
  local origin = server:repo "shared"
  origin:commit { ["a"] = "1" }
  local between = relay.open(server.host)
  local url = between.url .. "/pub/shared.git"
  local one = git.repository { url = url, interval = 30 }
  local two = git.repository { url = url .. "/", interval = 30 }
  local function polls()
    local count = 0
    for _, request in ipairs(between.requests) do count = count + (request.method == "POST" and 1 or 0) end
    return count
  end
  local tasks = {}
  for i = 1, 20 do
    tasks[i] = task.spawn(function() return ok((i % 2 == 0 and one or two):head "main").commit end)
  end
  for _, t in ipairs(tasks) do ok(t:join()) end
  for _ = 1, 10 do
    ok(one:head "main")
    ok(two:tags())
  end
  eq({ #between.requests, polls() }, { 2, 1 })
  one:expire()
  ok(two:head "main")
  eq(polls(), 2)
  ok(one:refs { max_age = 0 })
  eq({ #between.requests, polls() }, { 4, 3 })
  between:close()
end)

test("when the one who asks is cancelled, one of those who wait asks instead", function()
  local origin = server:repo "leader"
  local commit = origin:commit { ["a"] = "1" }
  local between = relay.open(server.host)
  between.hook = function(request, forward)
    if #between.requests == 1 then time.sleep(60) end
    return forward(request)
  end
  local repo = fresh(between.url .. "/pub/leader.git")
  local leader = task.spawn(function() return repo:head "main" end)
  check.eventually(function() return #between.requests == 1 end)
  local heads = {}
  local others = {}
  for i = 1, 5 do others[i] = task.spawn(function() heads[i] = ok(repo:head "main").commit end) end
  time.sleep(0.05)
  leader:cancel()
  for _, t in ipairs(others) do t:join(100) end
  eq(heads, { commit, commit, commit, commit, commit })
  between:close()
end)

test("a failure is shared like an answer", function()
  local between = relay.open()
  between.hook = function() return { status = 404, body = "no" } end
  local repo = git.repository { url = between.url .. "/x.git", interval = 30 }
  local tasks = {}
  for i = 1, 5 do tasks[i] = task.spawn(function() fails("not_found", repo:head "main") end) end
  for _, t in ipairs(tasks) do t:join() end
  fails("not_found", repo:head "main")
  eq(#between.requests, 1)
  between:close()
end)

test("a server is never asked for more than eight repositories at once", function()
  local between = relay.open()
  between.hook = function()
    time.sleep(0.03)
    return { status = 404, body = "no" }
  end
  local tasks = {}
  for i = 1, 40 do
    tasks[i] = task.spawn(function() fails("not_found",
      fresh(("%s/r%d.git"):format(between.url, i)):head "main") end)
  end
  for _, t in ipairs(tasks) do t:join() end
  eq(between.most, 8)
  eq(#between.requests, 40)
  between:close()
end)

test("repositories that fail hold back no other one of their server", function()
  for i = 1, 3 do server:repo("poor" .. i):commit { ["a"] = "1" } end
  for i = 1, 6 do server:repo("good" .. i):commit { ["a"] = "1" } end
  local between = relay.open(server.host)
  between.hook = function(request, forward)
    if request.path:find "poor" then return { status = 500, body = "broken" } end
    return forward(request)
  end
  local poor, good = {}, {}
  for i = 1, 3 do poor[i] = fresh(("%s/pub/poor%d.git"):format(between.url, i), { interval = 30 }) end
  for i = 1, 6 do good[i] = fresh(("%s/pub/good%d.git"):format(between.url, i), { interval = 30 }) end
  for _ = 1, 8 do
    for i = 1, 3 do fails("status", poor[i]:refs { max_age = 0 }) end
    for i = 1, 6 do ok(good[i]:refs { max_age = 0 }) end
  end
  local asked = 0
  for _, request in ipairs(between:drain()) do
    if request.path:find "poor" then asked = asked + 1 end
  end
  ok(asked < 24, "they themselves are left alone")
  between:close()
end)

test("a server that is down costs one try per interval and is found again at once", function()
  local away = lab.git {}
  local origin = away:repo "app"
  local commit = origin:commit { ["a"] = "1" }
  local repo = git.repository { url = origin.url, interval = 0.2 }
  ok(repo:head "main")
  away:stop()
  for _ = 1, 8 do
    repo:expire()
    fails("refused", repo:head "main")
  end
  away:start()
  time.sleep(0.25)
  eq(ok(repo:head "main").commit, commit)
end)

-- Credentials -----------------------------------------------------------------------------------------------

test("with a password, without one, with a wrong one", function()
  local origin = private:repo "secret"
  local commit = origin:commit { ["a"] = "1" }
  local url = origin.url
  eq(ok(fresh(url, { username = private.user, password = private.password }):head "main").commit, commit)
  eq(ok(fresh(url:gsub("//", "//" .. private.user .. "@"),
    { password = private.password }):head "main").commit, commit)
  local err = fails("unauthorized", fresh(url):head "main")
  check.has(err.message, "wants a user name and a password")
  err = fails("unauthorized",
    fresh(url, { username = private.user, password = "MOONCANARY-wrong" }):head "main")
  check.has(err.message, "does not accept")
  eq(tostring(err):find("MOONCANARY", 1, true), nil)
  fails("unauthorized", fresh(url, { username = "eve", password = private.password }):head "main")
end)

test("the password is sent with the first request: no round trip for a 401", function()
  local origin = private:repo "direct"
  origin:commit { ["a"] = "1" }
  local between, statuses = relay.open(private.host), {}
  between.hook = function(request, forward)
    local answer = forward(request)
    statuses[#statuses + 1] = answer.status
    return answer
  end
  ok(fresh(between.url .. "/git/direct.git",
    { username = private.user, password = private.password }):head "main")
  eq(statuses, { 200, 200 })
  between:close()
end)

test("wrong credentials are not tried again and again", function()
  local between = relay.open()
  between.hook = function()
    return { status = 401, body = "", headers = { ["WWW-Authenticate"] = 'Basic realm="x"' } }
  end
  local repo = git.repository { url = between.url .. "/x.git", password = "MOONCANARY-wrong", interval = 10 }
  local silence = 0
  for tries = 1, 4 do
    for _ = 1, 10 do
      repo:expire()
      fails("unauthorized", repo:refs())
    end
    eq(#between.requests, tries)
    local longer = repo.source.quiet_until - time.monotonic()
    ok(longer > silence, "each silence is longer than the one before")
    silence = longer
    repo.source.quiet_until = 0 -- it is over
  end
  between.hook = function() return { status = 404, body = "" } end
  repo.source.quiet_until = 0
  fails("not_found", repo:refs { max_age = 0 })
  fails("not_found", repo:refs { max_age = 0 })
  between:close()
end)

-- Other servers ---------------------------------------------------------------------------------------------

test("a server that only knows version 0", function()
  local origin = server:repo "old"
  origin:commit { ["a"] = "1" }
  origin:tag("v1", { message = "x" })
  origin:tag "v2"
  local between = relay.open(server.host)
  between.hook = function(request, forward)
    rawset(request.headers, "git-protocol", nil)
    return forward(request)
  end
  local repo = fresh(between.url .. "/pub/old.git")
  local snapshot = ok(repo:refs())
  eq(snapshot.refs, ls_remote(origin.url))
  eq(snapshot.head, "refs/heads/main")
  ok(repo:refs())
  for _, request in ipairs(between:drain()) do eq(request.method, "GET") end
  local moved = origin:commit { ["a"] = "2" }
  eq(ok(repo:head "main").commit, moved)
  between:close()
end)

test("github.com's shape of the advertisement", function()
  local origin = server:repo "shape"
  local commit = origin:commit { ["a"] = "1" }
  local between = relay.open(server.host)
  between.hook = function(request, forward)
    local answer = forward(request)
    if request.method == "GET" then answer.body = "001e# service=git-upload-pack\n0000" .. answer.body end
    return answer
  end
  eq(ok(fresh(between.url .. "/pub/shape.git"):head "main").commit, commit)
  between:close()
end)

test("a repository that moved is followed on the first request, which then is the address", function()
  local origin = server:repo "moved"
  local commit = origin:commit { ["a"] = "1" }
  local between = relay.open(server.host)
  between.hook = function(request)
    local name = request.path:match "^/renamed(.*)$"
    if name then
      return { status = 301, body = "", headers = {
        Location = between.url .. "/pub/moved.git" .. name .. "?service=git-upload-pack" } }
    end
  end
  local repo = fresh(between.url .. "/renamed")
  eq(ok(repo:head "main").commit, commit)
  between:drain()
  ok(repo:head "main")
  local requests = between:drain()
  eq({ #requests, requests[1].path }, { 1, "/pub/moved.git/git-upload-pack" })
  between:close()
end)

test("credentials stay with the origin that they were given for", function()
  local origin = private:repo "fish"
  origin:commit { ["a"] = "1" }
  local thief = relay.open(private.host)
  local lure = relay.open()
  lure.hook = function(request)
    return { status = 302, body = "",
      headers = { Location = thief.url .. request.path .. "?service=git-upload-pack" } }
  end
  local opts = { username = private.user, password = private.password }
  local err = fails("unauthorized", fresh(lure.url .. "/git/fish.git", opts):head "main")
  check.has(err.message, "a redirect led to another server")
  eq(#thief.requests, 1)
  eq(thief.requests[1].headers.authorization, nil)
  check.has(lure.requests[1].headers.authorization, "Basic ")
  -- Where no password is wanted the redirect works, and the password still stays.
  local fine = fresh(lure.url .. "/pub/fish.git", opts)
  ok(fine:head "main")
  ok(fine:head "main")
  for _, request in ipairs(thief.requests) do eq(request.headers.authorization, nil) end
  lure:close()
  thief:close()
end)

test("redirects that lead nowhere good are errors", function()
  local between = relay.open()
  for _, location in ipairs { "http://127.0.0.1:1/x", "/login?return=x",
    "ftp://x/info/refs?service=git-upload-pack",
    "//", "" } do
    between.hook = function() return { status = 302, body = "", headers = { Location = location } } end
    local value, err = fresh(between.url .. "/x.git"):head "main"
    eq(value, nil)
    ok(err.code)
  end
  between:close()
  between = relay.open()
  between.hook = function(request)
    return { status = 302, body = "", headers = { Location = request.path .. "?service=git-upload-pack" } }
  end
  fails("redirect", fresh(between.url .. "/x.git"):head "main")
  ok(#between.requests <= 5)
  between:close()
end)

test("a redirect of the POST is not followed", function()
  local origin = server:repo "post"
  origin:commit { ["a"] = "1" }
  local thief = relay.open(server.host)
  local between = relay.open(server.host)
  between.hook = function(request)
    if request.method == "POST" then
      return { status = 307, body = "", headers = { Location = thief.url .. request.path } }
    end
  end
  fails("redirect", fresh(between.url .. "/pub/post.git"):head "main")
  eq(#thief.requests, 0)
  between:close()
  thief:close()
end)

-- Lies ------------------------------------------------------------------------------------------------------

local RESULT = "application/x-git-upload-pack-result"

-- A repository whose list of references is what `lie` makes of the real answer.
local function liar(lie)
  local origin = server:repo("liar" .. tostring(math.random(1 << 40)))
  origin:commit { ["a"] = "1" }
  origin:tag("v1", { message = "x" })
  local between = relay.open(server.host)
  between.hook = function(request, forward)
    if request.method == "POST" then return lie(forward(request)) end
  end
  check.defer(function() between:close() end)
  return fresh(between.url .. "/pub/" .. origin.name .. ".git"), between
end

test("answers that are not what they should be", function()
  local answers = {
    { "protocol", { status = 200, body = "", headers = { ["Content-Type"] = RESULT } } },
    { "protocol", { status = 200, body = "<html>hello</html>",
      headers = { ["Content-Type"] = "text/html" } } },
    { "protocol", { status = 200, body = "0000" } },
    { "protocol", { status = 200, body = "\31\139\8", headers = { ["Content-Type"] = RESULT,
      ["Content-Encoding"] = "gzip" } } },
    { "protocol", { status = 200, body = ("z"):rep(100000), headers = { ["Content-Type"] = RESULT } } },
    { "protocol", { status = 200, body = "fff0" .. ("z"):rep(1000),
      headers = { ["Content-Type"] = RESULT } } },
    { "failed", { status = 200, body = "0012ERR too busy\n0000", headers = { ["Content-Type"] = RESULT } } },
    { "status", { status = 500, body = "" } },
    { "denied", { status = 403, body = "" } },
    { "not_found", { status = 404, body = "" } },
    { "redirect", { status = 304, body = "" } },
  }
  for i, case in ipairs(answers) do
    local repo = liar(function() return case[2] end)
    local _, err = fails(case[1], repo:refs()), nil
    eq(err, nil, "answer " .. i)
  end
end)

test("an answer that is cut anywhere is a failure, never a shorter list", function()
  local cut = 0
  local repo = liar(function(answer)
    answer.body = answer.body:sub(1, cut)
    return answer
  end)
  for _, at in ipairs { 0, 1, 4, 5, 60, 100, 150, 200 } do
    cut = at
    fails("protocol", repo:refs())
  end
  cut = -1
  ok(repo:refs())
end)

test("a list without end is left at its limit", function()
  local sent = 0
  local repo = liar(function(answer)
    answer.body = function(write)
      repeat
        local lines = {}
        for i = 1, 2000 do
          sent = sent + 1
          lines[i] = pktline.line(("%s refs/tags/%d\n"):format(("a"):rep(40), sent))
        end
      until not write(table.concat(lines))
    end
    return answer
  end)
  local _, before = sys.memory()
  fails("too_large", repo:refs())
  local _, after = sys.memory()
  ok(after - before < 100 << 20, after - before)
end, 120)

test("a slow answer ends by the timeout", function()
  local repo = liar(function()
    time.sleep(600)
    return { status = 200 }
  end)
  repo.source.endpoint.timeout = 0.3
  task.deadline(25, function() fails("timeout", repo:refs()) end) -- it would have 30 s
end)

test("a server that asks for silence gets it, for all of its repositories", function()
  local between = relay.open()
  between.hook = function()
    return { status = 429, body = "", headers = { ["Retry-After"] = "2" } }
  end
  local err = fails("rate_limited", fresh(between.url .. "/a.git"):refs())
  eq(err.retry_after, 2)
  err = fails("rate_limited", fresh(between.url .. "/b.git"):refs())
  ok(err.retry_after > 1 and err.retry_after < 2.3)
  eq(#between.requests, 1)
  time.sleep(err.retry_after + 0.05)
  between.hook = function()
    return { status = 503, body = "", headers = { ["Retry-After"] = "1" } }
  end
  fails("rate_limited", fresh(between.url .. "/b.git"):refs())
  eq(#between.requests, 2)
  between:close()
end)

test("the same names are well-formed as for git", function()
  local parts = { "a", "Z", "0", "-", "_", ".", "..", "/", "//", "@", "@{", "{", ".lock", "lock", "~", "^",
    ":", "?", "*",
    "[", "]", "\\", " ", "!", "#", "$", "'", "\"", "<", "ü", "\127", "\1" }
  local names = {}
  for i = 1, 250 do
    local words = { i % 3 == 0 and "refs/tags/" or "refs/heads/" }
    for _ = 1, math.random(1, 5) do words[#words + 1] = parts[math.random(#parts)] end
    names[i] = table.concat(words)
  end
  for _, name in ipairs(names) do
    local result = ok(proc.run { "git", "check-ref-format", name })
    eq(refs.valid_name(name), result.ok, ("%q"):format(name))
  end
end)

-- Without HTTP ----------------------------------------------------------------------------------------------

test("file remotes say the same", function()
  local origin = server:repo "local"
  local commit = origin:commit { ["a"] = "1" }
  origin:tag("v1", { message = "x" })
  origin:git { "update-ref", "refs/pull/1/head", "HEAD" }
  origin:push "refs/pull/1/head"
  for _, url in ipairs { origin.path, "file://" .. origin.path } do
    local repo = fresh(url)
    eq(ok(repo:refs()).refs, ls_remote(origin.path))
    eq(ok(repo:head()).commit, commit)
  end
  fails("not_found", fresh(origin.path .. ".nowhere"):refs())
end)

test("any reference may be a symbolic one, over HTTP of both versions and from files", function()
  local origin = server:repo "renamed"
  local commit = origin:commit { ["a"] = "1" }
  origin:tag "v1"
  lab_git.git { "--git-dir", origin.path, "symbolic-ref", "refs/heads/master", "refs/heads/main" }
  lab_git.git { "--git-dir", origin.path, "symbolic-ref", "refs/tags/latest", "refs/tags/v1" }
  lab_git.git { "--git-dir", origin.path, "symbolic-ref", "refs/heads/broken", "refs/heads/nowhere" }
  local between = relay.open(server.host)
  between.hook = function(request, forward)
    rawset(request.headers, "git-protocol", nil)
    return forward(request)
  end
  for _, url in ipairs { origin.url, between.url .. "/pub/renamed.git", origin.path } do
    local repo = fresh(url)
    local snapshot = ok(repo:refs())
    eq({ snapshot.head, snapshot.heads, snapshot.tags }, { "refs/heads/main", 2, 2 }, url)
    eq(ok(repo:head "master").commit, commit)
  end
  between:close()
end)

test("a repository whose own history is cut is read, over HTTP of both versions and from files", function()
  local full = server:repo "full"
  for i = 1, 4 do full:commit { ["a"] = tostring(i) } end
  local cut = server:repo "cut"
  assert(fs.remove(cut.path, { recursive = true }))
  lab_git.git { "clone", "-q", "--bare", "--depth", "2", "file://" .. full.path, cut.path }
  local commit, before = cut:head "main", full:head "main~1"
  local between = relay.open(server.host)
  between.hook = function(request, forward)
    rawset(request.headers, "git-protocol", nil)
    return forward(request)
  end
  for _, url in ipairs { cut.url, between.url .. "/pub/cut.git", cut.path } do
    local repo = fresh(url, { mirrors = lab.dir "mirrors" })
    eq(ok(repo:head "main").commit, commit, url)
    eq(ok(repo:read(commit, "a")), "4", url)
    eq(ok(repo:is_ancestor(before, commit)), true, url)
    eq(ok(repo:count(commit)), 2, url)
  end
  between:close()
  -- A server whose history is whole again is not believed to be cut for ever.
  local repo = fresh(cut.url, { mirrors = lab.dir "mirrors" })
  eq(ok(repo:count(commit)), 2)
  lab_git.git { "--git-dir", cut.path, "fetch", "-q", "--unshallow", "file://" .. full.path, "main" }
  local newest = full:commit { ["a"] = "5" }
  lab_git.git { "--git-dir", cut.path, "fetch", "-q", "file://" .. full.path, "+main:main" }
  eq(ok(repo:count(newest)), 5)
end)

test("ssh remotes work through whatever speaks for the far side", function()
  local origin = server:repo "far"
  local one = origin:commit { ["a"] = "1" }
  origin:tag("v1", { message = "x" })
  local dir = lab.dir "ssh"
  -- Stands for ssh and the far shell in one: notes how it was called, then does what the far side would.
  local fake = lab.write(dir .. "/ssh", ([[#!/bin/sh
printf '%%s\n' "$@" --- >>%s/calls
for last; do :; done
eval "exec $last"
]]):format(dir), 493)
  local ssh = command.ssh
  check.defer(function() command.ssh = ssh end)
  command.ssh = fake
  lab.run { "mv", origin.path, dir .. "/it's $(touch canary).git" }
  lab.run { "ln", "-s", dir .. "/it's $(touch canary).git", dir .. "/it's$(touch${IFS}canary).git" }
  local repo = fresh("ssh://git@far.example.com:2222" .. dir .. "/it's$(touch${IFS}canary).git",
    { mirrors = dir .. "/m" })
  eq(ok(repo:head "main").commit, one)
  eq(ok(repo:read(one, "a")), "1")
  eq(#ok(repo:tags()), 1)
  fails("not_found", repo:fetch(("3"):rep(40)))
  local calls = ok(fs.read(dir .. "/calls"))
  check.has(calls, "-p\n2222\ngit@far.example.com\ngit-upload-pack '" .. dir)
  eq(fs.exists(dir .. "/canary"), false)
  lab.write(fake, "#!/bin/sh\necho 'git@far.example.com: Permission denied (publickey).' >&2\nexit 255\n",
    493)
  fails("unauthorized", repo:refs())
end)

test("ssh remotes go through ssh, and a closed port is refused", function()
  if not lab.exists "ssh" then check.skip "ssh is not installed" end
  local port = lab.port()
  local err = fails("refused", fresh(("ssh://git@127.0.0.1:%d/app.git"):format(port)):refs())
  eq(err.op, "git.ls_remote")
end)
