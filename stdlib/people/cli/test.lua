-- moontide test: the tests of policies and shared modules, in a simulated world.
local sys, task, testing, tap = require "base.sys", require "task", require "testing", require "testing.tap"

-- The scripts folder, however broken the configuration is; none is needed.
local function scripts_of(ctx)
  if ctx.flags.scripts then return ctx.flags.scripts end
  if ctx.flags.config or require("config.load").find() then
    local config, faults, partial = ctx:load_config()
    config = config or partial
    if config and config.scripts then return config.scripts end
    if not config and ctx.flags.config then
      for _, fault in ipairs(faults or {}) do ctx:show_fault(fault) end
      return nil
    end
  end
  return "scripts"
end

local function verdicts(results)
  local failed = 0
  for _, result in ipairs(results) do
    if not result.ok then failed = failed + 1 end
  end
  return #results - failed, failed
end

local function write(ctx, path, text)
  local ok, err = require("fs").write(path, text)
  if not ok then ctx:complain(("%s cannot be written: %s"):format(path, err.message)) end
  return ok
end

-- Of the whole scripts folder, unless only some of its tests were asked for.
local function covered_files(ctx, files, counts)
  local folders = {}
  if #ctx.args == 0 and not ctx.flags.name then folders = { files[1].scripts } end
  return require("testing.coverage").files(folders, counts)
end

-- Runs them once.
---@return integer exit_code
local function run(ctx, files)
  local report = not ctx.json and tap.new(ctx.out) or nil
  local flags = ctx.flags
  local results, counts = testing.run(files, {
    name = flags.name, timeout = flags.timeout, only = flags.only, coverage = flags.coverage or flags.lcov ~= nil,
    on_result = report and function(result) report:add(result) end,
  })
  local passed, failed = verdicts(results)
  if report then report:finish() end
  local covered = (flags.coverage or flags.lcov) and covered_files(ctx, files, counts) or nil
  if flags.junit and not write(ctx, flags.junit, require("testing.junit").of(results)) then return 2 end
  if flags.lcov and not write(ctx, flags.lcov, require("testing.coverage").lcov(covered)) then return 2 end
  if flags.coverage and report then require("testing.coverage").print(ctx.out, covered) end
  if ctx.json then
    for _, file in ipairs(covered or {}) do file.lines = nil end
    ctx:print_json { passed = passed, failed = failed, tests = results, coverage = covered }
  end
  if report then report:summary() end
  if #results == 0 then
    ctx:complain(ctx.flags.name and ("no test has %q in its name"):format(ctx.flags.name) or "the files hold no test")
    return 2
  end
  return failed == 0 and 0 or 1
end

-- Runs them now and whenever a script was saved, until it is told to stop.
---@return integer exit_code Of the last run.
local function watch(ctx, scripts, once)
  local folders, last = { scripts }, 0
  for _, word in ipairs(ctx.args) do
    local folder = word:match("^(.*)/[^/]*$")
    if folder and folder ~= scripts then folders[#folders + 1] = folder end
  end
  sys.catch("TERM", "INT")
  local watching <close> = task.spawn(require("testing.watch").run, folders, function()
    if ctx.out.tty then ctx.out:write "\27[2J\27[H" end
    last = once()
  end)
  sys.next_signal()
  watching:cancel()
  return last
end

---@type Command
return {
  summary = "run the tests of policies in a simulated world",
  args = { { name = "FILES", optional = true, many = true, doc = "tests, policies or folders; all of the scripts folder"
    .. " without any" } },
  flags = {
    { name = "name", value = "PART", doc = "only tests with that in their name" },
    { name = "junit", value = "FILE", doc = "write the results as JUnit's XML, too" },
    { name = "only", value = "K", number = { min = 1, max = 1000000 },
      doc = "of the lives of everywhere and the worlds of explore, only the one that a failure named" },
    { name = "coverage", doc = "show which lines of policies and shared modules the tests reached" },
    { name = "lcov", value = "FILE", doc = "write that as lcov's tracefile, for genhtml and CI servers" },
    { name = "watch", doc = "run them again whenever a policy, a shared module or a test was saved" },
    { name = "timeout", value = "SECONDS", number = { min = 1, max = 86400 },
      doc = "real time after which a test that gives no sign of life is ended (60)" },
    { name = "worker", hidden = true, doc = "run the one file in this process" },
    { name = "after", value = "N", hidden = true, number = { min = 0, max = 1000000 }, doc = "begin behind so many" },
  },
  example = "moontide test scripts/staging_test.lua --name reset",
  more = "The tests of NAME.lua are NAME_test.lua beside it. What is printed is TAP 14, then `N passed, N failed`."
    .. " Exit codes: 0 all passed, 1 some failed, 2 there was nothing to run.",
  run = function(ctx)
    if ctx.flags.worker then
      return require("testing.worker").run({ path = assert(ctx.args[1]), scripts = ctx.flags.scripts },
        { name = ctx.flags.name, after = ctx.flags.after, coverage = ctx.flags.coverage, only = ctx.flags.only })
    end
    local scripts = scripts_of(ctx)
    if not scripts then return 2 end
    local function once()
      local files, problem = require("testing.find").files(table.move(ctx.args, 1, #ctx.args, 1, {}), scripts)
      if files then return run(ctx, files) end
      ctx:complain(problem)
      return 2
    end
    if not ctx.flags.watch then return once() end
    return watch(ctx, scripts, once)
  end,
}
