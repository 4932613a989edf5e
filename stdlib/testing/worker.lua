-- Runs the tests of one file in this process and reports on the standard output, a line of JSON for each event:
-- `moontide test` starts a process for each file, so that nothing that a test does reaches another one.
--
-- A test is a script of others: it runs in the policies' sandbox within limits, and what it opens is simulated.
local errors, everywhere, explore = require "errors", require "testing.everywhere", require "testing.explore"
local json, policy = require "json", require "policy.load"
local lines, simulation, sys, task = require "testing.lines", require "simulation", require "base.sys", require "task"
local words, worlds = require "testing.words", require "testing.worlds"

local M = {}

local LIMITS <const> = worlds.LIMITS
local FOREVER <const> = 100 * 365 * 86400 -- virtual seconds

---@class RunningTest
---@field index integer
---@field world? TestWorld The one of the life that is told.
---@field story string[] Of the life before.
---@field said? string How much was tried.
---@field many? string "everywhere" or "explore", while it tells stories.

---@class TestWorker
---@field file TestFile
---@field tests {name: string, fn: fun(), options: table, where: string}[]
---@field options {name?: string, after?: integer, coverage?: boolean, only?: integer}
---@field commits table<string, string> The names that the test gave to commits, by their ids.
---@field running? RunningTest

local function send(event) sys.write(1, json.encode(event) .. "\n") end

-- What a test raised, where it is raised.
local function raised(value)
  local err = policy.raised(value) --[[@as any]]
  if errors.made(value) then err.got, err.expected = rawget(value, "got"), rawget(value, "expected") end
  return err
end

-- Paths below the working directory are shown from there; Lua shortens long ones.
local function shown(self, where)
  local rest = where:match("^%.%.%.(.*):%d+$")
  if rest and self.file.path:sub(-#rest) == rest then return self.file.path .. where:match(":%d+$") end
  local cwd = (sys.cwd() or "") .. "/"
  return lines.one(where:sub(1, #cwd) == cwd and where:sub(#cwd + 1) or where)
end

-- Commits by the names that the test gave them.
local function named(self, text)
  return text and lines.of((text:gsub('"(%x+)"', function(id)
    return self.commits[id] and ('commit "%s"'):format(self.commits[id])
  end)))
end

-- How a test failed, as plain data.
local function failure_of(self, err)
  local where, message = type(err.where) == "string" and err.where or nil, err.message or "it failed"
  if err.code == "budget" then
    message = ("its own code used more than %d s of processor time"):format(LIMITS.cpu)
  elseif err.code == "memory" then
    message = ("its own code used more than %d MiB of memory"):format(LIMITS.memory >> 20)
  end
  if where and message:sub(1, #where + 2) == where .. ": " then message = message:sub(#where + 3) end
  return {
    message = lines.of(message),
    where = where and shown(self, where), got = named(self, err.got), expected = named(self, err.expected),
  }
end

-- Runs a function of the file within the limits.
---@return Err? err
local function limited(fn, ...)
  local function whole(...)
    fn(...)
    return true
  end
  -- Detached: what a life may use is its own, whoever tells it.
  local limits = { name = "test", cpu = LIMITS.cpu, memory = LIMITS.memory, handler = raised, detached = true }
  local running <close> = task.start(limits, whole, ...)
  local ok, err = running:join()
  if not ok then return errors.is(err) and err or errors.clean(err) end
end

-- ---- stories ----

-- Makes the world of the next life of the test that runs.
local function open(self, options, disturb)
  local given = { scripts = self.file.scripts }
  for k, v in pairs(options) do given[k] = v end
  sys.virtual_time(simulation.START) -- each begins at the same time of the same day
  local world = worlds.new(given, disturb)
  self.running.world = world
  return world
end

-- Ends a world, and keeps its story.
local function close(self, world)
  local story = world:story()
  if #story > 0 then self.running.story = story end
  for id, name in pairs(world:names()) do self.commits[id] = name end
  world:close()
  send { alive = true }
end

-- Tells a story once in a world of its own.
---@return Life life
local function tell(self, fn, options, disturb)
  local world = open(self, options, disturb)
  local _ <close> = task.defer(function() close(self, world) end)
  local err = limited(fn, world.face)
  if err then return { err = err, places = world:places() } end
  return { outcome = everywhere.outcome(world), places = world:places() }
end

-- The running test, about to tell many stories: each of them tells one, so that what is tried does not multiply.
local function telling(self, word)
  local running = self.running --[[@as RunningTest]]
  if running.many then error(("%s inside of %s: a story tells no other ones"):format(word, running.many), 0) end
  running.many = word
  return running, task.defer(function() running.many = nil end)
end

local function told_everywhere(self, fn, options)
  local running, ended = telling(self, "everywhere")
  local _ <close> = ended
  local lives = everywhere.run(function(disturb) return tell(self, fn, options, disturb) end, self.options.only)
  running.said = ("%d lives"):format(lives)
end

local function told_randomly(self, seed, count, given)
  local running, ended = telling(self, "explore")
  local _ <close> = ended
  local worlds_tried = explore.run {
    seed = seed, count = count, only = self.options.only, apps = given.apps,
    open = function() return open(self, {}) end, close = function(world) close(self, world) end,
    check = given.invariant and function(face) return limited(given.invariant, face) end,
  }
  running.said = ("%d worlds"):format(worlds_tried)
end

-- ---- the file ----

-- Registers a test.
local function register(self, name, options, fn)
  if self.running then error("a test cannot hold another one", 3) end
  self.tests[#self.tests + 1] = {
    name = lines.one(name), options = options, fn = fn, where = sys.script_line() or self.file.path,
  }
end

-- Calls fn in a task that is none of the test's, and raises what it raises.
local function beside(fn)
  local running <close> = task.start({ name = "beside", detached = true }, function() return { pcall(fn) } end)
  local results, err = running:join()
  if not results then error(err, 0) end
  if not results[1] then error(results[2], 0) end
end

-- What a test file has besides what policies have.
local function vocabulary(self)
  local given = {}
  function given.commit(name)
    local id = simulation.commit(name)
    self.commits[id] = name
    return id
  end
  for _, name in ipairs { "equal", "has", "raises" } do given[name] = words[name] end
  function given.test(name, options, fn)
    if type(options) == "function" then options, fn = {}, options end
    if type(name) ~= "string" or type(fn) ~= "function" or type(options) ~= "table" then
      error("usage: test(\"what it proves\", function(world) ... end)", 2)
    end
    register(self, name, worlds.options(options), function(running)
      local life = tell(self, fn, running.options)
      if life.err then error(life.err, 0) end
    end)
  end
  function given.everywhere(name, fn)
    if type(name) == "function" then name, fn = nil, name end
    if type(fn) ~= "function" then error("usage: everywhere(function(world) ... end)", 2) end
    if not self.running then
      return register(self, name or "everywhere", {}, function() told_everywhere(self, fn, {}) end)
    end
    local options = self.tests[self.running.index].options
    beside(function() told_everywhere(self, fn, options) end)
  end
  function given.explore(seed, count, options)
    options = options or {}
    if math.type(seed) ~= "integer" or math.type(count) ~= "integer" or type(options) ~= "table" then
      error("usage: explore(seed, how many, { apps = { web = {...} }, invariant = function(world) ... end })", 2)
    end
    local plan = { apps = worlds.plain(rawget(options, "apps")), invariant = rawget(options, "invariant") }
    local function go() told_randomly(self, seed, count, plan) end
    if self.running then return beside(go) end
    register(self, ("explore(%d, %d)"):format(seed, count), {}, go)
  end
  function given.print(...)
    local parts = table.pack(...)
    for i = 1, parts.n do parts[i] = type(parts[i]) == "string" and parts[i] or words.show(parts[i]) end
    local world = self.running and self.running.world
    for _, line in ipairs(lines.of(table.concat(parts, "  "))) do
      if world then world:print("print: " .. line) end
    end
  end
  return given
end

-- Loads the file: its tests register themselves.
local function load(self)
  local path = self.file.path
  local text, why = sys.slurp(path)
  if not text then error(errors.new("invalid", "it cannot be read: " .. (why or "it is not there")), 0) end
  local run, fault = policy.script({ name = path, file = path, text = text }, self.file.scripts, vocabulary(self))
  if not run then
    error(errors.new("script", fault.message, { where = fault.line and ("%s:%d"):format(fault.file, fault.line) }), 0)
  end
  run()
end

-- ---- one after the other ----

-- Reports how the test that runs ended.
local function over(self, err)
  local running = self.running
  if not running then return end
  self.running = nil
  local ended = { ended = running.index, ok = err == nil, said = running.said }
  if err then
    ended.failure = failure_of(self, err)
    ended.failure.where = ended.failure.where or shown(self, self.tests[running.index].where)
    ended.failure.story = lines.last(running.world and not running.world.closed and running.world:story()
      or running.story)
  end
  send(ended)
end

-- Runs one test.
local function run(self, index)
  local test = self.tests[index]
  self.running = { index = index, story = {} }
  send { began = index, name = test.name, where = shown(self, test.where) }
  local ok, err = pcall(test.fn, test)
  if not ok and errors.is(err, "cancelled") then error(err, 0) end
  over(self, not ok and errors.wrap(err) or nil)
end

-- Tells which lines ran until now: pairs of line and count for each file that is no test.
local function covered(self)
  if not self.options.coverage then return end
  local files = {}
  for file, counts in pairs(sys.covered()) do
    if not file:find("_test%.lua$") then
      local list = {}
      for line, count in pairs(counts) do list[#list + 1], list[#list + 2] = line, count end
      files[shown(self, file)] = list
    end
  end
  send { covered = files }
end

-- Runs the file's tests.
local function all(self)
  local options = self.options
  if options.coverage then sys.cover() end
  local err = limited(load, self)
  if err then return send { broken = failure_of(self, err) } end
  for index, test in ipairs(self.tests) do
    if index > (options.after or 0) and (not options.name or test.name:find(options.name, 1, true)) then
      run(self, index)
      covered(self)
    end
  end
  send { done = true }
end

-- Told to end because it takes too long in real time, it still says where it is.
local function obey(running)
  sys.catch "TERM"
  sys.next_signal()
  running:cancel()
end

---Runs the tests of a file.
---@async
---@param file TestFile
---@param options {name?: string, after?: integer, coverage?: boolean, only?: integer} `after`: begin behind so many
--- tests; `only`: one life of everywhere, one world of explore.
---@return integer exit_code
function M.run(file, options)
  local self = { file = file, options = options, tests = {}, commits = {} } --[[@as TestWorker]]
  require("log").configure { level = "error" }
  sys.virtual_time(simulation.START)
  local running = task.start({ name = "tests" }, all, self)
  local _ <close> = task.spawn(obey, running)
  local ok, err = running:join(FOREVER)
  local at = self.running and self.running.world and self.running.world.at
  if errors.is(err, "timeout") then
    over(self, errors.new("timeout", "it waits for something that never comes", { where = at }))
  elseif errors.is(err, "cancelled") then
    over(self, errors.new("timeout", "it went on for too long and was ended", { where = at }))
  elseif not ok and err then
    error(err, 0)
  end
  return 0
end

return M
