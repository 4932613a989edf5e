-- What calls hand out to policies: each is walked, taken apart and filled with forgeries, and whoever calls next must
-- see nothing of it. The list is golden: a word or a function without a line here fails the test.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-parameter -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local ask, effects, facade = require "engine.ask", require "policy.effects", require "base.facade"
local fs, json, sim = require "fs", require "json", require "sim"
local policy = require "policy.load"
local chart_museum, herds, httpd = require "cluster.chart_museum", require "fixture.herd", require "fixture.httpd"
local test, eq, ok = check.test, check.eq, check.ok

-- name = what it gives: the call. A call that raises gives its error.
local MODULES <const> = [[
errors.fail = nil: errors.fail("failed", "why")
errors.is = boolean: errors.is(errors.new("failed", "why"))
errors.new = table: errors.new("failed", "why", { op = "x" })
errors.wrap = table: errors.wrap("why")
fs.append = table: fs.append("b", "x")
fs.exists = boolean: fs.exists("a")
fs.join = string: fs.join("/root", "a")
fs.list = table: fs.list(".")
fs.mkdir = table: fs.mkdir("d", { parents = true })
fs.read = string: fs.read("a")
fs.remove = table: fs.remove("none")
fs.rename = table: fs.rename("a", "a")
fs.stat = table: fs.stat("a")
fs.write = table: fs.write("b", "x")
hash.base64 = string: hash.base64("x")
hash.equal = boolean: hash.equal("x", "y")
hash.hex = string: hash.hex("x")
hash.hmac_sha256 = string: hash.hmac_sha256("k", "x")
hash.random = string: #hash.random(8) .. ""
hash.sha256 = string: hash.sha256("x")
hash.unbase64 = string: hash.unbase64("eA==")
hash.unhex = string: hash.unhex("78")
http.delete = table: http.delete(URL)
http.expect = table: http.expect(http.get(URL))
http.get = table: http.get(URL)
http.head = table: http.head(URL)
http.patch = table: http.patch(URL, "x")
http.post = table: http.post(URL, "x")
http.put = table: http.put(URL, "x")
http.request = table: http.request { url = URL }
json.array = table: json.array { 1 }
json.decode = table: json.decode('{"a":[1,{"b":null}],"c":[]}')
json.encode = string: json.encode { 1 }
json.is_array = boolean: json.is_array(json.array())
json.null = userdata: json.null
log.debug = nil: log.debug("x", { a = { 1 } })
log.error = nil: log.error("x")
log.info = nil: log.info("x")
log.redact = string: log.redact("x")
log.warn = nil: log.warn("x")
proc.check = table: proc.check({ ok = true, code = 0 })
proc.run = table: proc.run { "/bin/true" }
proc.spawn = table: proc.spawn { "/bin/true" }
semver.allows = boolean: semver.allows("minor", "1.0.0", "1.1.0")
semver.compare = number: semver.compare("1.0.0", "1.1.0")
semver.parse = table: semver.parse("1.0.0-rc.1+b")
semver.satisfies = boolean: semver.satisfies("1.0.0", "^1")
semver.sort = table: semver.sort { "1.1.0", "1.0.0" }
semver.tag = table: semver.tag("v1.0.0")
task.all = table: task.all { function() return { 1 } end }
task.deadline = table: task.deadline(5, function() return { 1 } end)
task.signal = OBJECT: task.signal()
task.spawn = OBJECT: task.spawn(function() return { 1 } end)
time.clock = table: time.clock(0)
time.iso = string: time.iso(0)
time.last = number: time.last("daily 02:30", "UTC", 0)
time.monotonic = string: type(time.monotonic())
time.next = number: time.next("daily 02:30", "UTC", 0)
time.now = string: type(time.now())
time.parse_iso = number: time.parse_iso("2024-01-01T00:00:00Z")
time.sleep = nil: time.sleep(0)
time.within = boolean: time.within("Mon-Fri 9-17", "UTC", 0)
time.words = string: time.words(61)
yaml.decode = table: yaml.decode("a: [1, {b: ~}]")
yaml.decode_all = table: yaml.decode_all("a: [1]")
yaml.encode = string: yaml.encode { 1 }
]]

local PLACE <const> = [[
accept = string: place.accept
branch = string: place.branch
environment = string: place.environment
name = string: place.name
settings = table: place.settings
alarm = nil: place:alarm("v9", "why")
allows = boolean: place:allows("1.1.0")
bad_release = table: place:bad_release()
branches = table: place:branches("*")
bundle = table: place:bundle { { name = "api", version = "1.0.0" } }
candidates = string: place:candidates { name = "x", tag = "1" }
charts = table: place:charts()
current = table: place:current()
failed = table: place:failed(KEY)
commits = table: place:commits(nil, place:head().commit)
found = nil: place:found()
of = table: place:of("staging")
proved = nil: place:proved("production", place:head().commit)
frozen = nil: place:frozen()
good_before = table: place:good_before(2)
head = table: place:head()
refuse = nil: place:refuse("v8", "why")
tags = table: place:tags()
update = string: place:update({ name = "x", tag = "1" }, { tag = "2" })
window = boolean: place:window("always")
workload = string: place:workload()
]]

local RUN <const> = [[
app = string: run.app
by = nil: run.by
environment = string: run.environment
id = number: run.id
kind = string: run.kind
settings = table: run.settings
adopt = nil: run:adopt()
all = table: run:all { function() return { 1 } end }
approval = nil: run:approval { id = "x", votes = 0 }
chart = table: run:chart("charts/x", { commit = change.commit, version = "1.0.0" })
destroy = table: run:destroy()
good_before = table: run:good_before(2)
image = table: run:image(change.commit)
log = nil: run:log("x")
mark_bad = nil: run:mark_bad(3, "why")
metric = string: select(2, pcall(run.metric, run, {}))
notify = nil: run:notify("x")
now = string: type(run:now())
overtaken = boolean: run:overtaken(1)
publish = table: run:publish(change.commit)
release = nil: run:release(run:image(change.commit), { version = "1.2.3" })
restore = nil: run:restore(run:good_before(2))
retry = table: run:retry(1, function() return { 1 } end)
sleep = nil: run:sleep(0)
step = table: run:step("own", nil, function() return { 1, { 2 } } end)
window = nil: run:window { "always" }
hold = nil: run:hold("why")
]]

local IMAGE <const> = [[
built = string: type(run:image(change.commit).built)
commit = string: run:image(change.commit).commit
digest = string: run:image(change.commit).digest
image = string: run:image(change.commit).image
repository = string: run:image(change.commit).repository
tag = table: run:image(change.commit):tag("x")
]]

-- What an attacker would try, in a policy's own words.
local ATTACK <const> = [[
local errors, fs, hash, http, json, log = require "errors", require "fs", require "hash", require "http",
  require "json", require "log"
local proc, semver, task, time, yaml = require "proc", require "semver", require "task", require "time", require "yaml"
local URL, KEY = "%s", "%s"

local DOORS = {
  "__index", "__newindex", "__metatable", "__close", "__pairs", "__name", "raw", "handle", "class", "new", "headers",
  "read", "write", "wait", "kill", "lines", "close", "join", "cancel", "done", "notify", "json", "link", "all", "tag",
  "head", "tags", "release", "message", "code", "etag", 1, 2, 3,
}

local function describe(v, depth)
  if type(v) == "string" then return v:sub(1, 300) end
  if type(v) ~= "table" and type(v) ~= "userdata" then return tostring(v) end
  local parts = {}
  for _, name in ipairs(DOORS) do
    local fine, inner = pcall(function() return v[name] end)
    if fine and inner ~= nil then parts[#parts + 1] = tostring(name) .. ":" .. type(inner) end
  end
  if depth < 5 then
    pcall(function()
      for k, inner in pairs(v) do
        if k ~= "elapsed" and k ~= "built" and k ~= "traceback" then
          parts[#parts + 1] = tostring(k) .. "=" .. describe(inner, depth + 1)
        end
      end
    end)
  end
  return "{" .. table.concat(parts, " ") .. "}"
end

local function forged() return "FORGED" end

local function spoil(v, seen)
  if type(v) ~= "table" and type(v) ~= "userdata" or #seen > 200 then return end
  seen[#seen + 1] = v
  local inside = {}
  for _, name in ipairs(DOORS) do
    local fine, inner = pcall(function() return v[name] end)
    if fine then inside[#inside + 1] = inner end
  end
  local keys = {}
  pcall(function() for k, inner in pairs(v) do keys[#keys + 1], inside[#inside + 1] = k, inner end end)
  pcall(function() local meta = getmetatable(v) inside[#inside + 1] = meta end)
  for _, inner in ipairs(inside) do
    local known = false
    for _, other in ipairs(seen) do known = known or rawequal(inner, other) end
    if not known then spoil(inner, seen) end
  end
  for _, list in ipairs { keys, DOORS } do
    for _, k in ipairs(list) do
      pcall(rawset, v, k, forged)
      pcall(function() v[k] = forged end)
    end
  end
  pcall(setmetatable, v, { __index = forged })
end

local told = {}
local function probe(name, call)
  local function once()
    local results = table.pack(pcall(call))
    local parts = {}
    for i = results[1] and 2 or 1, results.n do parts[#parts + 1] = describe(results[i], 0) end
    local kind = type(results[2])
    for i = 2, results.n do spoil(results[i], {}) end
    return kind, table.concat(parts, " , ")
  end
  local kind, first = once()
  local _, second = once()
  if first ~= second then error(name .. " gave " .. first .. " and then " .. second, 0) end
  told[#told + 1] = name .. " = " .. kind .. " " .. first
end
]]

local function lines(list)
  local all = {}
  for name, kind, code in list:gmatch("([%w_.]+) = (%w+): ([^\n]+)\n") do
    all[#all + 1] = { name = name, kind = kind, code = code }
  end
  return all
end

local function names(list)
  local all = {}
  for _, line in ipairs(lines(list)) do all[#all + 1] = line.name end
  table.sort(all)
  return table.concat(all, " ")
end

local function probes(...)
  local code = {}
  for _, list in ipairs { ... } do
    for _, line in ipairs(lines(list)) do
      code[#code + 1] = ("probe(%q, function() return %s end)"):format(line.name, line.code)
    end
  end
  return table.concat(code, "\n")
end

local function shape(kind)
  require(kind == "place" and "policy.place" or "policy.run")
  local found = facade.shape(kind)
  local all = { table.unpack(found.fields) }
  table.move(found.methods, 1, #found.methods, #all + 1, all)
  table.sort(all)
  return table.concat(all, " ")
end

test("the golden list has every function and word that policies find", function()
  eq(names(MODULES), table.concat(effects.names(), " "))
  eq(names(PLACE), shape "place")
  eq(names(RUN), shape "run")
  eq(names(IMAGE), shape "image")
end)

-- A simulated world with two good releases and a bad one behind it, whose staging has this watch and this run.
local function stage(watch, run)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local scripts = dir.path .. "/scripts"
  assert(fs.mkdir(scripts))
  local quiet = "return policy { watch = function() return nil, 'quiet' end, run = function() end }"
  assert(fs.write(scripts .. "/production.lua", quiet))
  local s = { world = sim.open(dir.path .. "/world"), dir = dir.path }
  local function open()
    s.host = sim.host(s.world, dir.path .. "/state", { scripts = scripts, rollback = false })
    local target_of = s.host.world.target
    function s.host.world.target(environment)
      local target = target_of(environment)
      target.destroy = false -- all that is released here stays
      return target
    end
  end
  assert(fs.write(scripts .. "/staging.lua", [[return policy {
    watch = function(place) return place:head() end,
    run = function(run, change) run:release(run:image(change.commit), { version = "1.0." .. run.id }) end,
  }]]))
  s.world:trouble("bad", "check")
  for _, name in ipairs { "a", "b", "bad" } do
    s.world:push("main", name)
    open()
    sim.settle(s.host)
    s.host:close()
  end
  s.world:tag("v1.0.0", "a")
  local attack = ATTACK:format(httpd.open():to("multi"), sim.commit "bad")
  assert(fs.write(scripts .. "/staging.lua", ("%s\nreturn policy { watch = function(place)\n%s\nend,\n"
    .. "run = function(run, change)\n%s\nend }"):format(attack, watch, run)))
  open()
  check.defer(function() s.host:close() end)
  s.place, s.policy = s.host:place("web", "staging"), s.host.policies.staging
  local folder = s.place:folder()
  assert(fs.write(folder .. "/a", "content"))
  assert(fs.write(folder .. "/b", ""))
  assert(fs.mkdir(folder .. "/d"))
  return s
end

-- The kinds that were told are those of the list. What waits, or is somebody's handle, is one object or the other.
local function kinds(told, ...)
  local found = {}
  for name, kind in ("\n" .. told):gmatch("\n([%w_.]+) = (%w+)") do found[name] = kind end
  for _, list in ipairs { ... } do
    for _, line in ipairs(lines(list)) do
      local kind = found[line.name]
      if line.kind == "OBJECT" then
        ok(kind == "table" or kind == "userdata", line.name)
      else
        eq(kind, line.kind, line.name)
      end
    end
  end
end

test("what a watch gets can be taken apart, and the next one sees nothing of it", function()
  local body = probes(MODULES, PLACE) .. "\nreturn nil, table.concat(told, '\\n')"
  local s = stage(body, "")
  local first = ask.ask(s.place, s.policy)
  ok(first.reason, first.err)
  local second = ask.ask(s.place, s.policy)
  eq(second.reason, first.reason)
  kinds(first.reason, PLACE)
  eq(first.reason:find("FORGED", 1, true), nil)
end)

test("what a run gets can be taken apart, and the next one sees nothing of it", function()
  local tell = "\nrun:step('told', told, function() return table.concat(told, '\\n') end)"
  local body = probes(IMAGE, MODULES, RUN) .. tell
  local s = stage("return place:head()", body)
  local texts = {}
  for i, name in ipairs { "c", "d" } do
    s.world:push("main", name)
    sim.settle(s.host)
    assert(s.host:unhold { app = "web", environment = "staging", by = "a person" })
    local run = s.host.journal:run_by_id(3 + i)
    eq(run.state, "done", run.error and run.error.message)
    for _, step in ipairs(s.host.journal:steps(run.id)) do
      if step.name == "step told" then texts[i] = json.decode(step.result).list[1].v end
    end
    kinds(texts[i], RUN)
    texts[i] = texts[i]:gsub(sim.commit(name), "COMMIT"):gsub("sha256:%x+", "DIGEST"):gsub("%d+", "N")
  end
  eq(texts[2], texts[1])
  eq(texts[1]:find("FORGED", 1, true), nil)
end)

-- Asks two fresh instances of a policy the same, and compares what they were told.
local function asked_twice(place, calls)
  local text = ("%s\nreturn policy { run = function() end, watch = function(place)\n%s\nreturn nil, "
    .. "table.concat(told, '\\n') end }"):format(ATTACK:format("", ""), calls)
  local compiled, fault = policy.compile("probe", text, "scripts/probe.lua")
  local first = ask.ask(place, ok(compiled, fault))
  ok(first.reason, first.err)
  eq(ask.ask(place, compiled).reason, first.reason)
  return first.reason
end

test("so it is with a workload of a cluster, its candidates and updates", function()
  local repository = "registry.invalid/team/web"
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local herd = herds.new()
  herd:put("deployment", "shop", "web", { ["keel.sh/policy"] = "minor", ["keel.sh/trigger"] = "poll" },
    { { "web", repository .. ":1.2.0" } })
  for _, tag in ipairs { "1.2.0", "1.3.0", "2.0.0" } do herd:push(repository, tag, tag) end
  local host = herd:host(dir.path .. "/state")
  check.defer(function() host:close() end)
  local told = asked_twice(host:place("shop/web", "deployment"), [[
    local function image() return place:workload().images[1] end
    local function best() local list = place:candidates(image()) return list[#list] end
    probe("workload", function() return place:workload() end)
    probe("candidates", function() return place:candidates(image()) end)
    probe("update", function() return place:update(image(), best()) end)]])
  check.has(told, "tag=1.3.0")
  check.has(told, "update = table")
end)

test("so it is with charts that are followed", function()
  local museum = chart_museum.open()
  museum:put("api", "1.2.3")
  museum:put("api", "1.3.0")
  local cfg = { chart_repositories = {}, credentials = {}, registries = {} }
  local shared = {
    journal = { live = function() end },
    world = { charts = function(where)
      return require("extensions.charts.repository").repository(where, { config = cfg })
    end },
  }
  local app = { name = "shop", poll = 60,
    charts = { api = { name = "api", chart = "api", repository = { url = museum.url } } } }
  local place = require("policy.place").maker(shared)(app,
    { name = "staging", accept = "minor", match_prerelease = true })
  local told = asked_twice(place, [[
    probe("charts", function() return place:charts() end)
    probe("bundle", function() return place:bundle { { name = "api", version = "1.3.0" } } end)]])
  check.has(told, "version=1.3.0")
  check.has(told, "bundle = table")
end)
