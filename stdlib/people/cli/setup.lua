-- moontide init: a folder with a configuration that passes `check`, a place for policies, and what editors need to
-- understand them.
local configuration = require "people.setup.configuration"
local fs, json, sys, term = require "fs", require "json", require "base.sys", require "people.terminal"

-- The policies that are part of the program.
local function policies()
  local names = {}
  for _, path in ipairs(sys.embedded_list()) do
    local name = path:match("^scripts/([%w_-]+)%.lua$")
    if name and not name:find("_test$") then names[#names + 1] = name end
  end
  return names
end

local function recipes()
  local names = {}
  for i, recipe in ipairs(require("people.manual").recipes()) do names[i] = recipe.name end
  return names
end

-- One line from the terminal; nil at its end.
local function read_line()
  local line = ""
  while not line:find("\n", 1, true) do
    local bytes = term.read(0)
    if not bytes then return nil end
    line = line .. bytes
  end
  return line:match("^%s*(.-)%s*\n")
end

-- What the flags leave open is asked, where there is somebody to ask.
local function asker(ctx)
  local asks = ctx.out.tty and term.isatty(0) and not ctx.json
  return function(flag, question, default)
    local given = ctx.flags[flag]
    if given ~= nil or not asks then return given or default end
    ctx.out:write(("%s [%s]: "):format(ctx.out:paint("bold", question), term.clean(default)))
    local answer = read_line()
    return answer and answer ~= "" and answer or default
  end
end

local function answers_of(ctx, dir)
  local ask = asker(ctx)
  local app = ask("app", "name of the app", (dir:match("([%w-]+)/*$") or "web"):lower())
  local answers = {
    app = app,
    source = ask("source", "its git repository", ("/srv/git/%s.git"):format(app)),
    image = ask("image", "name of its image", "127.0.0.1:5000/" .. app),
    target = ask("target", "where it runs: " .. table.concat(configuration.TARGETS, ", "), "docker"),
    port = ask("port", "port that it listens on", "8080"),
    state = not dir:find("^/etc/") and "state" or nil,
    environments = {},
  }
  for name in ask("environments", "environments", "staging,production"):gmatch("[^%s,]+") do
    table.insert(answers.environments, name)
  end
  return answers
end

-- What is wrong with the answers before they are in a file.
local function wrong(answers)
  local s = require "base.schema"
  local known = false
  for _, kind in ipairs(configuration.TARGETS) do known = known or kind == answers.target end
  if not known then
    return ("there is no beginning for a target %s"):format(s.quote(answers.target)), s.meant(answers.target,
      configuration.TARGETS)
  end
  answers.port = math.tointeger(tonumber(answers.port))
  if not answers.port or answers.port < 1 or answers.port > 65000 then return "the port is a number up to 65000" end
  if #answers.environments == 0 then return "name an environment", "--environments staging,production" end
end

local CONFIG <const> = "moontide.lua"

-- Writes the configuration, and takes it back when it has faults.
local function add_configuration(ctx, folder)
  local path = folder.dir .. "/" .. CONFIG
  if fs.exists(path) then
    folder.say("kept", CONFIG, "it is yours")
    return true
  end
  local answers = answers_of(ctx, folder.dir)
  local message, suggestion = wrong(answers)
  if message then
    ctx:complain(message, suggestion)
    return false
  end
  if answers.target == "podman" then
    for _, name in ipairs(answers.environments) do
      folder:add(configuration.pod_file(name), configuration.pod(answers, name))
    end
  end
  assert(fs.mkdir(folder.dir .. "/scripts", { parents = true })) -- the configuration names it
  assert(fs.write(path, configuration.text(answers)))
  local _, faults = require("config.load").load(path, {})
  for _, fault in ipairs(faults or {}) do ctx:show_fault(fault) end
  if faults and #faults > 0 then
    assert(fs.remove(path))
    ctx:complain(("%s would have faults: it was not written"):format(CONFIG), "answer otherwise")
    return false
  end
  folder.say("wrote", CONFIG)
  return true
end

-- Where the policies are: as the configuration says.
local function scripts_of(folder)
  local config, _, partial = require("config.load").load(folder.dir .. "/" .. CONFIG, {})
  local scripts = (config or partial or {}).scripts
  local inside = scripts and scripts:sub(1, #folder.dir + 1) == folder.dir .. "/" and scripts:sub(#folder.dir + 2)
  return inside or "scripts"
end

local STUBS <const> = ".stubs"

-- What editors with LuaLS or EmmyLua read; above the scripts too, where one opens the whole folder.
local function editor_settings(scripts)
  local prefix = scripts == "" and "" or scripts .. "/"
  local lines = {}
  for _, setting in ipairs {
    { "runtime.version", "Lua 5.4" },
    { "runtime.path", { prefix .. "?.lua" } },
    { "runtime.builtin", { coroutine = "disable", debug = "disable", io = "disable", package = "disable" } },
    { "workspace.library", { prefix .. STUBS } },
    { "workspace.checkThirdParty", false },
  } do
    lines[#lines + 1] = ("  %s: %s"):format(json.encode(setting[1]), json.encode(setting[2]))
  end
  return "{\n" .. table.concat(lines, ",\n") .. "\n}\n"
end

-- Copies a script of the program with its test, and the shared modules that they require.
local function add_script(folder, scripts, from, name, done)
  for _, suffix in ipairs { ".lua", "_test.lua" } do
    local text = sys.embedded(("%s/%s%s"):format(from, name, suffix))
    if text then folder:add(("%s/%s%s"):format(scripts, name, suffix), text, "it differs from the program's") end
    for module in (text or ""):gmatch("require[%s(]*[\"']([%l%d_]+%.[%l%d_.]+)[\"']") do
      if not done[module] then
        done[module] = true
        add_script(folder, scripts, "scripts", module:gsub("%.", "/"), done)
      end
    end
  end
end

local NEXT <const> = {
  { "moontide check", "every fault of the configuration and the policies; touches nothing" },
  { "moontide plan", "what would happen now" },
  { "moontide test", "the tests of the policies, in a simulated world" },
  { "moontide run", "go" },
  { "moontide help guide", "a first edit of a policy: its test, its plan, its reload" },
}

local function say_next(ctx, dir)
  local out = ctx.out
  out:line("")
  out:line(out:paint("bold", dir == sys.cwd() and "next:" or ("next, in %s:"):format(term.clean(dir))))
  for _, step in ipairs(NEXT) do out:line(("  %-20s %s"):format(step[1], step[2])) end
end

---@type Command
return {
  summary = "make a folder with a configuration, a place for policies, and what editors need",
  args = { { name = "DIR", optional = true, doc = "the folder; default: the current one" } },
  flags = {
    { name = "app", value = "NAME", doc = "name of the app" },
    { name = "source", value = "URL", doc = "its git repository: a URL or a path" },
    { name = "image", value = "NAME", doc = "name of its image: REGISTRY/NAME" },
    { name = "target", value = "KIND", doc = "where it runs: docker, podman, command or kubernetes" },
    { name = "port", value = "N", doc = "port that it listens on" },
    { name = "environments", value = "LIST", doc = "for example staging,production" },
    { name = "policies", doc = "copy the program's policies, to edit them" },
    { name = "recipe", value = "NAME", doc = "copy a recipe; moontide help recipes lists them" },
  },
  example = "moontide init shop --app web --source https://git.example.com/web.git",
  more = "Asks on a terminal for what no flag says. What is there stays; only the stubs for editors are written anew"
    .. " by a newer program.",
  run = function(ctx)
    local dir = require("config.load").absolute(ctx.args.DIR or ".")
    local recipe = ctx.flags.recipe
    if recipe and not sys.embedded(("scripts/recipes/%s.lua"):format(recipe)) then
      local s = require "base.schema"
      ctx:complain(("there is no recipe %s"):format(s.quote(recipe)), s.meant(recipe, recipes()))
      return 2
    end
    local files = {}
    local folder = require("people.setup.folder").new(dir, function(what, path, why)
      files[#files + 1] = { what = what, path = path, why = why }
      if ctx.json then return end
      ctx.out:line(("%-9s %s%s"):format(what, term.clean(path), why and (" (%s)"):format(why) or ""))
    end)
    if not add_configuration(ctx, folder) then return 2 end
    local scripts, stubs = scripts_of(folder), require "policy.stubs"
    folder:refresh(scripts .. "/" .. STUBS, stubs.files(), stubs.MARK)
    folder:add(scripts .. "/.luarc.json", editor_settings "")
    folder:add(".luarc.json", editor_settings(scripts))
    local done = {}
    for _, name in ipairs(ctx.flags.policies and policies() or {}) do
      add_script(folder, scripts, "scripts", name, done)
    end
    if recipe then add_script(folder, scripts, "scripts/recipes", recipe, done) end
    if ctx.json then ctx:print_json { dir = dir, files = files } else say_next(ctx, dir) end
    return 0
  end,
}
