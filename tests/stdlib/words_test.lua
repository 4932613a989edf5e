-- The reference of words against what policies and tests can really call, both ways; and what the pages name of it.
local check = require "check"
local fs, json, proc, sys = require "fs", require "json", require "proc", require "base.sys"
local facade, manual = require "base.facade", require "policy.manual"
local test, eq, ok = check.test, check.eq, check.ok

local sources = manual.sources()

local documented = {}
for _, source in ipairs(sources) do documented[source.name] = source end

test("every object's words are documented, and every documented word is there", function()
  local live = {}
  for _, object in ipairs(manual.OBJECTS) do
    require(object.module)
    for _, name in ipairs(facade.shape(object.kind).methods) do live[object.kind .. ":" .. name] = true end
  end
  for _, name in ipairs(require("policy.effects").names()) do live[name] = true end
  for name, source in pairs(documented) do
    if name:find "[.:]" then ok(live[name], name .. " is documented, and not there") end
    ok(#source.doc.text > 10, name .. " says nothing")
  end
  for name in pairs(live) do ok(documented[name], name .. " is there, and not documented") end
end)

test("modules give policies just what is documented", function()
  local effects = require "policy.effects"
  for name, source in pairs(documented) do
    local module, fn = name:match "^(%l+)%.([%w_]+)$"
    if module then
      local live = effects.require(module)[fn]
      eq({ name, source.value == nil }, { name, type(live) == "function" })
    end
  end
end)

-- What Lua has itself; the reference is about the rest.
local LUAS <const> = [[_G _VERSION assert error getmetatable ipairs next pairs pcall print rawequal rawget rawlen rawset
  require select setmetatable tonumber tostring type xpcall math string table utf8 os]]

-- The names that a file of the sandbox finds, of which kind it is: what it raises says them.
local function globals_of(name, make)
  local dir <close> = ok(fs.temp_dir())
  ok(fs.write(dir.path .. "/" .. name, make [[
    local names = {}
    for name in pairs(_G) do names[#names + 1] = name end
    error("names: " .. table.concat(names, " ") .. ".")]]))
  local run = ok(proc.run { sys.exe(), "test", dir.path .. "/" .. name, "-o", "json", timeout = 60 })
  local names = assert(run.stdout:match "names: ([%w_ ]+)%.", run.stdout .. run.stderr)
  local own = {}
  for found in names:gmatch "%S+" do
    if not (" " .. LUAS:gsub("%s+", " ") .. " "):find(" " .. found .. " ", 1, true) then own[found] = true end
  end
  return own
end

test("what a test's file finds is documented, and nothing else is said to be there", function()
  local own = globals_of("a_test.lua", function(body) return ('test("x", function() %s end)'):format(body) end)
  for name in pairs(own) do ok(documented[name], name .. " is there, and not documented") end
  eq(own.policy, nil) -- a policy is declared in a file of its own
  for name in pairs(documented) do
    if not name:find "[.:]" and name ~= "policy" then ok(own[name], name .. " is documented, and not there") end
  end
end)

test("the page about policies names what of Lua there is", function()
  local page = ok(fs.read "config/manual/policies.md")
  local base = assert(page:match "Of Lua there are `([^`]+)`")
  local libraries, of_os = page:match "the libraries `([^`]+)`, and of `os` only\n`([^`]+)`"
  local said, live = {}, {}
  for name in (base .. " " .. libraries .. " os _G _VERSION"):gmatch "%S+" do said[#said + 1] = name end
  for name in LUAS:gmatch "%S+" do live[#live + 1] = name end
  table.sort(said)
  table.sort(live)
  eq(said, live)
  local os_names = {}
  for name in pairs(require("policy.load").LIBRARIES.os) do os_names[#os_names + 1] = name end
  table.sort(os_names, function(a, b) return a > b end)
  eq(table.concat(os_names, " "), of_os)
end)

-- Types whose meaning a name may not tell.
local function obscure(kind) return kind == "table" or kind == "any" or kind == "function" end

test("every parameter has its type, and a meaning where that says nothing", function()
  local faults = {}
  for _, source in ipairs(sources) do
    local typed = {}
    for _, param in ipairs(source.doc.params) do
      typed[param.name] = true
      if param.type == "" then faults[#faults + 1] = source.name .. ": no type of " .. param.name end
      local told = source.doc.text:find("%f[%w]" .. param.name:gsub("%.", "%%.") .. "%f[%W]")
      if obscure(param.type) and param.doc == "" and not told then
        faults[#faults + 1] = ("%s: %s is %s, and what else?"):format(source.name, param.name, param.type)
      end
    end
    for _, arg in ipairs(source.doc.args) do
      if not typed[arg] then faults[#faults + 1] = source.name .. ": no parameter " .. arg end
    end
  end
  table.sort(faults)
  eq(table.concat(faults, "\n"), "")
end)

test("a word tells of the records that it takes and gives, and which of its modules policies have otherwise", function()
  local release = assert(manual.word "run:release")
  local names = {}
  for _, described in ipairs(assert(release.types)) do names[#names + 1] = described.name end
  eq(names, { "ReleaseOptions" })
  check.has(assert(manual.word "fs.read").doc, "below the app's own folder")
  check.has(assert(manual.word "time.now").doc, "recorded")
  check.has(assert(manual.word "http.get").doc, "A watch only gets")
  check.has(assert(manual.word "proc.run").doc, "Only in a run")
  local printed = json.decode(ok(proc.run { sys.exe(), "help", "policy", "-o", "json" }).stdout)
  eq(printed.words[1].types[1].name, "PolicyFile")
end)

-- Words that pages name: place:head, run:release, time.within, world:settle.
local function named(text, into, page)
  for code in text:gmatch "`([^`\n]+)`" do
    for object, word in code:gmatch "%f[%w](%l+):([%l_]+)%f[^%w_]" do
      for _, known in ipairs(manual.OBJECTS) do
        if known.kind == object then into[object .. ":" .. word] = page end
      end
    end
  end
end

test("every word that a page names is there", function()
  local words = {}
  for path in fs.walk "config/manual" do named(ok(fs.read("config/manual/" .. path)), words, path) end
  named(ok(fs.read "README.md"), words, "README.md")
  ok(words["place:head"])
  for word, page in pairs(words) do ok(documented[word], ("%s names %s, which is not there"):format(page, word)) end
end)
