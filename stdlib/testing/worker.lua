-- Runs the tests of one file in this process and reports on the standard output, a line of JSON for each event:
-- `moontide test` starts a process for each file, so that nothing that a test does reaches another one.
--
-- A test is a script of others: it runs in the policies' sandbox within limits, and what it opens is simulated.
local errors, json, policy, sys, task = require "errors", require "json", require "policy.load", require "base.sys",
  require "task"
local lines, words = require "testing.lines", require "testing.words"

local M = {}

-- Limits of a test's own code; what it waits for costs nothing of them.
local LIMITS <const> = { cpu = 5, memory = 256 << 20 }

---@class TestWorker
---@field file TestFile
---@field tests {name: string, fn: fun(), where: string}[]
---@field options table
---@field running? {index: integer, story: string[]}

local function send(event) sys.write(1, json.encode(event) .. "\n") end

-- What a test raised, where it is raised.
local function raised(value)
  local err = policy.raised(value)
  if errors.made(value) then err.got, err.expected = rawget(value, "got"), rawget(value, "expected") end
  return err
end

-- Lua's own messages begin with the place, which is reported apart.
local function plain(message)
  return (message:gsub("^[^\n:]+:%d+: ", "", 1))
end

-- How a test failed, as plain data.
local function failure_of(self, err)
  local where = type(err.where) == "string" and err.where or nil
  if where then -- Lua shortens long names
    local rest = where:match("^%.%.%.(.*):%d+$")
    if rest and self.file.path:sub(-#rest) == rest then where = self.file.path .. where:match(":%d+$") end
  end
  local message = err.message or "it failed"
  if err.code == "budget" then
    message = ("its own code used more than %d s of processor time"):format(LIMITS.cpu)
  elseif err.code == "memory" then
    message = ("its own code used more than %d MiB of memory"):format(LIMITS.memory >> 20)
  end
  return {
    message = lines.of(plain(message)), where = where and lines.one(where) or nil,
    got = err.got and lines.of(err.got) or nil, expected = err.expected and lines.of(err.expected) or nil,
  }
end

-- Runs a function of the file within the limits.
---@return Err? err
local function limited(fn, ...)
  local function whole(...)
    fn(...)
    return true
  end
  local limits = { name = "test", cpu = LIMITS.cpu, memory = LIMITS.memory, handler = raised }
  local running <close> = task.start(limits, whole, ...)
  local ok, err = running:join()
  if not ok then return errors.is(err) and err or errors.clean(err) end
end

local function note(self, text)
  local story = self.running and self.running.story
  for _, line in ipairs(lines.of(text)) do
    if story then story[#story + 1] = line end
  end
end

-- What a test file sees.
local function environment(self)
  local env = policy.environment()
  local given = {}
  function given.test(name, fn)
    if type(name) ~= "string" or type(fn) ~= "function" then
      error("usage: test(\"what it proves\", function(world) ... end)", 2)
    end
    if self.running then error("a test cannot hold another one", 2) end
    self.tests[#self.tests + 1] = { name = lines.one(name), fn = fn, where = sys.script_line() or self.file.path }
  end
  function given.print(...)
    local parts = table.pack(...)
    for i = 1, parts.n do parts[i] = env.tostring(parts[i]) end
    note(self, "print: " .. table.concat(parts, "  "))
  end
  for name, word in pairs(words) do given[name] = word end
  for name, word in pairs(given) do rawset(env, name, word) end
  rawset(env, "policy", nil)
  return env
end

-- Loads the file: its tests register themselves.
---@return Err? err
local function load(self)
  local text, why = sys.slurp(self.file.path)
  if not text then return errors.new("invalid", "it cannot be read: " .. (why or "it is not there")) end
  local chunk, message = sys.compile(text, "@" .. self.file.path, environment(self))
  if not chunk then
    return errors.new("script", message --[[@as string]], { where = message:match("^([^\n]-:%d+):") })
  end
  return limited(chunk)
end

-- Reports how the test that runs ended.
local function over(self, err)
  local running = self.running
  if not running then return end
  self.running = nil
  local ended = { ended = running.index, ok = err == nil }
  if err then
    ended.failure = failure_of(self, err)
    ended.failure.where = ended.failure.where or self.tests[running.index].where
    ended.failure.story = lines.last(running.story)
  end
  send(ended)
end

-- Runs one test.
local function run(self, index)
  local test = self.tests[index]
  self.running = { index = index, story = {} }
  send { began = index, name = test.name, where = test.where }
  local err = limited(test.fn)
  over(self, err)
end

-- Tells which lines ran until now: pairs of line and count for each file that is no test.
local function covered(self)
  if not self.options.coverage then return end
  local files = {}
  for file, counts in pairs(sys.covered()) do
    if not file:find("_test%.lua$") then
      local list = {}
      for line, count in pairs(counts) do list[#list + 1], list[#list + 2] = line, count end
      files[file] = list
    end
  end
  send { covered = files }
end

-- Runs the file's tests.
local function all(self)
  local options = self.options
  if options.coverage then sys.cover() end
  local err = load(self)
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
---@param options {name?: string, after?: integer, coverage?: boolean} `after`: begin behind so many tests.
---@return integer exit_code
function M.run(file, options)
  local self = { file = file, options = options, tests = {} }
  local running = task.start({ name = "tests" }, all, self)
  local _ <close> = task.spawn(obey, running)
  local ok, err = running:join()
  if not ok and errors.is(err, "cancelled") then
    over(self, errors.new("timeout", "it went on for too long and was ended"))
  elseif not ok and err then
    error(err, 0)
  end
  return 0
end

return M
