-- Mirrors of real repositories: exactly the commit that was asked for, from servers that help and servers that lie.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: access-invisible -- sets clocks and counters behind the words, instead of waiting
local check = require "check"
local fs = require "fs"
local git = require "sources.git"
local hash = require "hash"
local lab = require "lab"
local lab_git = require "lab.git"
local proc = require "proc"
local relay = require "fixture.relay"
local task = require "task"
local time = require "time"
local test, eq, ok, fails, raises = check.test, check.eq, check.ok, check.fails, check.raises

local server = lab.git {}
local private = lab.git { auth = true }

local function fresh(url, fields)
  local opts = { url = url, interval = 0.001, mirrors = lab.dir "mirrors" }
  for key, value in pairs(fields or {}) do opts[key] = value end
  return git.repository(opts)
end

local function unpack_tar(path)
  local dir = lab.dir "unpacked"
  lab.run { "tar", "-xf", path, "-C", dir }
  return dir
end

local function sha_of(path) return ok(hash.sha256_file(path)) end

-- Contents --------------------------------------------------------------------------------------------------

-- A commit with everything in it that could change its way to the disk.
local function tricky(origin)
  local commit = origin:commit {
    [".gitattributes"] = "svc/hidden export-ignore\nsubst.txt export-subst\nident.txt ident\n*.crlf text eol=crlf\n"
      .. "utf16.txt working-tree-encoding=UTF-16\nfiltered.txt filter=evil\nhidden.d export-ignore\n",
    ["subst.txt"] = "$Format:%H$\n", ["ident.txt"] = "$Id$\n", ["a.crlf"] = "one\ntwo\n",
    ["filtered.txt"] = "plain\n",
    ["svc/hidden"] = "here\n", ["svc/app.sh"] = { text = "#!/bin/true\n", mode = 493 },
    ["hidden.d/x"] = "x\n",
    ["svc/deep/er/file"] = "deep\n", ["sp ace and ü"] = "odd\n", [":(top)magic"] = "magic\n",
    ["-dash"] = "dash\n",
  }
  return commit
end

local WANT = {
  [".gitattributes"] = true, ["subst.txt"] = "$Format:%H$\n", ["ident.txt"] = "$Id$\n",
  ["a.crlf"] = "one\ntwo\n",
  ["filtered.txt"] = "plain\n", ["svc/hidden"] = "here\n", ["svc/app.sh"] = "#!/bin/true\n",
  ["hidden.d/x"] = "x\n",
  ["svc/deep/er/file"] = "deep\n", ["sp ace and ü"] = "odd\n", [":(top)magic"] = "magic\n",
  ["-dash"] = "dash\n",
}

local function check_tree(dir)
  local seen = 0
  for path, kind in fs.walk(dir) do
    if kind == "file" then
      seen = seen + 1
      ok(WANT[path], "unexpected " .. path)
      if WANT[path] ~= true then eq(ok(fs.read(dir .. "/" .. path)), WANT[path], path) end
    end
  end
  local want = 0
  for _ in pairs(WANT) do want = want + 1 end
  eq(seen, want)
  eq(ok(fs.stat(dir .. "/svc/app.sh")).mode & 73, 73) -- 0111
end

test("an archive holds every byte of the commit and nothing else, whatever its attributes say", function()
  local origin = server:repo "tricky"
  local commit = tricky(origin)
  local repo = fresh(origin.url)
  local to = lab.dir "tar" .. "/a.tar"
  local info = ok(repo:archive(commit, { to = to }))
  eq({ info.path, info.files, info.size }, { to, 12, ok(fs.stat(to)).size })
  eq(fs.exists(to .. ".part"), false)
  check_tree(unpack_tar(to))
end)

test("the same commit gives the same bytes: another mirror, another day, another server", function()
  local origin = server:repo "stable"
  local commit = tricky(origin)
  local sums = {}
  for i, url in ipairs { origin.url, origin.path } do
    local repo, dir = fresh(url), lab.dir "tar"
    ok(repo:archive(commit, { to = dir .. "/all.tar" }))
    ok(repo:archive(commit, { to = dir .. "/svc.tar", path = "./svc/" }))
    sums[i] = { sha_of(dir .. "/all.tar"), sha_of(dir .. "/svc.tar") }
    if i == 1 then time.sleep(1.1) end
  end
  eq(sums[1], sums[2])
end)

test("an archive of a folder has that folder as its root", function()
  local origin = server:repo "folder"
  local commit = tricky(origin)
  local repo, to = fresh(origin.url), lab.dir "tar" .. "/svc.tar"
  eq(ok(repo:archive(commit, { to = to, path = "svc" })).files, 3)
  local dir = unpack_tar(to)
  eq(ok(fs.read(dir .. "/hidden")), "here\n")
  eq(ok(fs.read(dir .. "/deep/er/file")), "deep\n")
  ok(repo:archive(commit, { to = to, path = "svc/deep" }))
  eq(ok(fs.read(unpack_tar(to) .. "/er/file")), "deep\n")
  fails("not_found", repo:archive(commit, { to = to, path = "nowhere" }))
  fails("invalid", repo:archive(commit, { to = to, path = "svc/app.sh" }))
  for _, path in ipairs { "../x", "/etc", "svc/../svc", "svc//deep", "a\nb", "svc/./deep" } do
    fails("invalid", repo:archive(commit, { to = to, path = path }))
  end
end)

test("a checkout holds the same; links are as committed, or files on request", function()
  local origin = server:repo "checkout"
  tricky(origin)
  lab.run { "ln", "-s", "/etc/passwd", origin.work .. "/svc/link" }
  local commit = origin:commit {}
  local repo = fresh(origin.url)
  local dir = lab.dir "co" .. "/new/folder"
  eq(ok(repo:checkout(commit, dir)).files, 13)
  check_tree(dir)
  eq(ok(fs.stat(dir .. "/svc/link", { follow = false })).type, "link")
  eq(fs.exists(dir .. "/.git"), false)
  fails("exists", repo:checkout(commit, dir))
  local plain = lab.dir "co"
  ok(repo:checkout(commit, plain, { path = "svc", symlinks = false }))
  eq(ok(fs.read(plain .. "/link")), "/etc/passwd")
  eq(ok(fs.stat(plain .. "/link", { follow = false })).type, "file")
end)

test("a submodule is an empty folder: nothing of it is fetched or run", function()
  local origin = server:repo "super"
  origin:commit { ["a"] = "1" }
  origin:commit { [".gitmodules"] = '[submodule "sub"]\n\tpath = sub\n\turl = https://127.0.0.1:1/x\n' }
  origin:git { "update-index", "--add", "--cacheinfo", "160000," .. ("5"):rep(40) .. ",sub" }
  origin:git { "commit", "-q", "-m", "with a submodule" }
  origin:push "HEAD:refs/heads/main"
  local commit = origin:head()
  local repo, dir = fresh(origin.url), lab.dir "co"
  ok(repo:checkout(commit, dir))
  eq(ok(fs.list(dir .. "/sub")), {})
end)

test("reads one small file; links, folders and large ones are refused", function()
  local origin = server:repo "read"
  lab.run { "ln", "-s", "big", origin.work .. "/link" }
  local commit = origin:commit { ["svc/x"] = "hello\0world\n", ["big"] = ("b"):rep(5000), ["empty"] = "" }
  local repo = fresh(origin.url)
  eq(ok(repo:read(commit, "svc/x")), "hello\0world\n")
  eq(ok(repo:read(commit, "./svc/x")), "hello\0world\n")
  eq(ok(repo:read(commit, "empty")), "")
  eq(#ok(repo:read(commit, "big", { max = 5000 })), 5000)
  fails("too_large", repo:read(commit, "big", { max = 4999 }))
  fails("invalid", repo:read(commit, "link"))
  fails("invalid", repo:read(commit, "svc"))
  fails("not_found", repo:read(commit, "nowhere"))
  fails("not_found", repo:read(commit, "-x"))
  fails("not_found", repo:read(commit, ":(glob)**"))
  fails("invalid", repo:read(commit, "svc/../svc/x"))
end)

-- History ---------------------------------------------------------------------------------------------------

test("ancestry, comparison and log across a push, a reset and a forced push", function()
  local origin = server:repo "history"
  local one = origin:commit({ ["a"] = "1" }, { message = "first" })
  local two = origin:commit({ ["a"] = "2" }, { message = "second" })
  local three = origin:commit({ ["a"] = "3" }, { message = "third" })
  origin:reset(one)
  local other = origin:commit({ ["b"] = "1" }, { message = "other way\n\nwith a body" })
  local repo = fresh(origin.url)
  eq({ ok(repo:is_ancestor(one, other)) }, { true })
  eq(repo:is_ancestor(other, one), false)
  eq(repo:is_ancestor(one, one), true)
  -- Commits that the reset threw away are still given by their id.
  eq(repo:is_ancestor(two, three), true)
  eq(ok(repo:compare(one, three)), { status = "ahead", kind = "push", ahead = 2, behind = 0 })
  eq(ok(repo:compare(three, one)), { status = "behind", kind = "reset", ahead = 0, behind = 2 })
  eq(ok(repo:compare(three, other)), { status = "diverged", kind = "force", ahead = 1, behind = 2 })
  eq(ok(repo:compare(one, one)), { status = "identical", kind = "none", ahead = 0, behind = 0 })
  local log = ok(repo:log(one, three))
  eq({ #log, log[1].subject, log[2].subject, log[1].commit, log[1].author, log[1].email },
    { 2, "third", "second", three, "Ada", "ada@example.com" })
  eq(#ok(repo:log(nil, three, 2)), 2)
  eq(ok(repo:log(one, one)), {})
  ok(math.abs(log[1].committed_at - time.now()) < 3600)
end)

test("changes between two commits come with messages and paths, and say how the branch moved", function()
  local origin = server:repo "changes"
  local one = origin:commit({ ["a"] = "1", ["gone"] = "x" }, { message = "first" })
  local two = origin:commit({ ["d/x y"] = "2", ["new\nline\xff"] = "3", ["gone"] = false },
    { message = "second\n\na body\n:100644 x" })
  origin:git { "checkout", "-q", "-b", "side", one }
  origin:commit({ ["s"] = "1" }, { branch = "side", message = "side" })
  origin:git { "checkout", "-q", "main" }
  origin:git { "merge", "-q", "--no-ff", "side", "-m", "merged" }
  origin:push "HEAD:refs/heads/main"
  local merged = origin:head()
  local three = origin:commit({}, { message = "[skip ci] nothing" })
  for _, url in ipairs { origin.url, origin.path } do
    local repo = fresh(url)
    local found = ok(repo:changes(one, three, 100))
    local told = {}
    for i, c in ipairs(found) do told[i] = { c.message, c.paths } end
    eq({ found.status, found.cut, found[1].commit, found[2].commit, #found[2].parents, found[4].author },
      { "ahead", nil, three, merged, 2, "Ada" }, url)
    table.sort(told, function(x, y) return x[1] < y[1] end)
    eq(told, {
      { "[skip ci] nothing", {} }, { "merged", { "s" } },
      { "second\n\na body\n:100644 x", { "d/x y", "gone", "new\nline\xff" } }, { "side", { "s" } },
    }, url)
    found = ok(repo:changes(nil, two, 1))
    eq({ #found, found.cut, found.status, found[1].commit }, { 1, true, "ahead", two })
    eq({ #ok(repo:changes(three, one, 9)), repo:changes(three, one, 9).status }, { 0, "behind" })
    eq({ #ok(repo:changes(one, one, 9)), repo:changes(one, one, 9).status }, { 0, "identical" })
    ok(math.abs(found[1].at - time.now()) < 3600)
    eq(repo:changes(nil, two, 1), found, "kept")
  end
end)

test("changes since a commit that was forced away are the branch's own, and say so", function()
  local origin = server:repo "forced"
  local one = origin:commit({ ["a"] = "1" }, { message = "first" })
  local two = origin:commit({ ["a"] = "2" }, { message = "second" })
  origin:reset(one)
  local other = origin:commit({ ["b"] = "1" }, { message = "other way" })
  local repo = fresh(origin.url)
  local found = ok(repo:changes(two, other, 9))
  eq({ found.status, #found, found[1].message }, { "diverged", 1, "other way" })
  -- One that nobody ever had: as after the server forgot it.
  for _ = 1, 2 do
    found = ok(repo:changes(("0123"):rep(10), other, 9))
    eq({ found.status, #found, found[2].message }, { "unknown", 2, "first" })
  end
  fails("not_found", repo:changes(one, ("4567"):rep(10), 9))
  server:stop()
  fails("refused", fresh(origin.url):changes(one, other, 9)) -- an outage is no answer
  server:start()
end)

test("changes of a hostile or a very large commit stay within their bounds", function()
  local origin = server:repo "large"
  local files = {}
  for i = 1, 1200 do files[("d/%04d"):format(i)] = "x" end
  origin:commit(files, { message = "many" })
  local tree = origin:git { "rev-parse", "HEAD^{tree}" }
  local raw = ("tree %s\nparent %s\nauthor E\27[31mv\u{202e}e <e@x> 1700000000 +0000\n"):format(tree, origin:head())
    .. "committer C <c@x> 1700000001 +0000\n\nred \27]0;t\7 line\n\n" .. ("x"):rep(100000) .. "\n"
  local foul = origin:git { "hash-object", "-t", "commit", "-w", "--stdin", stdin = raw }
  origin:push(foul .. ":refs/heads/foul")
  local found = ok(fresh(origin.url):changes(nil, foul, 9))
  eq({ #found, found[1].author, #found[1].message, found[1].at }, { 2, "E [31mv e", 8192, 1700000001 })
  eq(found[1].message:sub(1, 17), "red  ]0;t  line\n\n")
  eq({ #found[2].paths, found[2].more_paths, found[2].paths[1] }, { 1000, 200, "d/0001" })
end)

test("authors and subjects are cleaned of everything that is not text", function()
  local origin = server:repo "foul"
  origin:commit { ["a"] = "1" }
  local tree = origin:git { "rev-parse", "HEAD^{tree}" }
  local raw = ("tree %s\nauthor E\27[31mv\u{202e}e\31x <e@x\1.y> 1700000000 +0000\n"):format(tree)
    .. "committer C <c@x> 1700000001 +0000\n\nred \27]0;t\7\xff line\n\nbody\n"
  local commit = origin:git { "hash-object", "-t", "commit", "-w", "--stdin", stdin = raw }
  origin:push(commit .. ":refs/heads/foul")
  local entry = ok(fresh(origin.url):log(nil, commit))[1]
  eq({ entry.author, entry.email, entry.subject, entry.authored_at },
    { "E [31mv e x", "e@x .y", "red ]0;t line", 1700000000 })
end)

-- Fetching --------------------------------------------------------------------------------------------------

test("a commit is fetched once, with one request, and only what is missing", function()
  local origin = server:repo "once"
  local blob = {}
  for i = 1, 4000 do blob[i] = hash.hex(hash.random(16)) end
  local one = origin:commit { ["big"] = table.concat(blob) }
  local two = origin:commit { ["small"] = "2" }
  local between = relay.open(server.host)
  local sizes = {}
  between.hook = function(request, forward)
    local answer = forward(request)
    if request.method == "POST" then sizes[#sizes + 1] = #answer.body end
    return answer
  end
  local repo = fresh(between.url .. "/pub/once.git")
  local tasks = {}
  for i = 1, 5 do tasks[i] = task.spawn(function() ok(repo:fetch(one)) end) end
  for _, t in ipairs(tasks) do t:join() end
  ok(repo:fetch(one))
  eq(#sizes, 1)
  ok(sizes[1] > 60000)
  ok(repo:fetch(two))
  eq(#sizes, 2)
  ok(sizes[2] < 2000, "the second pack holds the difference only: " .. sizes[2])
  -- Another object for the same mirror finds everything there, and an ancestor needs no request.
  ok(git.repository { url = between.url .. "/pub/once.git",
    mirrors = repo:objects().dir:match "^(.*)/" }:fetch(two))
  eq(#sizes, 2)
  between:close()
end)

test("a commit that nobody has is not found, and the mirror stays as it was", function()
  local origin = server:repo "unknown"
  local commit = origin:commit { ["a"] = "1" }
  for _, url in ipairs { origin.url, origin.path } do
    local repo = fresh(url)
    ok(repo:fetch(commit))
    local inode = ok(fs.stat(repo:objects():path "sha1")).inode
    fails("not_found", repo:fetch(("1"):rep(40)))
    eq(ok(fs.stat(repo:objects():path "sha1")).inode, inode)
    ok(repo:read(commit, "a"))
    raises("full commit ids", repo.fetch, repo, commit:sub(1, 12))
    raises("full commit ids", repo.fetch, repo, "main")
    raises("full commit ids", repo.fetch, repo, "--upload-pack=touch")
  end
  raises("no `mirrors` folder", git.repository { url = origin.url }.fetch,
    git.repository { url = origin.url }, commit)
end)

test("a tag object is not a commit", function()
  local origin = server:repo "tagobject"
  origin:commit { ["a"] = "1" }
  origin:tag("v1", { message = "x" })
  local repo = fresh(origin.url)
  local tag = ok(repo:tags())[1]
  ok(repo:fetch(tag.commit))
  local inode = ok(fs.stat(repo:objects():path "sha1")).inode
  check.has(fails("invalid", repo:fetch(tag.oid)).message, "a tag, not a commit")
  eq(ok(fs.stat(repo:objects():path "sha1")).inode, inode)
end)

test("a SHA-256 repository", function()
  local origin = server:repo("sha256m", { object_format = "sha256" })
  local one = origin:commit { ["a"] = "1" }
  local two = origin:commit { ["a"] = "2" }
  for _, url in ipairs { origin.url, origin.path } do
    local repo = fresh(url)
    eq(ok(repo:is_ancestor(one, two)), true)
    eq(ok(repo:read(two, "a")), "2")
  end
end)

test("servers of version 0: tips by their id, everything else by fetching all that has a name", function()
  local origin = server:repo "oldfetch"
  local one = origin:commit { ["a"] = "1" }
  local two = origin:commit { ["a"] = "2" }
  origin:tag "v1"
  local three = origin:commit { ["a"] = "3" }
  origin:reset(two)
  local between = relay.open(server.host)
  between.hook = function(request, forward)
    rawset(request.headers, "git-protocol", nil)
    return forward(request)
  end
  local repo = fresh(between.url .. "/pub/oldfetch.git")
  ok(repo:fetch(two))
  ok(repo:fetch(one))
  local again = fresh(between.url .. "/pub/oldfetch.git")
  ok(again:fetch(one))
  eq(ok(again:read(two, "a")), "2")
  fails("not_found", again:fetch(three))
  between:close()
end)

test("a mirror begins with what another folder's has, and leaves that as it is", function()
  local origin = server:repo "lent"
  local one = origin:commit { a = "one\n" }
  local folder = lab.dir "mirrors"
  ok(fresh(origin.url, { mirrors = folder }):fetch(one))
  local two = origin:commit { a = "two\n" }
  local function picture() return lab.run { "find", folder, "-type", "f", "-printf", "%p %s %T@\n" } end
  local before, asked = picture(), #server:requests "lent.git/git-upload-pack"
  local repo = fresh(origin.url, { borrows = folder })
  eq(ok(repo:read(one, "a")), "one\n")
  eq(#server:requests "lent.git/git-upload-pack", asked) -- it was here
  eq(ok(repo:read(two, "a")), "two\n")
  eq(ok(repo:compare(one, two)).status, "ahead")
  eq(picture(), before)
  -- One that is broken is not needed.
  lab.run { "rm", "-r", (lab.run { "find", folder, "-name", "objects" }:gsub("\n$", "")) }
  eq(ok(fresh(origin.url, { borrows = folder }):read(two, "a")), "two\n")
end)

test("a mirror that was damaged is built anew", function()
  local origin = server:repo "damaged"
  local one = origin:commit { ["a"] = "1" }
  local dir = lab.dir "mirrors"
  ok(fresh(origin.url, { mirrors = dir }):fetch(one))
  local two = origin:commit { ["a"] = "2" }
  local repo = fresh(origin.url .. "/", { mirrors = dir })
  local path = repo:objects():path "sha1"
  for _, name in ipairs(ok(fs.list(path .. "/objects/pack"))) do
    if name:find "%.pack$" then
      lab.run { "chmod", "600", path .. "/objects/pack/" .. name }
      ok(fs.write(path .. "/objects/pack/" .. name, "PACK rubbish"))
    end
  end
  repo:objects().known, repo:objects().swept = {}, {}
  ok(repo:fetch(two))
  eq(ok(repo:read(two, "a")), "2")
  eq(ok(repo:is_ancestor(one, two)), true)
end)

test("another host on this machine is waited for", function()
  local origin = server:repo "locked"
  local one = origin:commit { ["a"] = "1" }
  local repo = fresh(origin.url)
  local other = ok(fs.lock(repo:objects().dir .. ".lock"))
  local done = false
  local fetching = task.spawn(function()
    ok(repo:fetch(one))
    done = true
  end)
  time.sleep(0.3)
  eq(done, false)
  other:close()
  fetching:join(100)
  ok(done)
end)

test("tidying up keeps everything that was fetched", function()
  local origin = server:repo "tidy"
  local repo = fresh(origin.url)
  local commits = {}
  for i = 1, 4 do
    commits[i] = origin:commit { ["a"] = tostring(i) }
    repo:objects().fetches = 31
    ok(repo:fetch(commits[i]))
    origin:reset(commits[1])
  end
  ok(repo:objects():git("test", commits[1], { "-c", "gc.pruneExpire=now", "gc", "--quiet", "--prune=now" }))
  for i = 1, 4 do eq(ok(repo:read(commits[i], "a")), tostring(i)) end
end)

test("a mirror that somebody deleted is made again", function()
  local origin = server:repo "deleted"
  local one = origin:commit { ["a"] = "1" }
  local repo = fresh(origin.url)
  ok(repo:fetch(one))
  ok(fs.remove(repo:objects():path "sha1", { recursive = true }))
  eq(ok(repo:read(one, "a")), "1")
end)

test("a commit that must not come in does not cost the mirror", function()
  local origin = server:repo "poison"
  local one = origin:commit { ["a"] = "1" }
  local repo = fresh(origin.url)
  ok(repo:fetch(one))
  local inode = ok(fs.stat(repo:objects():path "sha1")).inode
  local bad = origin:git { "hash-object", "-t", "commit", "-w", "--literally", "--stdin",
    stdin = "tree " .. ("4b825dc642cb6eb9a060e54bf8d69288fbee4904") .. "\nauthor nobody\ncommitter nobody\n\nx\n" }
  origin:push(bad .. ":refs/heads/bad")
  fails("exit", repo:fetch(bad))
  eq(ok(fs.stat(repo:objects():path "sha1")).inode, inode)
  eq(ok(repo:read(one, "a")), "1")
end)

test("what a killed git leaves behind does not block the next one", function()
  local origin = server:repo "killed"
  local one = origin:commit { ["a"] = "1" }
  local repo = fresh(origin.url)
  ok(repo:fetch(one))
  local two = origin:commit { ["a"] = "2" }
  local path = repo:objects():path "sha1"
  lab.write(path .. "/refs/moontide/" .. two .. ".lock", "")
  lab.write(path .. "/packed-refs.lock", "")
  lab.write(path .. ".new/HEAD", "half")
  lab.write(path .. "/objects/pack/tmp_pack_XXXX", "half")
  repo:objects().swept = {}
  ok(repo:fetch(two))
end)

test("cancelling a fetch ends its child and frees the mirror", function()
  local origin = server:repo "cancel"
  local commit = origin:commit { ["a"] = "1" }
  local between = relay.open(server.host)
  local stuck = true
  between.hook = function(request, forward)
    local answer = forward(request)
    if request.method == "POST" and stuck then
      local body = answer.body
      answer.body = function(write)
        write(body:sub(1, 40))
        time.sleep(60)
      end
    end
    return answer
  end
  local repo = fresh(between.url .. "/pub/cancel.git")
  local children = task.count()
  local fetching = task.spawn(function() return repo:fetch(commit) end)
  check.eventually(function() return #between.requests == 2 end)
  time.sleep(0.1)
  fetching:cancel()
  stuck = false
  ok(task.deadline(50, function() return repo:fetch(commit) end))
  check.eventually(function() return task.count() <= children + 1 end)
  between:close()
end)

-- Liars -----------------------------------------------------------------------------------------------------

test("packs that are cut, garbled, refused or someone else's never become a commit", function()
  local origin = server:repo "packliar"
  local commit = origin:commit { ["a"] = "1" }
  local other = server:repo "packother"
  other:commit { ["z"] = "9" }
  local between = relay.open(server.host)
  local lie
  between.hook = function(request, forward)
    if request.method == "GET" then return forward(request) end
    return lie(request, forward)
  end
  local RESULT = "application/x-git-upload-pack-result"
  local function answer(body) return { status = 200, body = body,
    headers = { ["Content-Type"] = RESULT } } end
  local lies = {
    function(request, forward)
      local real = forward(request)
      real.body = real.body:sub(1, -30)
      return real
    end,
    function(request, forward)
      local real = forward(request)
      real.body = real.body:sub(1, 60) .. string.char(real.body:byte(61) ~ 255) .. real.body:sub(62)
      return real
    end,
    function() return answer "" end,
    function() return answer "0000" end,
    function() return answer "000dpackfile\n0000" end,
    function() return answer "000dpackfile\n0005\1" end,
    function() return answer "000dpackfile\n0009\3oops0000" end,
    function() return answer "000dpackfile\n0009\7oops0000" end,
    function() return answer "0010ERR go away\n" end,
    function() return answer "000cshallow-info\n0000" end,
    function() return answer("000dpackfile\n" .. ("0008\1xyz"):rep(1000) .. "0000") end,
    function() return answer("000dpackfile\n0011\1PACK\0\0\0\2\255\255\255\2550000") end,
    function() return { status = 200, body = "<html>", headers = { ["Content-Type"] = "text/html" } } end,
    function() return { status = 403, body = "" } end,
    function(request, forward) -- the pack of another repository
      local theirs = other:head "main"
      request.body = request.body:gsub(commit, theirs)
      request.path = request.path:gsub("packliar", "packother")
      return forward(request)
    end,
  }
  for i, one in ipairs(lies) do
    lie = one
    local repo = fresh(between.url .. "/pub/packliar.git")
    local value, err = repo:fetch(commit)
    eq(value, nil, "lie " .. i)
    ok(err.code ~= "internal", "lie " .. i .. ": " .. tostring(err))
    -- The truth works in the same mirror afterwards.
    lie = function(request, forward) return forward(request) end
    ok(repo:fetch(commit), "after lie " .. i)
    eq(ok(repo:read(commit, "a")), "1")
  end
  between:close()
end, 180)

test("a pack that never ends is left at its limit", function()
  local origin = server:repo "endless"
  local commit = origin:commit { ["a"] = "1" }
  local between = relay.open(server.host)
  between.hook = function(request, forward)
    if request.method == "GET" then return forward(request) end
    return { status = 200, headers = { ["Content-Type"] = "application/x-git-upload-pack-result" },
      body = function(write)
        write "000dpackfile\n0011\1PACK\0\0\0\2\0\1\0\0"
        -- One blob that claims to be large, stored without compression.
        write(("0009\1%s"):format "\176\128\128\64")
        repeat until not write(("fff0\1" .. ("\0"):rep(65515)):rep(8))
      end }
  end
  local repo = fresh(between.url .. "/pub/endless.git")
  repo:objects().max_pack = 4 << 20
  local value, err = repo:fetch(commit)
  eq(value, nil)
  ok(err.code == "too_large" or err.code == "exit", tostring(err))
  between:close()
end)

test("a tree that would leave its folder is refused on the way in", function()
  local origin = server:repo "evil"
  origin:commit { ["a"] = "1" }
  local blob = origin:git { "hash-object", "-w", "--stdin", stdin = "evil\n" }
  local binary = blob:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end)
  for i, name in ipairs { "..", ".", ".git", ".GIT", ".git\u{200c}", "git~1", "a/b", "" } do
    local path = lab.dir "raw" .. "/tree"
    ok(fs.write(path, "100644 " .. name .. "\0" .. binary))
    local tree = origin:git { "hash-object", "-t", "tree", "-w", "--literally", path }
    local commit = origin:git { "commit-tree", "-m", "x", tree }
    -- Past every check of the server: as files, not as a push.
    lab.run { "cp", "-r", origin.work .. "/.git/objects/.", origin.path .. "/objects/" }
    lab_git.git { "--git-dir", origin.path, "update-ref", "refs/heads/evil" .. i, commit }
    for _, url in ipairs { origin.url, origin.path } do
      local value, err = fresh(url):fetch(commit)
      eq(value, nil, ("%q from %s"):format(name, url))
      -- "failed": git on the server already chokes on it.
      ok(err.code == "exit" or err.code == "failed" or err.code == "mismatch", tostring(err))
    end
  end
end, 180)

test("old warts that harm nobody are let in", function()
  local origin = server:repo "warts"
  origin:commit { ["a"] = "1" }
  local blob = origin:git { "hash-object", "-w", "--stdin", stdin = "fine\n" }
  local path = lab.dir "raw" .. "/tree"
  ok(fs.write(path, "0100644 padded\0" .. ok(hash.unhex(blob))))
  local tree = origin:git { "hash-object", "-t", "tree", "-w", "--literally", path }
  local commit = origin:git { "commit-tree", "-m", "x", tree }
  origin:push(commit .. ":refs/heads/warts")
  for _, url in ipairs { origin.url, origin.path } do
    eq(ok(fresh(url):read(commit, "padded")), "fine\n")
  end
end)

test("a small pack that unfolds to billions of files is found before anything is written", function()
  local origin = server:repo "bomb"
  origin:commit { ["a"] = "1" }
  local entry = "100644 blob " .. origin:git { "hash-object", "-w", "--stdin", stdin = "boom\n" }
  for _ = 1, 10 do
    local lines = {}
    for i = 1, 20 do lines[i] = entry .. "\tf" .. i .. "\n" end
    entry = "040000 tree " .. origin:git { "mktree", stdin = table.concat(lines) }
  end
  local commit = origin:git { "commit-tree", "-m", "bomb", entry:match "%x+$" }
  origin:push(commit .. ":refs/heads/bomb")
  local repo, dir = fresh(origin.url), lab.dir "bomb"
  local used = time.cpu()
  fails("too_large", repo:archive(commit, { to = dir .. "/x.tar" }))
  fails("too_large", repo:checkout(commit, dir .. "/co"))
  ok(time.cpu() - used < 20)
  eq(ok(fs.list(dir)), {})
end)

test("one large file a thousand times is as large as it is", function()
  local origin = server:repo "blobbomb"
  local big = lab.dir "big" .. "/zeros"
  lab.run { "truncate", "-s", "64M", big }
  local blob = origin:git { "hash-object", "-w", big }
  local lines = {}
  for i = 1, 1000 do lines[i] = ("100644 blob %s\tf%d\n"):format(blob, i) end
  local commit = origin:git { "commit-tree", "-m", "x",
    (origin:git { "mktree", stdin = table.concat(lines) }) }
  origin:push(commit .. ":refs/heads/blob")
  local repo, dir = fresh(origin.url), lab.dir "blob"
  fails("too_large", repo:archive(commit, { to = dir .. "/x.tar" }))
  eq(ok(fs.list(dir)), {})
end)

-- Names and secrets -----------------------------------------------------------------------------------------

-- Every child that runs during fn: its arguments and environment.
local function children_of(fn)
  local run, spawn, seen = proc.run, proc.spawn, {}
  local function note(spec)
    local copy = {}
    for _, word in ipairs(spec) do copy[#copy + 1] = word end
    for name, value in pairs(spec.env or {}) do copy[#copy + 1] = name .. "=" .. tostring(value) end
    seen[#seen + 1] = copy
  end
  proc.run = function(spec) note(spec) return run(spec) end
  proc.spawn = function(spec) note(spec) return spawn(spec) end
  check.defer(function() proc.run, proc.spawn = run, spawn end)
  fn()
  proc.run, proc.spawn = run, spawn
  return seen
end

local HOSTILE = {
  "-x", "--upload-pack=touch", "--output=/tmp/canary", "-oProxyCommand=touch", "a;id", "`id`", "$(id)",
  "${IFS}", "a|b",
  "a&b", "a&&id", "a>b", "a<b", "x'--", "x\"--", "'", "\"", "<svg/onload=alert(1)>",
  "\"><script>a()</script>", "%00",
  "%s%n", "%0a", "a%20b", "#", "a#b", "!", "!!", "a!b", "@", "a@b", "=", "a=b", "(a)", "{a}", "a{b,c}", "]",
  ",", "+x",
  "-", "--", "---", "HEAD", "FETCH_HEAD", "main;", "$HOME", "$0", "a$b", "rm_-rf", "\u{65e5}\u{672c}",
  "\u{1f4a5}", "e\u{301}", "a'b\"c", "refs/heads/main", "heads/main", "tags/v1",
  "0", ("0"):rep(40), ("a"):rep(200), "v1.0.0;touch_x", "v1.0.0$(touch_x)", "a-", "_", "a,b", "file.x", "C",
  "con", "nul.txt", "$(touch${IFS}canary)",
}

test("sixty hostile names of branches and tags are names and nothing more", function()
  local origin = server:repo "names"
  local commit = origin:commit { ["a"] = "1" }
  ok(#HOSTILE >= 60, #HOSTILE)
  local packed = {}
  for _, name in ipairs(HOSTILE) do
    packed[#packed + 1] = ("%s refs/heads/h/%s"):format(commit, name)
    packed[#packed + 1] = ("%s refs/tags/%s"):format(commit, name)
  end
  table.sort(packed, function(a, b) return a:sub(42) < b:sub(42) end)
  lab.write(origin.path .. "/packed-refs", "# pack-refs with: peeled fully-peeled sorted \n"
    .. table.concat(packed, "\n")
    .. "\n")
  for _, url in ipairs { origin.url, origin.path } do
    local repo = fresh(url)
    local cwd = lab.dir "cwd"
    local seen = children_of(function()
      local snapshot = ok(repo:refs())
      for _, name in ipairs(HOSTILE) do
        ok(snapshot.refs["refs/tags/" .. name], "refused: " .. name)
        eq(ok(repo:head("h/" .. name)).commit, commit, name)
      end
      for _, tag in ipairs(ok(repo:tags())) do ok(repo:fetch(tag.commit)) end
      ok(repo:archive(commit, { to = cwd .. "/x.tar" }))
      ok(repo:log(nil, commit))
    end)
    ok(#seen > 0)
    for _, words in ipairs(seen) do
      for _, word in ipairs(words) do
        for _, name in ipairs(HOSTILE) do
          if #name > 6 and name ~= ("0"):rep(40) then
            eq(word:find(name, 1, true), nil, "a name reached a child: " .. word)
          end
        end
      end
    end
    eq(ok(fs.list(cwd)), { "x.tar" })
    for _, path in ipairs { "/tmp/canary", "canary", "touch_x", origin.path
      .. "/canary" } do eq(fs.exists(path), false) end
  end
end)

test("a password is in no argument, no environment and no file", function()
  local origin = private:repo "canary"
  local one = origin:commit { ["a"] = "1" }
  local repo = fresh(origin.url, { username = private.user, password = private.password })
  local secrets = { private.password, hash.base64(private.user .. ":" .. private.password) }
  local seen = children_of(function()
    ok(repo:head "main")
    ok(repo:archive(one, { to = lab.dir "tar" .. "/x.tar" }))
    fails("not_found", repo:fetch(("2"):rep(40)))
    ok(repo:log(nil, one))
  end)
  ok(#seen >= 5)
  for _, words in ipairs(seen) do
    for _, word in ipairs(words) do
      for _, secret in ipairs(secrets) do eq(word:find(secret, 1, true), nil, word) end
    end
  end
  local dir = repo:objects().dir:match "^(.*)/"
  for path, kind in fs.walk(dir) do
    if kind == "file" then
      local text = ok(fs.read(dir .. "/" .. path, { max = 64 << 20 }))
      for _, secret in ipairs(secrets) do eq(text:find(secret, 1, true), nil, path) end
    end
  end
end)

test("no configuration, hook, helper or attribute from outside is read", function()
  local origin = server:repo "walls"
  local commit = origin:commit { ["a"] = "1" }
  local seen = children_of(function() ok(fresh(origin.path):read(commit, "a")) end)
  for _, words in ipairs(seen) do
    local all = table.concat(words, "\n")
    for _, wall in ipairs { "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
      "core.hooksPath=/dev/null", "credential.helper=", "protocol.allow=never", "HOME=/nonexistent",
      "transfer.fsckObjects=true", "submodule.recurse=false" } do
      check.has(all, wall)
    end
  end
end)
