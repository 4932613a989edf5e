-- The manual: its pages as a terminal shows them, and `moontide help` as people ask it.
---@diagnostic disable: need-check-nil -- a nil fails the test
local check = require "check"
local fs, json, proc, sys = require "fs", require "json", require "proc", require "base.sys"
local manual, markdown = require "people.manual", require "people.markdown"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local function plain(_, text) return text end
local function marked(style, text) return style and ("<%s>%s</>"):format(style, text) or text end

local function render(text, width, paint)
  return table.concat(markdown.render(text, { width = width or 40, paint = paint or plain }), "\n")
end

test("paragraphs and lists are wrapped to the width, by columns", function()
  eq(render("one two three four five six seven\neight nine\n\n\nten", 20),
    "one two three four\nfive six seven eight\nnine\n\nten")
  eq(render("- one two three four\n  five six\n- b\n  1. deeper one two three", 20),
    "- one two three four\n  five six\n- b\n  1. deeper one two\n     three")
  eq(render("ぜんぶ ぜんぶ ぜんぶ ぜんぶ", 20), "ぜんぶ ぜんぶ ぜんぶ\nぜんぶ")
  eq(render(("x"):rep(30), 20), ("x"):rep(30))
end)

test("code keeps its lines, headings and styles are dressed, a link says where it leads", function()
  eq(render("# A title\ntext\n\n    a  code\n\n      more\n\nrest\n```sh\nfenced\n```", 40),
    "A title\n═══════\n\ntext\n\n    a  code\n\n      more\n\nrest\n\n    fenced")
  eq(render("## B\nsome **strong `x` one** and *soft* `co de`,\n2*3*4, a * b *", 80, marked),
    "<bold>B</>\n\nsome <bold>strong</> <cyan>x</> <bold>one</> and <bold>soft</> <cyan>co</> <cyan>de</>, "
    .. "2*3*4, a * b *")
  eq(render("see `x|y`, [keel](keel.md), [there](https://x.test/a) and [here](#x)", 90),
    "see `x|y`, keel (moontide help keel), there (https://x.test/a) and here")
end)

test("tables are aligned, and their cells wrapped where they do not fit", function()
  eq(render("| a | b |\n|---|---|\n| `x\\|y` | one two three four five |\n| z | |", 24), table.concat({
    "a      b", "─────  ─────────────────", "`x|y`  one two three", "       four five", "z",
  }, "\n"))
end)

test("nothing that a page holds moves a cursor", function()
  local text = render("a\27[2Jb `c\7` \27]0;x\7\n\n    \27[1mcode\n\n| \27 |\n|---|\n| \155 |")
  ok(not text:find("[\0-\9\11-\31\127]"), text)
end)

test("every topic is rendered at every width without its marks, and has a title", function()
  local topics = manual.topics()
  ok(#topics > 9)
  for _, topic in ipairs(topics) do
    ok(#topic.title > 2, topic.name)
    for _, width in ipairs(topic.text and { 20, 60, 100, 300 } or {}) do
      for _, line in ipairs(markdown.render(assert(topic.text), { width = width, paint = plain })) do
        ok(not line:find("^#+ ") and not line:find("^|[-|]+$") and not line:find("%]%("), topic.name .. ": " .. line)
      end
    end
  end
end)

test("every page is a topic, and every link of a page leads somewhere", function()
  for path in fs.walk "config/manual" do
    ok(manual.topic(assert(path:match "^(.-)%.md$")), path)
    for target in assert(fs.read("config/manual/" .. path)):gmatch "%]%(([^)#%s]+)[^)]*%)" do
      if not target:find "^https?:" then ok(fs.exists("config/manual/" .. target), path .. ": " .. target) end
    end
  end
end)

test("the README leads to every page", function()
  local readme = ok(fs.read "README.md")
  for path in fs.walk "config/manual" do has(readme, "(config/manual/" .. path .. ")") end
  for target in readme:gmatch "%]%(([^)#%s]+)[^)]*%)" do
    if not target:find "^https?:" then ok(fs.exists(target), target) end
  end
end)

local exe = sys.exe()

local function help(...)
  local argv = { exe, "help", ... } ---@type any
  argv.timeout, argv.env = 30, { HOME = "/nonexistent" }
  return ok(proc.run(argv))
end

test("help shows topics, words, and both where both are meant", function()
  local all = help().stdout
  for _, topic in ipairs(manual.topics()) do has(all, "  " .. topic.name) end
  has(help("policies").stdout, "What it may\n")
  has(help("place:tags").stdout, "Every tag of the repository")
  local words = help("place:").stdout
  has(words, "place:current()")
  has(words, "place:tags()")
  ok(not words:find "run:image")
  eq(help("place").stdout, words)
  has(help("run").stdout, "usage:    moontide run")
  has(help("fs.re").stdout, "fs.rename(")
  has(help("place:heda").stderr, "did you mean place:head?")
  has(help("polices").stderr, "did you mean policies?")
  eq(help("polices").code, 2)
  has(help("world:push").stderr, "did you mean app:push?")
  local recipes = help("recipes").stdout
  for _, recipe in ipairs(manual.recipes()) do has(recipes, "\n" .. recipe.name .. " ") end
end)

test("a topic is also Markdown and JSON", function()
  local text = assert(fs.read "config/manual/policies.md")
  eq(help("policies", "--markdown").stdout, text)
  eq(json.decode(help("policies", "-o", "json").stdout).topic, { name = "policies", title = "Policies", text = text })
  has(help("place:", "--markdown").stdout, "| `place:tags()` |")
end)

-- What the program prints on a terminal.
local function on_terminal(line, env)
  env.HOME, env.TERM = "/nonexistent", "xterm"
  local out = ok(proc.run { "script", "-qec", exe .. " " .. line, "/dev/null", env = env, timeout = 30, stdin = "" })
  return (out.stdout:gsub("\r\n", "\n"))
end

test("on a terminal a pager gets the text: PAGER's words, without a shell", function()
  has(on_terminal("help policies", { PAGER = "tr  a-z A-Z" }), "WHAT IT MAY")
  local out = on_terminal("help policies", { PAGER = "echo $HOME;id|cat" })
  has(out, "$HOME;id|cat")
  has(on_terminal("help policies --no-pager", { PAGER = "tr a-z A-Z" }), "\27[1mWhat it may\27[0m")
  has(on_terminal("help policies", { PAGER = "/nonexistent/pager" }), "\27[1mWhat it may\27[0m")
  ok(not on_terminal("help policies", { PAGER = "cat", NO_COLOR = "1" }):find "\27")
  has(help("policies").stdout, "What it may") -- and never elsewhere
end)

test("a pager takes the place of the process", function()
  local dir <close> = ok(fs.temp_dir())
  ok(fs.write(dir.path .. "/pager", "#!/bin/sh\nread title\necho \"$title: $# $1\"\nexit 7\n", { mode = 448 }))
  local run = ok(proc.run {
    "script", "-qec", exe .. " help policies", "/dev/null", env = { PAGER = dir.path .. "/pager x", NO_COLOR = "1" },
    timeout = 30, stdin = "",
  })
  has(run.stdout, "Policies: 1 x")
  eq(run.code, 7)
end)
