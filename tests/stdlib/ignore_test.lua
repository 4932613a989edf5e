-- .dockerignore as Docker's documentation tells it, and tar files that lose entries and nothing else.
local check = require "check"
local lab = require "lab"
local fs, time = require "fs", require "time"
local ignore, tar = require "builder.ignore", require "builder.tar"
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
    { "", "a", false }, { "  a  ", "a", true }, { "a\r\nb\r\n", "b", true }, { "../a", "a", true },
    { "!", "a", false }, { "[", "[", false },
  } do
    eq(excluded(case[1], case[2]), case[3], ("%q on %q"):format(case[1], case[2]))
  end
end)

test("a hostile pattern takes no time", function()
  local started = time.monotonic()
  excluded(("*a"):rep(100) .. "b", ("a"):rep(250))
  excluded(("**/a/"):rep(200) .. "b", ("a/"):rep(500) .. "c")
  ok(time.monotonic() - started < 1, "too slow")
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
