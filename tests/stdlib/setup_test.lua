-- moontide init: what it writes passes check, stays a person's, and is refreshed only where it is its own.
local check = require "check"
local fs, json, proc, sys = require "fs", require "json", require "proc", require "base.sys"
local stubs = require "policy.stubs"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local exe = sys.exe()

local function moontide(...)
  local argv = { exe, ... } ---@type any
  argv.timeout, argv.env = 30, { HOME = "/nonexistent", PATH = "/usr/bin:/bin" }
  return ok(proc.run(argv))
end

local function folder()
  local dir = ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  return dir.path .. "/shop"
end

local function texts(dir)
  local all = {}
  for path, kind in fs.walk(dir) do
    if kind == "file" then all[path] = ok(fs.read(dir .. "/" .. path)) end
  end
  return all
end

local FLAGS <const> = { "--app", "web", "--source", "https://git.test/web.git", "--image", "r.test/web" }

local function init(dir, ...)
  local argv = { "init", dir }
  for _, list in ipairs { FLAGS, { ... } } do table.move(list, 1, #list, #argv + 1, argv) end
  return moontide(table.unpack(argv))
end

test("for each kind of target the configuration passes check, and says what to do next", function()
  for _, kind in ipairs(require("people.setup.configuration").TARGETS) do
    local dir = folder()
    local run = init(dir, "--target", kind, "--environments", "staging, eu-west,production", "--port", "9000")
    eq({ kind, run.code, run.stderr }, { kind, 0, "" })
    has(run.stdout, "moontide check")
    has(run.stdout, "moontide help guide")
    local checked = moontide("check", "--config", dir .. "/moontide.lua")
    eq({ checked.code, checked.stderr }, { 0, "" })
    has(checked.stdout, "1 app, 3 environments")
    for path, text in pairs(texts(dir)) do ok(text:find("\n$") and not text:find("[ \t]\n"), path) end
  end
end)

test("what is there stays; a second time changes nothing", function()
  local dir = folder()
  ok(fs.mkdir(dir .. "/scripts", { parents = true }))
  ok(fs.write(dir .. "/scripts/staging.lua", "-- mine\n"))
  has(init(dir, "--policies").stdout, "kept      scripts/staging.lua (it differs from the program's)")
  eq(fs.read(dir .. "/scripts/staging.lua"), "-- mine\n")
  eq(fs.read(dir .. "/scripts/production.lua"), sys.embedded "scripts/production.lua")
  local before = texts(dir)
  local again = init(dir, "--policies", "--port", "1")
  eq(again.code, 0)
  ok(not again.stdout:find "wrote")
  eq(texts(dir), before)
  local report = json.decode(init(dir, "-o", "json").stdout)
  eq(report.dir, dir)
  for _, file in ipairs(report.files) do eq(file.what, "kept", file.path) end
end)

test("a recipe comes with its test and the shared modules that it requires, and is known by its name", function()
  local recipes = require("people.manual").recipes()
  ok(#recipes > 5)
  for _, recipe in ipairs(recipes) do
    local dir = folder()
    eq({ recipe.name, init(dir, "--recipe", recipe.name).code }, { recipe.name, 0 })
    ok(#recipe.doc > 20, recipe.name)
    for _, suffix in ipairs { ".lua", "_test.lua" } do
      local text = ok(fs.read(("%s/scripts/%s%s"):format(dir, recipe.name, suffix)))
      eq(text, sys.embedded(("scripts/recipes/%s%s"):format(recipe.name, suffix)))
      for module in text:gmatch 'require "shared%.([%w_]+)"' do
        local shared = ("scripts/shared/%s.lua"):format(module)
        eq(fs.read(dir .. "/" .. shared), sys.embedded(shared))
      end
    end
    local config = ok(fs.read(dir .. "/moontide.lua"))
    ok(fs.write(dir .. "/moontide.lua", (config:gsub("staging = {", "%0 policy = \"" .. recipe.name .. "\",", 1))))
    local checked = moontide("check", "--config", dir .. "/moontide.lua")
    -- Some need a setting, and say which.
    ok(checked.code == 0 or checked.stderr:find "settings%.[%w_.]+: is missing\n1 fault", checked.stderr)
  end
end)

test("a newer program writes the stubs anew, and only those that are its own", function()
  local dir = folder()
  init(dir)
  local at = dir .. "/scripts/.stubs/"
  ok(fs.write(at .. "http.lua", "---@meta\n" .. stubs.MARK .. "v0.1\nold\n"))
  ok(fs.write(at .. "json.lua", "-- mine\n"))
  ok(fs.remove(at .. "log.lua"))
  has(init(dir).stdout, "refreshed scripts/.stubs (1 of its files are yours)")
  eq(fs.read(at .. "http.lua"), stubs.files()["http.lua"])
  eq(fs.read(at .. "log.lua"), stubs.files()["log.lua"])
  eq(fs.read(at .. "json.lua"), "-- mine\n")
end)

test("a folder that has a configuration gets the rest where that says", function()
  local dir = folder()
  ok(fs.mkdir(dir .. "/rules", { parents = true }))
  ok(fs.write(dir .. "/moontide.lua", 'return { scripts = "rules", apps = {} }\n'))
  has(init(dir).stdout, "rules/.stubs")
  eq(fs.exists(dir .. "/scripts"), false)
end)

test("what an extension adds is in the stubs", function()
  local dir = folder()
  ok(fs.mkdir(dir .. "/more", { parents = true, mode = 448 }))
  ok(fs.write(dir .. "/more/greet.lua", 'local extension = require "extension"\nreturn extension { word = { greet = {'
    .. ' doc = "Says hello to somebody.", run = function() end } } }\n', { mode = 384 }))
  ok(fs.write(dir .. "/moontide.lua", 'return { extensions = "more", apps = {} }\n'))
  init(dir)
  has(ok(fs.read(dir .. "/scripts/.stubs/words.lua")), "---Says hello to somebody.\n---@param ... any\n---@return any\n"
    .. "function Run:greet(...) end\n")
  has(moontide("help", "run:greet", "--config", dir .. "/moontide.lua").stdout, "Says hello to somebody.")
end)

test("what cannot be is said, and nothing is left behind", function()
  for flags, said in pairs {
    [{ "--target", "dokcer" }] = "did you mean docker?", [{ "--port", "none" }] = "up to 65000",
    [{ "--image", "Not An Image" }] = "image", [{ "--environments", "," }] = "name an environment",
    [{ "--recipe", "none-such" }] = "there is no recipe",
  } do
    local dir = folder()
    local run = init(dir, table.unpack(flags))
    eq(run.code, 2)
    has(run.stderr, said)
    eq(fs.exists(dir .. "/moontide.lua"), false)
  end
end)

test("on a terminal it asks for what no flag says", function()
  local dir = folder()
  local line = ("%s init %s --target command"):format(exe, dir)
  local child <close> = ok(proc.spawn {
    "script", "-qec", line, "/dev/null", env = { HOME = "/nonexistent", TERM = "xterm" }, stderr = "stdout",
  })
  local said = ""
  local function answer(question, text)
    while not said:find(question, 1, true) do said = said .. assert(child:read(), said) end
    said = ""
    ok(child:write(text .. "\n"))
  end
  answer("name of the app", "site")
  answer("its git repository", "")
  answer("name of its image", "r.test/site")
  answer("port", "")
  answer("environments", "staging")
  eq(ok(child:wait(30)).code, 0)
  local text = ok(fs.read(dir .. "/moontide.lua"))
  has(text, "    site = {")
  has(text, 'source = "/srv/git/site.git"')
  has(text, 'image = "r.test/site"')
  ok(not text:find "production")
end)
