-- Addresses, names, advertisements and lists of references: what honest servers say and what liars try.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local pktline = require "sources.git.pktline"
local refs = require "sources.git.refs"
local url = require "sources.git.url"
local test, eq, ok, fails = check.test, check.eq, check.ok, check.fails
local line, FLUSH = pktline.line, pktline.FLUSH

local A, B, C = ("a"):rep(40), ("b"):rep(40), ("c"):rep(40)
local A256, B256 = ("a"):rep(64), ("b"):rep(64)

-- Addresses -------------------------------------------------------------------------------------------------

test("reads the addresses that people write", function()
  local function show(text)
    local u, err = url.parse(text)
    return u and { u.scheme, u.user or "-", u.host or "-", u.port or 0, u.path, u.text } or err
  end
  eq(show "https://git.example.com/team/web.git",
    { "https", "-", "git.example.com", 0, "/team/web.git", "https://git.example.com/team/web.git" })
  eq(show "HTTPS://Git.Example.com:443/web/", { "https", "-", "git.example.com", 443, "/web",
    "https://git.example.com/web" })
  eq(show "http://dev@127.0.0.1:8419/git/app.git",
    { "http", "dev", "127.0.0.1", 8419, "/git/app.git", "http://127.0.0.1:8419/git/app.git" })
  eq(show "https://a%40b.c@host/x", { "https", "a@b.c", "host", 0, "/x", "https://host/x" })
  eq(show "ssh://git@host:2222/srv/app",
    { "ssh", "git", "host", 2222, "/srv/app", "ssh://git@host:2222/srv/app" })
  eq(show "git@github.com:team/web.git", { "ssh", "git", "github.com", 0, "team/web.git",
    "git@github.com:team/web.git" })
  eq(show "file:///srv/git/app.git", { "file", "-", "-", 0, "/srv/git/app.git", "file:///srv/git/app.git" })
  eq(show "/srv/git/app.git", { "file", "-", "-", 0, "/srv/git/app.git", "file:///srv/git/app.git" })
  eq(show "http://[::1]:80/x", { "http", "-", "[::1]", 80, "/x", "http://[::1]/x" })
end)

test("tells who answers", function()
  eq(url.parse("https://A.b/c").origin, "https://a.b:443")
  eq(url.parse("http://a.b:81/c").origin, "http://a.b:81")
  eq(url.parse("git@A.b:c").origin, "ssh://a.b:22")
end)

test("refuses addresses that could become something else", function()
  for _, text in ipairs {
    "", "x", "-x", "--upload-pack=touch", "https://", "https:///path", "https://host", "https://host/",
    "https://-host/x",
    "https://ho st/x", "https://host/x\n", "https://host\n.evil/x", "https://host/a\0b",
    "https://host/x?service=y",
    "https://host/x#y", "https://host:0/x", "https://host:99999/x", "https://host:12ab/x", "https://@host/x",
    "https://-u@host/x", "https://u$(id)@host/x", "ssh://-oProxyCommand=touch/x", "ssh://host",
    "-oX@host:path",
    "host:-path", "host:", ":path", "file://relative", "file://host/x", "https://h\xc3\xb6st/x",
    "https://host/\27[31m",
    "https://[::1/x", "https://[g]/x", "https://a@b@c:d/x", "https://a%0ab@host/x", "https://a%3ab@host/x",
    ("https://host/" .. ("x"):rep(3000)),
  } do
    fails("invalid", url.parse(text))
  end
  for _, text in ipairs { "ext::sh -c touch% /tmp/x", "git://host/x", "ftp://host/x", "fd::17",
    "foo::https://host/x" } do
    local got, err = url.parse(text)
    eq(got, nil)
    ok(err.code == "unsupported" or err.code == "invalid", text)
  end
end)

test("a password in an address is refused and not repeated", function()
  local err = fails("invalid", url.parse "https://dev:MOONCANARY@host/x.git")
  eq(tostring(err):find "MOONCANARY", nil)
  eq(err.target, nil)
end)

-- Names -----------------------------------------------------------------------------------------------------

test("knows well-formed reference names", function()
  for _, name in ipairs { "refs/heads/main", "refs/tags/v1.0.0", "refs/heads/feature/x", "refs/heads/-x",
    "refs/heads/a;id", "refs/heads/$(id)", "refs/heads/`id`", "refs/heads/${IFS}", "refs/heads/@",
    "refs/heads/ü",
    "refs/tags/<svg/onload=alert(1)>", "refs/heads/a.lock.b", "refs/heads/x'--" } do
    ok(refs.valid_name(name), name)
  end
  for _, name in ipairs { "", "main", "refs/", "heads/main", "refs/heads/", "refs/heads/.x",
    "refs/heads/x..y",
    "refs/heads/x.lock", "refs/heads/x.lock/y", "refs/heads/x.", "refs/heads/x/", "refs/heads//x",
    "refs/heads/a b",
    "refs/heads/a~1", "refs/heads/a^", "refs/heads/a:b", "refs/heads/a?", "refs/heads/a*", "refs/heads/a[",
    "refs/heads/a\\b", "refs/heads/@{u}", "refs/heads/a\1b", "refs/heads/a\127", "refs/heads/a\27[31m",
    "refs/heads/a\xff", "refs/heads/a\u{202e}b", "refs/heads/a\u{9b}31m", "refs/heads/"
      .. ("x"):rep(2000) } do
    eq(refs.valid_name(name), false, ("%q"):format(name))
  end
end)

test("knows full object ids", function()
  eq(refs.id_format(A), "sha1")
  eq(refs.id_format(A256), "sha256")
  for _, id in ipairs { "", "abc", ("A"):rep(40), ("a"):rep(39), ("a"):rep(41), ("g"):rep(40), A .. "\n", "-"
    .. A:sub(2),
    7, false } do
    eq(refs.id_format(id), nil)
  end
end)

-- Advertisements --------------------------------------------------------------------------------------------

local V2 = line "version 2\n" .. line "agent=git/2.39.5\n" .. line "ls-refs=unborn\n"
  .. line "fetch=shallow\n"
  .. line "server-option\n" .. line "object-format=sha1\n" .. line "object-info\n" .. FLUSH

test("reads both shapes of a version 2 advertisement", function()
  for _, body in ipairs { V2, line "# service=git-upload-pack\n" .. FLUSH .. V2 } do
    local caps = ok(refs.parse_advertisement(body))
    eq({ caps.version, caps.format, caps.agent, caps.unborn }, { 2, "sha1", true, true })
  end
end)

test("asks only for what a server offers", function()
  local caps = ok(refs.parse_advertisement(line "version 2" .. line "ls-refs" .. line "fetch"
    .. line "object-format=sha256" .. FLUSH))
  eq({ caps.agent, caps.unborn, caps.format }, { false, false, "sha256" })
  local body = refs.ls_refs_request(caps, "moontide/1")
  eq(body:find("agent", 1, true), nil)
  eq(body:find("unborn", 1, true), nil)
  check.has(body, line "object-format=sha256\n")
end)

test("the request is the one that the protocol describes", function()
  local caps = ok(refs.parse_advertisement(V2))
  eq(refs.ls_refs_request(caps, "moontide/0.1"), "0014command=ls-refs\n0017agent=moontide/0.1\n"
    .. "0017object-format=sha1\n00010009peel\n000csymrefs\n000bunborn\n0014ref-prefix HEAD\n"
    .. "001bref-prefix refs/heads/\n001aref-prefix refs/tags/\n0000")
end)

test("reads a version 0 advertisement as the list that it is", function()
  local body = line "# service=git-upload-pack\n" .. FLUSH
    .. line(A .. " HEAD\0side-band-64k symref=HEAD:refs/heads/main object-format=sha1 agent=git/2\n")
    .. line(A .. " refs/heads/main\n") .. line(C .. " refs/pull/1/head\n") .. line(B .. " refs/tags/v1\n")
    .. line(A .. " refs/tags/v1^{}\n") .. FLUSH
  for _, with in ipairs { body, body:gsub("^.-0000", "", 1),
    (body:gsub("0000", "0000000eversion 1\n", 1)) } do
    local caps = ok(refs.parse_advertisement(with))
    eq(caps.version, 0)
    ok(caps.words["side-band-64k"])
    local s = caps.snapshot
    eq(s.refs, { ["refs/heads/main"] = { oid = A, commit = A, annotated = false },
      ["refs/tags/v1"] = { oid = B, commit = A, annotated = true } })
    eq({ s.head, s.head_commit, s.heads, s.tags }, { "refs/heads/main", A, 1, 1 })
  end
end)

test("reads the version 0 advertisement of an empty repository", function()
  local zero = ("0"):rep(40)
  for _, rest in ipairs { line(zero .. " capabilities^{}\0agent=git/2\n") .. FLUSH, FLUSH } do
    local caps = ok(refs.parse_advertisement(line "# service=git-upload-pack\n" .. FLUSH .. rest))
    eq({ caps.snapshot.heads, caps.snapshot.tags }, { 0, 0 })
  end
end)

test("an advertisement that ends early, lies or never ends is a failure", function()
  for cut = 0, #V2 - 1 do fails("protocol", refs.parse_advertisement(V2:sub(1, cut))) end
  fails("protocol", refs.parse_advertisement(line "version 2" .. FLUSH))
  fails("protocol", refs.parse_advertisement(line "version 2" .. line "ls-refs" .. FLUSH))
  fails("protocol", refs.parse_advertisement(line "version 2" .. line("x=y"):rep(300) .. FLUSH))
  fails("protocol", refs.parse_advertisement(line "version 2" .. pktline.DELIM))
  fails("protocol", refs.parse_advertisement "<html>sign in</html>")
  fails("protocol", refs.parse_advertisement(line "# service=git-upload-pack\n" .. line "version 2"))
  fails("unsupported", refs.parse_advertisement(line "version 2" .. line "object-format=sha3" .. FLUSH))
  fails("protocol", refs.parse_advertisement(line(A .. " refs/heads/main\n") .. FLUSH))
  local err = fails("failed", refs.parse_advertisement(line "ERR go \27[31maway\n" .. FLUSH))
  check.has(err.message, "go [31maway")
end)

-- Lists -----------------------------------------------------------------------------------------------------

test("reads a list with a symbolic head, peeled tags and foreign kinds", function()
  local s = ok(refs.parse_ls_refs(line(A .. " HEAD symref-target:refs/heads/main\n")
    .. line(A .. " refs/heads/main\n") .. line(B .. " refs/tags/v1 peeled:" .. A .. "\n")
    .. line(C .. " refs/tags/v2\n")
    .. line(C .. " refs/notes/commits\n") .. FLUSH, "sha1"))
  eq(s.refs, {
    ["refs/heads/main"] = { oid = A, commit = A, annotated = false },
    ["refs/tags/v1"] = { oid = B, commit = A, annotated = true },
    ["refs/tags/v2"] = { oid = C, commit = C, annotated = false },
  })
  eq({ s.head, s.head_commit, s.heads, s.tags, s.refused }, { "refs/heads/main", A, 1, 2, 0 })
end)

test("reads an unborn and a detached head, and nothing at all", function()
  local s = ok(refs.parse_ls_refs(line "unborn HEAD symref-target:refs/heads/main\n" .. FLUSH, "sha1"))
  eq({ s.head, s.head_commit, s.heads }, { "refs/heads/main", nil, 0 })
  s = ok(refs.parse_ls_refs(line(A .. " HEAD\n") .. FLUSH, "sha1"))
  eq({ s.head or "-", s.head_commit }, { "-", A })
  s = ok(refs.parse_ls_refs(FLUSH, "sha1"))
  eq(s.heads + s.tags, 0)
end)

test("a list without its end is a failure wherever it is cut", function()
  local body = line(A .. " HEAD symref-target:refs/heads/main\n") .. line(A .. " refs/heads/main\n") .. FLUSH
  for cut = 0, #body - 1 do fails("protocol", refs.parse_ls_refs(body:sub(1, cut), "sha1")) end
  fails("protocol", refs.parse_ls_refs(body .. "x", "sha1"))
  fails("protocol", refs.parse_ls_refs(body .. body, "sha1"))
end)

test("lies in a list are failures", function()
  for _, bad in ipairs {
    line(A256 .. " refs/heads/main\n"), line(A:sub(2) .. " refs/heads/main\n"),
    line(A:upper() .. " refs/heads/main\n"),
    line " refs/heads/main\n", line "\n", line "", line(A .. "\n"), line(A .. " \n"),
    line(A .. "\trefs/heads/main\n"),
    line(A .. " refs/heads/main\n"):rep(2), line(A .. " HEAD\n"):rep(2),
    line(A .. " refs/tags/v peeled:" .. B256),
    line(A .. " refs/tags/v peeled:zzz"), "0002", "0001", "0003", "fff1", "zzzz",
  } do
    fails("protocol", refs.parse_ls_refs(bad .. FLUSH, "sha1"))
  end
  fails("failed", refs.parse_ls_refs(line "ERR access denied or repository not exported: /x\n", "sha1"))
  fails("failed", refs.parse_ls_refs(line(A .. " refs/heads/main\n") .. line "ERR boom" .. FLUSH, "sha1"))
end)

test("names that no honest server sends are left out and counted; the others stay", function()
  local body = {}
  for _, name in ipairs { "refs/heads/a\1b", "refs/heads/a\27[31m", "refs/heads/..", "refs/heads/a\u{202e}b",
    "refs/tags/\xff", "refs/tags/x.lock", "refs/heads/a\0b" } do
    body[#body + 1] = line(A .. " " .. name .. "\n")
  end
  local s = ok(refs.parse_ls_refs(line(B .. " refs/heads/main\n") .. table.concat(body) .. FLUSH, "sha1"))
  eq({ s.heads, s.tags, s.refused }, { 1, 0, #body })
  eq(s.refs["refs/heads/main"].commit, B)
end)

test("the head cannot point outside of the branches", function()
  for _, target in ipairs { "refs/tags/v1", "HEAD", "../../etc/passwd", "refs/heads/a\1" } do
    local s = ok(refs.parse_ls_refs(line(A .. " HEAD symref-target:" .. target .. "\n") .. FLUSH, "sha1"))
    eq(s.head, nil)
  end
end)

test("a million references are too many", function()
  local most = refs.MAX_REFS
  check.defer(function() refs.MAX_REFS = most end)
  refs.MAX_REFS = 100
  local body = {}
  for i = 1, 101 do body[i] = line(A .. " refs/tags/" .. i .. "\n") end
  fails("too_large", refs.parse_ls_refs(table.concat(body) .. FLUSH, "sha1"))
  body[101] = nil
  eq(ok(refs.parse_ls_refs(table.concat(body) .. FLUSH, "sha1")).tags, 100)
end)

test("random damage never raises and never invents a reference", function()
  local body = line(A .. " HEAD symref-target:refs/heads/main\n") .. line(A .. " refs/heads/main\n")
    .. line(B .. " refs/tags/v1 peeled:" .. A .. "\n") .. FLUSH
  for _ = 1, 5000 do
    local bytes = { body:byte(1, -1) }
    for _ = 1, math.random(1, 4) do bytes[math.random(#bytes)] = math.random(0, 255) end
    local s, err = refs.parse_ls_refs(string.char(table.unpack(bytes)), "sha1")
    if s then
      for name, ref in pairs(s.refs) do
        ok(refs.valid_name(name))
        ok(refs.id_format(ref.commit))
      end
    else
      ok(err.code)
    end
    refs.parse_advertisement(string.char(table.unpack(bytes)))
  end
end)

test("reads what git ls-remote prints", function()
  local s = ok(refs.parse_ls_remote("ref: refs/heads/main\tHEAD\n" .. A .. "\tHEAD\n" .. A
    .. "\trefs/heads/main\n"
    .. B .. "\trefs/tags/v1\n" .. A .. "\trefs/tags/v1^{}\n" .. C .. "\trefs/x/refs/heads/y\n"))
  eq(s.refs, { ["refs/heads/main"] = { oid = A, commit = A, annotated = false },
    ["refs/tags/v1"] = { oid = B, commit = A, annotated = true } })
  eq(s.head, "refs/heads/main")
  eq(ok(refs.parse_ls_remote "").heads, 0)
  eq(ok(refs.parse_ls_remote(A256 .. "\trefs/heads/main\n")).format, "sha256")
  fails("protocol", refs.parse_ls_remote "warning: something\n")
  fails("protocol", refs.parse_ls_remote(A .. "\trefs/heads/main"))
end)

-- News or not -----------------------------------------------------------------------------------------------

test("an answer that lost everything or half of the tags is not believed", function()
  local function s(heads, tags) return { heads = heads, tags = tags } end
  for _, case in ipairs { { s(1, 0), s(0, 0) }, { s(0, 5), s(0, 0) }, { s(2, 8), s(2, 4) },
    { s(2, 8), s(2, 0) },
    { s(3, 8), s(0, 8) }, { s(1, 1000), s(1, 300) } } do
    ok(refs.shrunk(case[1], case[2]))
  end
  for _, case in ipairs { { s(0, 0), s(0, 0) }, { s(0, 0), s(1, 5) }, { s(1, 3), s(1, 0) },
    { s(2, 8), s(2, 5) },
    { s(10, 8), s(2, 8) }, { s(1, 0), s(1, 9) } } do
    eq(refs.shrunk(case[1], case[2]), nil)
  end
end)
