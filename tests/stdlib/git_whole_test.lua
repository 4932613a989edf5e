-- Submodules and Git LFS: real repositories, files that the real git-lfs client put there, and servers that lie.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs = require "fs"
local git = require "sources.git"
local lab = require "lab"
local lab_git = require "lab.git"
local fixture = require "fixture.lfs"
local lfs = require "sources.git.lfs"
local url = require "sources.git.url"
local whole = require "sources.git.whole"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local server = lab.git {}
local private = lab.git { auth = true }

local function fresh(address, fields)
  local opts = { url = address, interval = 0.001, mirrors = lab.dir "mirrors" }
  for key, value in pairs(fields or {}) do opts[key] = value end
  return git.repository(opts)
end

local function files(repo, commit, path)
  local dir = lab.dir "files"
  lab.run { "tar", "-xf", ok(repo:archive(commit, { to = dir .. "/x.tar", path = path })).path, "-C", dir }
  fs.remove(dir .. "/x.tar")
  local found = {}
  for name, kind in fs.walk(dir) do
    if kind == "file" then found[name] = ok(fs.read(dir .. "/" .. name)) end
  end
  return found
end

-- Adds a submodule to a repository; `address` as it stands in .gitmodules.
local function add(origin, path, address, commit)
  local name = origin.work .. "/.gitmodules"
  lab.write(name, (fs.read(name) or "") .. ('[submodule "%s"]\n\tpath = %s\n\turl = %s\n'):format(path, path, address))
  origin:git { "add", ".gitmodules" }
  origin:git { "update-index", "--add", "--cacheinfo", "160000," .. commit .. "," .. path }
  origin:git { "commit", "-q", "-m", "a submodule" }
  origin:push "HEAD:refs/heads/main"
  return origin:head()
end

test("submodules, and submodules in them, are in their places; without being asked for they are named", function()
  local inner = server:repo "inner"
  local deep = inner:commit { ["deep.txt"] = "deep\n" }
  local outer = server:repo "outer"
  outer:commit { ["lib.txt"] = "lib\n" }
  local lib = add(outer, "in/side", "../inner.git", deep)
  local origin = server:repo "super"
  origin:commit { ["a"] = "1", ["vendor/own"] = "own\n" }
  local commit = add(origin, "vendor/lib", "../outer.git", lib)
  local want = { ["a"] = "1", ["vendor/own"] = "own\n", ["vendor/lib/lib.txt"] = "lib\n",
    ["vendor/lib/in/side/deep.txt"] = "deep\n" }
  for _, address in ipairs { origin.url, origin.path } do
    local repo = fresh(address, { submodules = true })
    local found = files(repo, commit)
    found[".gitmodules"], found["vendor/lib/.gitmodules"] = nil, nil
    eq(found, want)
    eq(files(repo, commit, "vendor/lib/in"), { ["side/deep.txt"] = "deep\n" })
    eq(ok(repo:read(commit, "vendor/lib/lib.txt")), "lib\n")
    eq(ok(repo:left_out(commit)), {})
    eq(ok(fresh(address, { submodules = true }):whole(commit)), ok(repo:whole(commit)), "the same, whoever makes it")
  end
  local plain = fresh(origin.url)
  eq(ok(plain:whole(commit)), commit)
  eq(files(plain, commit)["vendor/lib/lib.txt"], nil)
  has(ok(plain:left_out(commit))[1], "1 submodules are left empty (vendor/lib)")
end)

test("a submodule's address is judged by its parent's", function()
  local function resolved(parent, address)
    local at, own = whole.resolve(ok(url.parse(parent)), address)
    return at and at.text, own
  end
  for _, case in ipairs {
    { "https://a.example/x/web.git", "../lib.git", "https://a.example/x/lib.git", true },
    { "https://a.example/x/web.git", "../../y/lib", "https://a.example/y/lib", true },
    { "https://a.example/x/web.git", "./sub.git", "https://a.example/x/web.git/sub.git", true },
    { "https://a.example/x/web.git", "https://b.example/lib.git", "https://b.example/lib.git", false },
    { "https://a.example/x/web.git", "http://a.example/lib.git", "http://a.example/lib.git", false },
    { "https://a.example/x/web.git", "https://a.example:8443/lib", "https://a.example:8443/lib", false },
    { "git@a.example:x/web.git", "../lib.git", "git@a.example:x/lib.git", true },
    { "git@a.example:x/web.git", "https://b.example/l", "https://b.example/l", false },
    { "/srv/git/web.git", "../lib.git", "file:///srv/git/lib.git", true },
    { "/srv/git/web.git", "/srv/git/lib.git", "file:///srv/git/lib.git", true },
  } do
    local at, own = resolved(case[1], case[2])
    eq({ at, own }, { case[3], case[4] }, case[1] .. " " .. case[2])
  end
  for _, case in ipairs {
    { "https://a.example/x/web.git", "/etc/secret.git" }, { "https://a.example/x/web.git", "file:///srv/git/other" },
    { "https://a.example/x/web.git", "git@b.example:x" }, { "git@a.example:x/web.git", "git@b.example:y" },
    { "https://a.example/x/web.git", "ext::sh -c id" }, { "https://a.example/x/web.git", "-x" },
    { "/srv/git/web.git", "/home/other/private.git" }, { "/srv/git/web.git", "../../../home/x.git" },
    { "/srv/git/web.git", "/srv/git/../private.git" }, { "https://a.example/x/web.git", "https://b.example/a/../b" },
    { "https://a.example/x/web.git", "https://u:p@b.example/a" },
  } do
    local at, err = whole.resolve(ok(url.parse(case[1])), case[2])
    eq(at, nil, case[2])
    ok(err.code == "denied" or err.code == "invalid" or err.code == "unsupported", tostring(err))
  end
end)

test("the parent's credentials go to its own origin only, and a submodule that cannot come is an error", function()
  local lib = private:repo "lib"
  local at = lib:commit { ["lib.txt"] = "lib\n" }
  local origin = private:repo "web"
  origin:commit { ["a"] = "1" }
  local commit = add(origin, "lib", "../lib.git", at)
  local fields = { submodules = true, username = private.user, password = private.password }
  eq(files(fresh(origin.url, fields), commit)["lib/lib.txt"], "lib\n")
  local other = lab.git { auth = true }
  local foreign = other:repo "foreign"
  local there = foreign:commit { ["f"] = "1" }
  commit = add(origin, "foreign", foreign.url, there)
  local err = fails("unauthorized", fresh(origin.url, fields):archive(commit, { to = lab.dir "x" .. "/x.tar" }))
  has(tostring(err), "the submodule foreign")
  eq(#other:requests " 200", 0)
  commit = add(origin, "gone", "../gone.git", at)
  fails("unauthorized", fresh(origin.url, fields):whole(commit)) -- still the foreign one
end)

-- ---- Git LFS ----

-- A repository whose files the real client made and pushed to a folder.
local function with_lfs(name, content)
  local origin = server:repo(name)
  local home = lab.dir "home"
  local function client(argv)
    argv.env = { HOME = home, GIT_CONFIG_GLOBAL = home .. "/gitconfig" }
    return origin:git(argv)
  end
  client { "lfs", "install", "--skip-repo" }
  client { "lfs", "install", "--local" }
  client { "lfs", "track", "*.bin" }
  for path, text in pairs(content) do lab.write(origin.work .. "/" .. path, text) end
  lab.write(origin.work .. "/plain.txt", "plain\n")
  client { "add", "-A" }
  client { "commit", "-q", "-m", "with LFS" }
  client { "push", "-q", "origin", "HEAD:refs/heads/main" }
  return origin, origin:head()
end

local BIG <const> = ("\0\1\2binary"):rep(50000)

test("files of Git LFS are in the place of their pointers; without being asked for they are named", function()
  if not lab.exists "git-lfs" then check.skip "git-lfs is not installed" end
  local origin, commit = with_lfs("media",
    { ["a.bin"] = BIG, ["sub/b.bin"] = BIG, ["c.bin"] = "small", ["d.bin"] = "" })
  local api = fixture.open(origin.path)
  local pointers = files(fresh(origin.path), commit)
  ok(lfs.parse(pointers["a.bin"]))
  has(ok(fresh(origin.path):left_out(commit))[1], "3 files of Git LFS are only pointers")
  for _, repo in ipairs {
    fresh(origin.path, { lfs = true }), fresh(origin.url, { lfs = true, lfs_url = api.url }),
  } do
    local found = files(repo, commit)
    eq({ found["a.bin"] == BIG, found["sub/b.bin"] == BIG, found["c.bin"], found["d.bin"], found["plain.txt"] },
      { true, true, "small", "", "plain\n" })
    eq(ok(repo:left_out(commit)), {})
  end
  eq(#api.requests, 3, "one batch, and each file once")
  -- The next commit's files that were here before are not transferred again.
  local repo = fresh(origin.url, { lfs = true, lfs_url = api.url })
  ok(repo:whole(commit))
  local before = #api.requests
  local next_commit = origin:commit { ["plain.txt"] = "other\n" }
  eq(files(repo, next_commit)["a.bin"], BIG)
  eq(#api.requests, before)
end)

test("the real client takes what the fixture gives", function()
  if not lab.exists "git-lfs" then check.skip "git-lfs is not installed" end
  local origin = with_lfs("contract", { ["a.bin"] = BIG })
  local api = fixture.open(origin.path)
  local dir, home = lab.dir "clone", lab.dir "home"
  lab_git.git { "-c", "lfs.url=" .. api.url, "-c", "filter.lfs.process=git-lfs filter-process",
    "-c", "filter.lfs.required=true", "-c", "filter.lfs.smudge=git-lfs smudge -- %f", "clone", "-q", origin.url,
    dir .. "/x", env = { HOME = home } }
  eq(ok(fs.read(dir .. "/x/a.bin")), BIG)
end)

test("an LFS server that lies, refuses or lacks a file is an error, and nothing is built of it", function()
  if not lab.exists "git-lfs" then check.skip "git-lfs is not installed" end
  local origin, commit = with_lfs("lies", { ["a.bin"] = BIG })
  local api = fixture.open(origin.path)
  local function try(code)
    return fails(code, fresh(origin.url, { lfs = true, lfs_url = api.url }):whole(commit))
  end
  api.body = BIG:sub(1, -2) .. "x"
  has(tostring(try "mismatch"), "another content")
  api.body = BIG:sub(1, -2)
  try "mismatch"
  api.body = BIG .. "x"
  try "too_large"
  api.body = nil
  api.lie = function(answer) answer.objects = {} end
  try "protocol"
  api.lie = function(answer)
    answer.objects[1] = { oid = answer.objects[1].oid, error = { code = 410, message = "gone" } }
  end
  has(tostring(try "not_found"), "gone")
  api.lie = function(answer) answer.objects[1].actions.download.href = "file:///etc/passwd" end
  ok(not fresh(origin.url, { lfs = true, lfs_url = api.url }):whole(commit))
  api.lie = nil
  fails("not_found", fresh(origin.url, { lfs = true }):whole(commit)) -- git-http-backend has no LFS
  local locked = fixture.open(origin.path, "secret-of-lfs")
  fails("unauthorized", fresh(origin.url, { lfs = true, lfs_url = locked.url }):whole(commit))
  fails("unauthorized", fresh(origin.url, { lfs = true, lfs_url = locked.url, username = "dev",
    password = "secret-of-lfs" }):whole(commit)) -- another origin than the repository's
  for _, request in ipairs(locked.requests) do eq(request.headers.authorization, nil) end
  local ssh = fresh("ssh://git@127.0.0.1:1/x.git", { lfs = true })
  eq(ssh.url, "ssh://git@127.0.0.1:1/x.git")
end)

test("only what is a pointer is taken for one", function()
  eq(lfs.parse "", nil)
  eq(lfs.parse(lfs.VERSION .. "\n"), nil)
  eq(lfs.parse(lfs.VERSION .. "\noid sha256:" .. ("a"):rep(63) .. "\nsize 1\n"), nil)
  eq(lfs.parse("x" .. lfs.VERSION .. "\noid sha256:" .. ("a"):rep(64) .. "\nsize 1\n"), nil)
  eq(lfs.parse(lfs.VERSION .. "\noid sha256:" .. ("a"):rep(64) .. "\nsize 12\n"), { oid = ("a"):rep(64), size = 12 })
  local origin = server:repo "talk"
  local commit = origin:commit { ["notes.md"] = "They begin with " .. lfs.VERSION .. "\n" }
  eq(ok(fresh(origin.url):left_out(commit)), {})
end)
