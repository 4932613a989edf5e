-- What `check` finds in a policy without running it: words that nothing has, each with its line and what was meant.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, policy, sys = require "fs", require "policy.load", require "base.sys"
require "engine" -- with the words of places and runs
local test, eq, ok = check.test, check.eq, check.ok

local function unknown(text)
  local compiled, fault = policy.compile("probe", text, "scripts/probe.lua")
  return policy.unknown(ok(compiled, fault and fault.message))
end

local function found(text)
  local list = {}
  for i, f in ipairs(unknown(text)) do list[i] = ("%d %s|%s"):format(f.line, f.message, f.suggestion or "") end
  return list
end

test("misspelt words are found wherever they stand, with what was meant", function()
  eq(found [[
local http, time = require "http", require("time")
local function helper(place) return place:tgas(), http.gte("x") end
return policy {
  watch = function(place)
    if time.nwo() > 0 then return plcae:head() end
    for _, tag in ipairs(place:tags()) do
      if string.fnid(tag.name, "x") then tabel.sort({}) end
      local inner = function() return place:haed() end
      inner(helper)
    end
    return place.enviroment
  end,
  run = function(run, change)
    local image = run:imgae(change.commit)
    run:image(change.commit):tga("x")
    run:all { function() run:relase(image) end }
    if change then prnit(_G, math.floor(1.5), math.flor(1)) end
  end,
}]], {
    "2 a place has no 'tgas'|did you mean tags?", "2 http has no 'gte'|did you mean get?",
    "5 time has no 'nwo'|did you mean now?", "5 there is nothing called 'plcae'|did you mean place?",
    "7 string has no 'fnid'|did you mean find?", "7 there is nothing called 'tabel'|did you mean table?",
    "8 a place has no 'haed'|did you mean head?", "11 a place has no 'enviroment'|did you mean environment?",
    "14 a run has no 'imgae'|did you mean image?", "15 an image has no 'tga'|did you mean tag?",
    "16 a run has no 'relase'|did you mean release?", "17 there is nothing called 'prnit'|did you mean print?",
    "17 math has no 'flor'|did you mean floor?",
  })
end)

test("helpers that are given the run are looked at, and what only has that name is not", function()
  eq(found [[
local function prepare(run, commit) return run:imgae(commit) end
local function tell(run) return run.error, run.how end -- what place:failed gave
local function both(place, run)
  return function() return place:heda(), run:realease(place) end
end
return policy { watch = both, run = function(r, change) prepare(r) tell(change) return r:nfo() end }]], {
    "1 a run has no 'imgae'|did you mean image?", "4 a place has no 'heda'|did you mean head?",
    "4 a run has no 'realease'|did you mean release?", "6 a run has no 'nfo'|",
  })
end)

test("a word in the wrong half says which half has it, and where nothing is near, what there is", function()
  eq(found [[
return policy {
  watch = function(place) run:log("x") return place:release() end,
  run = function(run, change)
    run:image(change.commit):psuh()
    run:tags()
    place:head()
    os.execute("ls")
    whatever()
  end,
}]], {
    "2 there is nothing called 'run'|run(run, change) is given it",
    "2 a place has no 'release'|only a run has it: run(run, change)",
    "4 an image has no 'psuh'|there are: built, commit, digest, image, repository, tag",
    "5 a run has no 'tags'|only a place has it: watch(place)",
    "6 there is nothing called 'place'|watch(place) is given it",
    "7 os has no 'execute'|there are: clock, time", "8 there is nothing called 'whatever'|",
  })
end)

test("a dot where a colon belongs is found, and a colon where a dot does", function()
  eq(found [[
local http = require "http"
return policy {
  watch = function(place)
    local head = place.head
    return head(place) or place.head(place) or place.name or place.head()
  end,
  run = function(run, change)
    local image = run.image(change.commit)
    image.tag("x")
    pcall(run.release, run, image)
    run:all { function() run.release(image) end }
    http:get("x")
    return string:upper()
  end,
}]], {
    "5 place.head is called with a colon|write place:head(...)",
    "8 run.image is called with a colon|write run:image(...)",
    "9 image.tag is called with a colon|write image:tag(...)",
    "11 run.release is called with a colon|write run:release(...)",
    "12 http:get is called with a dot|write http.get(...)",
    "13 string:upper is called with a dot|write string.upper(...)",
  })
end)

test("what is not known is left to its run", function()
  eq(found [[
local words = { head = function() end }
local function of(t, name) return t[name] end
return policy {
  watch = function(place)
    local other = place:current()
    if other then other.whatever = 1 end
    words.anything = other
    local name = "he" .. "ad"
    local found = place[name] or of(place, "nothing")
    place = words
    return found, place:anything(), ("x"):rep(3), other and other.digest:nope()
  end,
  run = function(run, change)
    local function describe(run) return run.error, run.id end
    describe(change.data.more)
    goto out
    ::out::
    for i = 1, 3 do run:log("%d", i) end
  end,
}]], {})
end)

test("nothing is found in the policies of the program", function()
  for _, path in ipairs(sys.embedded_list()) do
    local name = path:match "^scripts/([^/]+)%.lua$"
    if name then eq(policy.unknown(ok(policy.compile(name, sys.embedded(path), path))), {}, path) end
  end
end)

test("many faults come by line, from large files, too", function()
  local lines = { "return policy { run = function() end, watch = function(place)" }
  for i = 1, 3000 do lines[#lines + 1] = ("local x%d = place:haed() x%d = nothing%d"):format(i % 3, i % 3, i % 7) end
  local text = table.concat(lines, " end do\n") .. " end } "
  text = text:gsub("watch = function%(place%) end do", "watch = function(place) do", 1):gsub(" end } $", " end end }")
  local list = unknown(text)
  eq(#list, 100, "enough to begin with")
  for i = 2, #list do ok(list[i - 1].line <= list[i].line) end
  eq(list[100].line, 51)
end)

test("a folder of policies is judged so when it is loaded, and a run under way is not", function()
  local dir <close> = ok(fs.temp_dir())
  ok(fs.write(dir.path .. "/staging.lua",
    "return policy { watch = function(place)\n return place:haed() end, run = function() end }"))
  local policies, faults = policy.load({ "staging", "rollback" }, dir.path)
  eq(policies, nil)
  eq({ #faults, faults[1].line, faults[1].suggestion }, { 1, 2, "did you mean head?" })
  ok(policy.compile("staging", ok(fs.read(dir.path .. "/staging.lua")), "scripts/staging.lua"))
  ok(fs.write(dir.path .. "/staging.lua", "return polcy {}"))
  policies, faults = policy.load({ "staging" }, dir.path)
  eq({ policies, #faults, faults[1].line, faults[1].suggestion }, { nil, 1, 1, "did you mean policy?" })
end)

test("a constant window, schedule or zone that is wrong is found where it stands", function()
  local said = found [[
local time = require "time"
local NIGHTLY <const> = "daily 25:00"
return policy {
  watch = function(place)
    if not time.within("Mon-Fry 9-17", "Europe/Berlin") then return nil, "closed" end
    if time.clock("Europe/Berln").hour > 3 then return nil, "late" end
    local last = time.last(NIGHTLY, "UTC", 7)
    local zone = place.name
    local open = place:window { "Mon 9-17", zone = "Mars" }
    return time.within(zone, zone), time.next("hourly", zone), last, open, time.within("always")
  end,
  run = function(run, change)
    run:window { "Mon-Fri 9-25", zone = change.zone, deadline = "3d" }
    run:window { change.window, zone = "UTC" }
    run:window "Fri 9"
    run:window { deadline = "1h", "Mon-Fri 9:00-17:00" }
  end,
}]]
  local lines = {}
  for i, line in ipairs(said) do lines[i] = line:match "^(%d+) " end
  eq(lines, { "5", "6", "7", "9", "13", "15" })
  for i, part in ipairs {
    '"Mon-Fry" at character 1', 'did you mean "Europe/Berlin"', '"25:00" at character 7', 'no time zone "Mars"',
    '"9-25" at character 9', "a window ends, too",
  } do
    ok(said[i]:find(part, 1, true), said[i])
  end
end)
