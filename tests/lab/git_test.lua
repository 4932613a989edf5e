-- The lab's git server: history that tests can shape, over HTTP as real hosts serve it.
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local lab = require "lab"
local git = require("lab.git").git
local fs, http = require "fs", require "http"
local test, eq, ok, raises = check.test, check.eq, check.ok, check.raises

test("commits and tags are served, branches go back", function()
  local server = lab.git {}
  local repo = server:repo("app")
  local one = repo:commit({ ["f"] = "1\n", ["dir/run"] = { text = "#!\n", mode = 493 } }, { message = "one" })
  repo:tag("v1.0.0")
  repo:tag("v1.0.1", { message = "annotated" })
  local two = repo:commit { ["f"] = "2\n", ["dir/run"] = false }
  ok(one ~= two)
  local refs = git { "ls-remote", repo.url }
  check.has(refs, two .. "\trefs/heads/main")
  check.has(refs, one .. "\trefs/tags/v1.0.0")
  check.has(refs, one .. "\trefs/tags/v1.0.1^{}")

  repo:reset(one)
  eq(repo:head("main"), one)
  repo:delete("refs/tags/v1.0.0")
  refs = git { "ls-remote", repo.url }
  check.has(refs, one .. "\trefs/heads/main")
  eq(refs:find("v1.0.0\n", 1, true), nil)

  local clone = lab.dir() .. "/clone"
  git { "clone", "-q", repo.url, clone }
  eq(fs.read(clone .. "/f"), "1\n")
  eq(assert(fs.stat(clone .. "/dir/run")).mode & 73, 73) -- executable for all
end)

test("protocol v2 answers, and polls can be counted", function()
  local server = lab.git {}
  local repo = server:repo("app")
  local commit = repo:commit { f = "1" }
  eq(#server:requests("git-upload-pack"), 0)
  local body = "0014command=ls-refs\n0017object-format=sha1\n00010009peel\n001bref-prefix refs/heads/\n0000"
  local answer = ok(http.post(repo.url .. "/git-upload-pack", body, {
    headers = { ["Git-Protocol"] = "version=2", ["Content-Type"] = "application/x-git-upload-pack-request" },
  }))
  eq(answer.status, 200)
  check.has(answer.body, commit .. " refs/heads/main")
  eq(server:requests("git-upload-pack"), { "POST /pub/app.git/git-upload-pack 200" })
end)

test("a password opens /git, nothing opens pushes to /pub", function()
  local server = lab.git { auth = true }
  local repo = server:repo("app")
  repo:commit { f = "1" }
  eq(ok(http.get(repo.url .. "/info/refs?service=git-upload-pack")).status, 401)
  eq(ok(http.get(repo.url .. "/info/refs?service=git-upload-pack", {
    auth = { user = server.user, password = server.password },
  })).status, 200)
  raises("Authentication failed", git, { "ls-remote", (repo.url:gsub("//", "//dev:bad@")) })
  raises("403", git, { "push", "http://" .. server.host .. "/pub/app.git", "HEAD:refs/heads/x", cwd = repo.work })
  repo:git { "push", "-q", repo.push_url, "HEAD:refs/heads/x" }
  eq(repo:head("x"), repo:head("main"))
end)

test("a thousand tags, packed, half of them annotated", function()
  local server = lab.git {}
  local repo = server:repo("app")
  local commit = repo:commit { f = "1" }
  repo:tags(1000, "v0.0.")
  repo:pack()
  local refs = git { "ls-remote", "--tags", repo.url }
  local _, all = (refs .. "\n"):gsub("refs/tags/v0%.0%.%d+\n", "")
  local _, peeled = refs:gsub(commit .. "\trefs/tags/v0%.0%.%d+%^{}", "")
  eq(all, 1000)
  eq(peeled, 500)
end)

test("SHA-256 repositories are served too", function()
  local repo = lab.git({}):repo("app", { object_format = "sha256" })
  local commit = repo:commit { f = "1" }
  eq(#commit, 64)
  check.has(git { "ls-remote", repo.url }, commit .. "\trefs/heads/main")
end)

test("a stopped server comes back on its port with its history", function()
  local server = lab.git {}
  local repo = server:repo("app")
  local commit = repo:commit { f = "1" }
  server:stop()
  check.fails("refused", http.get(repo.url, { timeout = 2 }))
  server:start()
  check.has(git { "ls-remote", repo.url }, commit)
end)
