-- .dockerignore as moby/patternmatcher 0.6.1 reads it, and tar files that lose entries and nothing else.
--
-- ignore_cases.jsonl holds random files with the answers of that library (ignorefile.ReadAll, MatchesOrParentMatches).
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local lab = require "lab"
local fs, json = require "fs", require "json"
local ignore, tar = require "images.builder.ignore", require "images.builder.tar"
local test, eq, ok, fails = check.test, check.eq, check.ok, check.fails

local function excluded(text, path) return ok(ignore.compile(text))(path) end

test("patterns leave out what Docker leaves out", function()
  for _, case in ipairs {
    { "a", "a", true }, { "a", "b", false }, { "a", "a/b/c", true }, { "a", "x/a", false },
    { "/a", "a", true },
    { "a/", "a/b", true }, { "./a", "a", true }, { "*/temp*", "some/temporary.txt", true },
    { "*/temp*", "temporary", false }, { "*/*/temp*", "some/sub/temporary.txt", true },
    { "temp?", "tempa", true },
    { "temp?", "temp", false }, { "temp?", "tempab", false }, { "*.md", "README.md", true },
    { "*.md", "docs/README.md", false }, { "**/*.md", "README.md", true }, { "**/*.md", "a/b/c.md", true },
    { "a/**/z", "a/z", true }, { "a/**/z", "a/b/c/z", true }, { "a/**", "a/b", true },
    { "**", "anything/at/all", true },
    { "[a-c]x", "bx", true }, { "[a-c]x", "dx", false }, { "[^a-c]x", "dx", true }, { "\\*", "*", true },
    { "\\*", "a", false }, { "*.md\n!README.md", "README.md", false },
    { "*.md\n!README*.md\nREADME-x.md", "README-x.md", true },
    { "*\n!src", "src/deep/file", false }, { "*\n!src", "other/file", true }, { "# a", "# a", false },
    { "", "a", false }, { "  a  ", "a", true }, { "a\r\nb\r\n", "b", true }, { "../a", "a", false },
    { "a/../../b", "b", false }, { "/../b", "b", true },
    { "**.pem", "x/key.pem", true }, { "**.pem", "key.pem.txt", false }, { "a**/*.txt", "ab/c/d.txt", true },
    { "a**/*.txt", "a/c/d.txt", true }, { "cache/**", "cache", false }, { "cache/**", "cache/x", true },
    { "**/cache/**", "a/cache", false }, { "?", "é", true }, { "??", "é", false }, { "[é-ü]", "ö", true },
    { "x?y", "x/y", false }, { "a.c", "abc", false }, { "a+b*", "aab", false }, { "\u{A0}a\u{2003}", "a", true },
    { "a\n!!b", "b", false }, { "a^*", "a^b", false }, { "[a*]", "a/a]", true }, { "a\\d", "a5", true },
    { "*.{js,ts}", "x.js", false }, { "*.{js,ts}", "x.{js,ts}", true }, { "a|b", "a", false }, { "a|b", "a|b", true },
    { "a|b*", "ax/y", true }, { "x|?b", "c/ab", true }, { "[ab]{2}", "ba", true }, { "[ab]{2}", "a{2}", false },
    { "*a{2,}b", "xaaab", true }, { "*a{2,}b", "xab", false }, { "?b{0,1}", "ab", true }, { "?b{0,1}", "abb", false },
    { "?{01}", "a{01}", true }, { "?a{0}|{", "b", true }, { "\u{FEFF}\u{FEFF}?", "x", true },
    { "\u{FEFF}\u{FEFF}x", "x", false }, { "\u{FEFF}\u{FEFF}x", "\u{FEFF}x", true }, { "a\n\u{FEFF}b?", "bc", true },
  } do
    eq(excluded(case[1], case[2]), case[3], ("%q on %q"):format(case[1], case[2]))
  end
end)

-- As docker walks: `!app` is not asked about a folder that nothing leaves out, and so keeps nothing in it.
test("a rule that changes nothing about a folder says nothing about what is in it", function()
  local leaves_out = ok(ignore.compile "*/node_modules\n!app\n")
  for path, want in pairs {
    ["app"] = false, ["app/main.js"] = false, ["app/node_modules"] = true, ["app/node_modules/x"] = true,
  } do
    eq(leaves_out(path), want, path)
  end
  eq(excluded("*\n!app\n", "app/main.js"), false)
end)

test("random files leave out what the library leaves out, and fail where it fails", function()
  local files, compared = 0, 0
  for line in ok(fs.read("tests/stdlib/ignore_cases.jsonl")):gmatch("[^\n]+") do
    local case = ok(json.decode(line))
    files = files + 1
    if case.err then
      fails("invalid", ignore.compile(case.text))
    else
      local leaves_out = ok(ignore.compile(case.text))
      for i, path in ipairs(case.paths) do
        eq(leaves_out(path), case.want[i], ("%q on %q"):format(case.text, path))
        compared = compared + 1
      end
    end
  end
  ok(files > 200 and compared > 1000)
end)

test("a rule that cannot be read is refused with its line", function()
  for _, rule in ipairs {
    "[", "a[", "[]", "[a", "[-a]", "[b-a]", "\\", "a\\", "!", "!/", "\\q*", "[[:nope:]]", "?{3,2}", "?a{1001}",
    "*{2}", "?|{2}", "?{2}{2}", "?" .. ("a{1000}"):rep(6),
  } do
    local err = fails("invalid", ignore.compile("fine\n# note\n" .. rule .. "\n"))
    eq(err.line, 3)
    ok(tostring(err):find(".dockerignore:3", 1, true), tostring(err))
  end
end)

-- Work grows with rule times path, never faster: were it not so, these would not end while a test may run.
test("a hostile pattern does not multiply", function()
  excluded(("*a"):rep(100) .. "b", ("a"):rep(250))
  excluded(("**/a/"):rep(200) .. "b", ("a/"):rep(500) .. "c")
  excluded("?" .. ("a{0,1000}"):rep(4) .. "b", ("a"):rep(250))
  excluded("|" .. ("*a|"):rep(200) .. "b", ("a"):rep(250))
  excluded(("[a*]"):rep(60) .. ("**/"):rep(60) .. "b", ("a/"):rep(200) .. "c")
  fails("too_large", ignore.compile(("a\n"):rep(501)))
end)

-- A tar by git of these files.
local function archive(dir, files)
  for path, text in pairs(files) do lab.write(dir .. "/in/" .. path, text) end
  lab.run { "ln", "-s", "/etc/passwd", dir .. "/in/link" }
  local git = require("lab.git").git
  git { "init", "-q", dir .. "/in" }
  git { "add", "-A", cwd = dir .. "/in" }
  git { "commit", "-q", "-m", "x", cwd = dir .. "/in" }
  git { "archive", "--format=tar", "-o", dir .. "/in.tar", "HEAD", cwd = dir .. "/in" }
end

test("a filtered tar holds the rest, byte for byte", function()
  local dir = lab.dir "tar"
  local long = ("d"):rep(90) .. "/" .. ("e"):rep(90) .. "/" .. ("f"):rep(90)
  archive(dir, {
    ["keep"] = ("k"):rep(5 << 20), ["drop"] = ("d"):rep(513), ["empty"] = "",
    ["sub/drop"] = "x", ["sub/keep"] = "y",
    [long .. "/keep"] = "long", [long .. "/drop"] = "long", ["ünicode\n"] = "z",
  })
  local count = ok(tar.filter(dir .. "/in.tar", dir .. "/out.tar", function(path)
    return path ~= "drop" and not path:find("/drop$")
  end))
  eq(count, 3)
  ok(fs.mkdir(dir .. "/out"))
  lab.run { "tar", "-xf", dir .. "/out.tar", "-C", dir .. "/out" }
  for _, path in ipairs { "drop", "sub/drop", long .. "/drop" } do
    eq(fs.exists(dir .. "/out/" .. path), false)
    ok(fs.remove(dir .. "/in/" .. path))
  end
  ok(fs.remove(dir .. "/in/.git", { recursive = true }))
  lab.run { "diff", "-r", "--no-dereference", dir .. "/in", dir .. "/out" }
end)

test("a tar that is cut or no tar at all is an error", function()
  local dir = lab.dir "tar"
  archive(dir, { ["file"] = ("k"):rep(4000) })
  local bytes = ok(fs.read(dir .. "/in.tar"))
  lab.write(dir .. "/cut.tar", bytes:sub(1, 2000))
  fails("protocol", tar.filter(dir .. "/cut.tar", dir .. "/out.tar", function() return true end))
  lab.write(dir .. "/none.tar", ("no tar "):rep(200))
  fails("protocol", tar.filter(dir .. "/none.tar", dir .. "/out.tar", function() return true end))
end)
