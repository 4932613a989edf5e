-- Extensions of a folder: what they add, what is wrong with them, and who may write them.
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has
local config, extensions, fs = require "config.load", require "extensions", require "fs"

local GOOD <const> = [[
local extension = require "extension"
return extension {
  target = {
    shelf = {
      doc = "A folder.",
      keys = { path = extension.folder("Where it is.", { required = true }), mode = extension.integer("Its mode.") },
      open = function(environment) return require("shelves.shelf").open(environment) end,
    },
  },
}
]]

local CONFIG <const> = [[
return {
  extensions = "extensions",
  apps = {
    web = {
      source = "https://github.com/team/web.git",
      image = "127.0.0.1:5101/team/web",
      environments = { staging = { target = { kind = "shelf", %s } } },
    },
  },
}
]]

local function folder(files)
  local dir = ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  ok(fs.mkdir(dir.path .. "/extensions"))
  for name, text in pairs(files) do
    ok(fs.mkdir((dir.path .. "/" .. name):match("^(.*)/"), { parents = true }))
    ok(fs.write(dir.path .. "/" .. name, text))
  end
  return dir.path
end

local function load(files, keys)
  files["moontide.lua"] = files["moontide.lua"] or CONFIG:format(keys or 'path = "/srv"')
  local dir = folder(files)
  local loaded, faults = config.load(dir .. "/moontide.lua")
  local said = {}
  for i, fault in ipairs(faults or {}) do said[i] = config.describe(fault):gsub(dir:gsub("%p", "%%%0") .. "/", "") end
  return loaded, table.concat(said, "\n"), dir
end

test("a file adds a kind of targets, whose keys are checked, with a module beside it", function()
  local loaded, faults = load {
    ["extensions/shelf.lua"] = GOOD,
    ["extensions/shelves/shelf.lua"] = "return { open = function(e)\n"
      .. "  local function fn() return { digest = e.target.path } end\n"
      .. "  return { current = fn, apply = fn, wait = fn } end }",
  }
  eq(faults, "")
  local environment = ok(loaded).apps.web.environments.staging
  eq(environment.target, { kind = "shelf", path = "/srv" })
  eq(ok(require("engine.world").of(loaded).target(environment)):current(), { digest = "/srv" })
  local documented
  for _, row in ipairs(require("config.manual").rows()) do
    documented = documented or row.path:find("target{kind=shelf}.mode", 1, true) and row.doc
  end
  eq(documented, "Its mode.")
  local _, said = load({ ["extensions/shelf.lua"] = GOOD }, 'pth = "x"')
  has(said, 'moontide.lua:7: apps.web.environments.staging.target.pth: unknown key "pth" (did you mean path?)')
  has(said, "target.path: is missing")
end)

test("a shape without a meaning and one with a misspelt option are faults, at their line", function()
  local function said(shape)
    local _, faults = load { ["extensions/a.lua"] = 'local extension = require "extension"\nreturn extension { '
      .. "target = { a = { open = function() end,\nkeys = { k = " .. shape .. " } } } }" }
    return faults
  end
  has(said "extension.folder { required = true }", "a.lua:3: a shape takes first what its key means")
  has(said "extension.text('K.', { requierd = true })", 'a.lua:3: unknown option "requierd" (did you mean required?)')
end)

test("without its folder there is no such kind", function()
  local _, said = load { ["moontide.lua"] = CONFIG:format('path = "/srv"'):gsub("extensions = .-\n", "\n") }
  has(said, 'unknown kind "shelf": must be one of docker, podman, command, kubernetes')
  local _, missing = load { ["moontide.lua"] = CONFIG:format('path = "/srv"'):gsub('= "extensions"', '= "nowhere"') }
  has(missing, "moontide.lua:2: extensions: nowhere does not exist")
end)

local FAULTS <const> = {
  { "return 7", "bad.lua: is not an extension (it must end with: return extension { ... })" },
  { "\nreturn extension {", "bad.lua:2: " },
  { "\n\nerror 'broken'", "bad.lua:3: broken" },
  { "local extension = require 'extension'\nreturn extension {\n  targte = {},\n}",
    'bad.lua:3: targte: unknown key "targte" (did you mean target?)' },
  { "local extension = require 'extension'\nreturn extension {\n  target = {\n    x = { doc = 'X.' },\n  },\n}",
    "bad.lua:4: target.x.open: is missing" },
  { "local extension = require 'extension'\nreturn extension {\n  target = {\n    x = {\n      open = 7 } } }",
    "bad.lua:5: target.x.open: must be a function, not a number" },
  { "local extension = require 'extension'\nreturn extension {\n  target = {\n    x = {\n      opne = 7 } } }",
    'bad.lua:5: target.x.opne: unknown key "opne" (did you mean open?)' },
  { "local extension = require 'extension'\nreturn extension {\n  command = {\n    status = { load = print } } }",
    'bad.lua:4: command.status: the name is taken: stdlib/extensions/standard/init.lua has a command "status"' },
  { "local extension = require 'extension'\nreturn extension {\n  route = {\n    ['GET /jobs'] = { handle = print }}}",
    'bad.lua:4: route["GET /jobs"]: the name is taken: stdlib/extensions/standard/init.lua has a route "GET /jobs"' },
  { "local extension = require 'extension'\nreturn extension {\n  route = {\n    jobs = { handle = print } } }",
    'bad.lua:4: route.jobs: is not "METHOD /path/:name"' },
  { "local extension = require 'extension'\nreturn extension {\n  word = {\n    image = { run = print } } }",
    'bad.lua:4: word.image: the key "image" is taken by the program' },
  { "local extension = require 'extension'\nlocal function open() end\nreturn extension {\n  target = {\n"
    .. "    x = { open = open, keys = {\n      a = 7,\n    } },\n  },\n}",
    "bad.lua:6: target.x.keys.a: is not a shape of a key" },
  { "local extension = require 'extension'\nlocal function open() end\nreturn extension {\n  target = {\n"
    .. "    docker = { open = open },\n  },\n}",
    'bad.lua:5: target.docker: the name is taken: stdlib/extensions/standard/init.lua has a target "docker"' },
}

local KINDS <const> = [[
local extension = require "extension"
return extension {
  builder = { shell = { keys = { script = extension.command "Builds." }, build = function(r) return r.tag end } },
  check = { tcp = {
    key = extension.text("Address to connect to."), keys = { banner = extension.text("With tcp: what it says.") },
    attempt = function(check) return nil, "nobody listens on " .. check.tcp end,
  } },
  notifier = { pigeon = { keys = { loft = extension.text("Where.") }, send = function(channel, message, name)
    channel.heard = { message.text, name }
    error "it did not come back"
  end } },
}
]]

test("a file adds builders, checks and notifiers", function()
  local loaded, faults = load {
    ["extensions/kinds.lua"] = KINDS, ["moontide.lua"] = [[
      return {
        extensions = "extensions",
        builder = { kind = "shell", script = { "/bin/build" } },
        notify = { birds = { kind = "pigeon", loft = "roof" }, more = { kind = "pigeon" } },
        apps = { web = {
          source = "https://github.com/team/web.git", image = "127.0.0.1:5101/team/web",
          environments = { staging = {
            target = { kind = "command", apply = { "/bin/true" } },
            verify = { { tcp = "127.0.0.1:1", within = "100ms", every = "50ms" } },
          } },
        } },
      }
    ]],
  }
  eq(faults, "")
  ok(loaded)
  eq({ loaded.builder.kind, loaded.builder.script }, { "shell", { "/bin/build" } })
  local _, err = require("checks.verify").run(loaded.apps.web.environments.staging.verify, {})
  has(err.message, "nobody listens on 127.0.0.1:1 (")
  eq({ err.code, err.target }, { "unhealthy", "127.0.0.1:1" })
  local told, failure = require("tell.notify").send(loaded, { "birds", "more" }, { level = "info", text = "it is out" })
  eq(told, nil)
  has(failure.message, "it did not come back")
  eq(loaded.notify.more.heard, { "it is out", "more" })
end)

local DOORS <const> = [[
local extension = require "extension"
return extension {
  command = { greet = {
    summary = "greet somebody", args = { { name = "NAME", doc = "who" } },
    run = function(ctx) ctx.out:line("hello " .. ctx.args.NAME) return 7 end,
  } },
  route = {
    ["GET /greet/:name"] = { open = true, handle = function(_, request)
      return { status = 200, body = "hello " .. request.params.name }
    end },
    ["GET /secret"] = { handle = function() return { status = 200, body = "told" } end },
    ["POST /v1/greet"] = { socket = true, handle = function() return { status = 200, body = "operator" } end },
  },
  opener = { greeter = { open = function(name, world) return name .. world.config.dir end } },
}
]]

test("a file adds commands, routes and what the world opens", function()
  local loaded, said, dir = load {
    ["extensions/doors.lua"] = DOORS, ["moontide.lua"] = 'return { extensions = "extensions", apps = {} }',
  }
  eq(said, "")
  local function moontide(...)
    local argv = { require("base.sys").exe(), ... }
    table.move({ "--config", dir .. "/moontide.lua" }, 1, 2, #argv + 1, argv)
    argv.stderr = "stdout"
    return ok(require("proc").run(argv))
  end
  local run = moontide("greet", "you")
  eq({ run.code, run.stdout }, { 7, "hello you\n" })
  has(moontide("help").stdout, "greet somebody")
  has(moontide("help", "greet").stdout, "usage:    moontide greet NAME")
  has(moontide("gret").stdout, "did you mean greet?")
  local control, engine = require "people.control", { config = loaded }
  local gate, handler = control.public_gate(engine), control.public_handler(engine)
  local function get(path) return { method = "GET", path = path, headers = {}, query = {}, params = {}, peer = {} } end
  eq(gate(get "/greet/you"), nil)
  eq(handler(get "/greet/you").body, "hello you")
  ok(gate(get "/secret").status >= 400, "there is no token, so it is closed")
  local post = get "/v1/greet"
  post.method = "POST"
  eq(control.handler(engine)(post).body, "operator")
  eq(require("engine.world").of(loaded).greeter("to "), "to " .. dir)
end)

test("a file adds words of policies", function()
  local said = select(2, load { ["extensions/lunch.lua"] = [[
      local extension = require "extension"
      return extension { word = { lunch = {
        doc = "Whether it is time.", place = function(place, hour) return place.name .. hour end,
      } } }
    ]], ["moontide.lua"] = 'return { extensions = "extensions", apps = {} }' })
  eq(said, "")
  local place = setmetatable({}, { __index = function() return print end })
  eq(require("policy.words").of_place(place).lunch({ name = "noon" }, 12), "noon12")
end)

test("the keys of checks and builders stand beside each other: none has two owners", function()
  local function taken(kind, text)
    local _, said = load { ["extensions/a.lua"] = KINDS, ["extensions/b.lua"] =
      ("local extension = require 'extension'\nlocal function fn() end\nreturn extension {\n  %s = {\n    x = %s },\n}")
        :format(kind, text) }
    return said
  end
  has(taken("check", "{ key = extension.text 'X.', attempt = fn, keys = { status = extension.text 'S.' } }"),
    'b.lua:5: check.x: the key "status" is taken by stdlib/extensions/standard/init.lua')
  has(taken("check", "{ key = extension.text 'X.', attempt = fn, keys = { within = extension.text 'S.' } }"),
    'b.lua:5: check.x: the key "within" is taken by stdlib/config/checks.lua')
  has(taken("builder", "{ build = fn, keys = { script = extension.text 'S.' } }"),
    'b.lua:5: builder.x: the key "script" is taken by extensions/a.lua')
  has(taken("check", "{ key = extension.text 'X.' }"), "b.lua:5: check.x: needs either attempt or prove")
end)

test("what is wrong with a file is said with its line, and what to do", function()
  for _, case in ipairs(FAULTS) do
    local loaded, said = load { ["extensions/shelf.lua"] = GOOD, ["extensions/bad.lua"] = case[1] }
    eq(loaded, nil)
    has(said, "extensions/" .. case[2])
  end
  local _, said = load { ["extensions/a.lua"] = GOOD, ["extensions/b.lua"] = GOOD }
  has(said, "extensions/b.lua:4: target.shelf: the name is taken: extensions/a.lua has a target")
end)

test("what could not be read makes no second fault", function()
  local _, said = load { ["extensions/shelf.lua"] = GOOD:gsub("open = ", "opne = ") }
  eq(said, 'extensions/shelf.lua:7: target.shelf.opne: unknown key "opne" (did you mean open?)\n'
    .. "extensions/shelf.lua:4: target.shelf.open: is missing")
  local _, missing = load { ["moontide.lua"] = CONFIG:format('path = "/srv"'):gsub('= "extensions"', '= "nowhere"') }
  has(missing, "nowhere does not exist")
  eq(select(2, missing:gsub("\n", "")), 0)
end)

local BROKEN <const> = [[
local extension, errors = require "extension", require "errors"
local answers = {
  apply = function() end, wait = function() error "wrong" end, current = function() end,
}
return extension { target = {
  shelf = { keys = { path = extension.text "Where." }, open = function() return answers end },
  none = { open = function() end },
  half = { open = function() return { current = print } end },
} }
]]

test("a target that lacks a function, raises or answers nothing: its file is named, no release is at fault", function()
  local loaded = ok(load { ["extensions/shelf.lua"] = BROKEN })
  local world = require("engine.world").of(loaded)
  local function open(kind) return world.target { target = { kind = kind }, app = "web", name = "staging" } end
  local function broken(value, err, words)
    eq(value, nil)
    has(err.message, words)
    has(err.message, "/extensions/shelf.lua: target ")
    eq(require("errors").passing(err), true)
  end
  local shelf = ok(open "shelf")
  local value, err = shelf:apply {} ---@type any, any
  broken(value, err, "apply() returned nothing; return true, or nil and an error")
  value, err = shelf:wait {}
  broken(value, err, "wrong")
  eq(table.pack(shelf:current()), { n = 1 })
  eq(shelf:settle {}, true)
  value, err = open "none"
  broken(value, err, "open() must return a target, or nil and an error")
  value, err = open "half"
  broken(value, err, "open() gave no function ")
end)

test("a file that others may write is not run", function()
  local dir = folder { ["moontide.lua"] = CONFIG:format('path = "/srv"'), ["extensions/shelf.lua"] = GOOD }
  ok(require("proc").run { "chmod", "g+w", dir .. "/extensions/shelf.lua" })
  local _, faults = config.load(dir .. "/moontide.lua")
  has(config.describe(ok(faults)[1]), "extensions/shelf.lua: may be written by others: an extension has all rights of")
end)

test("nor is a module beside it that others may write", function()
  local dir = folder {
    ["moontide.lua"] = CONFIG:format('path = "/srv"'),
    ["extensions/shelf.lua"] = 'require "shelves.more"\n' .. GOOD, ["extensions/shelves/more.lua"] = "return {}",
  }
  ok(require("proc").run { "chmod", "o+w", dir .. "/extensions/shelves/more.lua" })
  local _, faults = config.load(dir .. "/moontide.lua")
  has(config.describe(ok(faults)[1]), "shelves/more.lua cannot be read: may be written by others")
end)

test("a file that is none, or leads nowhere, is said to be so", function()
  local dir = folder { ["moontide.lua"] = CONFIG:format('path = "/srv"'), ["extensions/shelf.lua"] = GOOD }
  ok(require("proc").run { "ln", "-s", "nowhere", dir .. "/extensions/a.lua" })
  ok(require("proc").run { "ln", "-s", "d.lua", dir .. "/extensions/d.lua" })
  ok(require("proc").run { "mkfifo", "-m", "600", dir .. "/extensions/b.lua" })
  ok(fs.mkdir(dir .. "/extensions/c.lua"))
  local _, faults = config.load(dir .. "/moontide.lua")
  local said = {}
  for i, fault in ipairs(ok(faults)) do said[i] = config.describe(fault) end
  has(said[1], "a.lua: cannot be read: it is not there")
  has(said[2], "b.lua: cannot be read: not a regular file")
  has(said[3], "c.lua: cannot be read: not a regular file")
  has(said[4], "d.lua: cannot be read: Too many levels of symbolic links")
end)

test("what the program has itself is written as the page for authors says", function()
  for _, path in ipairs(require("base.sys").embedded_list()) do
    local name = path:match("^stdlib/extensions/([^/]+)/init%.lua$")
    if name then eq(require("extensions.folder").faults(path, require("extensions." .. name)), {}, name) end
  end
  for _, kind in ipairs { "target", "notifier" } do
    for _, entry in ipairs(extensions.all(kind)) do ok(extensions.shape(entry).doc, entry.name) end
  end
end)
