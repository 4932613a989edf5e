-- Runs every test, each file in a process of its own: moontide exec tests/run.lua [FILTER...].
--
-- A filter is a part of a path (api/http, unit/, stdlib/git). Files in folders that start with a dot or underscore,
-- and in `slow` unless named, are left out; so is `cluster`, which needs one, unless a filter begins with that word.
-- Last line: N passed, N failed. With CI=true in the environment a failed file is run a second time; what then passes
-- is named in a line `flaky: NAME`.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local fs, proc, time = require "fs", require "proc", require "time"
local filters = { ... }
local LIMIT = 3600 -- seconds a file may take
-- Under CI a file that failed runs once more, alone as all do: when it then passes, it is named and the run goes on.
local again = require("base.sys").env "CI" == "true"
local INHERIT = {
  "PATH", "HOME", "XDG_CACHE_HOME", "MOONTIDE_CLUSTER", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "CI",
  "GOPROXY", "MOONTIDE_KEEL", "MOONTIDE_HELMSMAN", "MOONTIDE_CHARTMUSEUM",
}

local exe = require("base.sys").exe()
local units = exe:gsub("/[^/]+$", "") .. "/unit"

local function wanted(path)
  local apart = path:find("^cluster/")
  if #filters == 0 then return not apart and not path:find("/slow/", 1, true) end
  for _, filter in ipairs(filters) do
    if path:find(filter, 1, true) and (not apart or filter:find("^cluster")) then return true end
  end
  return false
end

local jobs = {}
for _, name in ipairs((fs.list(units)) or {}) do
  if name:match("_test$") and wanted("unit/" .. name) then
    jobs[#jobs + 1] = { label = "unit/" .. name, argv = { units .. "/" .. name } }
  end
end
for path in fs.walk("tests") do
  local file = path:match("^.+_test%.lua$")
  if file and wanted(file) then
    jobs[#jobs + 1] = { label = file:gsub("%.lua$", ""), argv = { exe, "exec", "tests/one.lua", "tests/" .. file } }
  end
end
table.sort(jobs, function(a, b) return a.label < b.label end)

-- Runs one file in a process of its own. Its numbers count only when it is kept.
local function run(job)
  local started, counted = time.monotonic(), nil
  local numbers = { passed = 0, failed = 0, skipped = 0 }
  print("# " .. job.label)
  local argv = {
    timeout = LIMIT, stderr = "stdout", max_output = 64 << 20, inherit = INHERIT,
    on_line = function(line)
      local p, f, s = line:match("^(%d+) passed, (%d+) failed,? ?(%d*)")
      if p then
        numbers = { passed = tonumber(p), failed = tonumber(f), skipped = tonumber(s) or 0 }
        counted = true
      else
        print(line)
      end
    end,
  }
  table.move(job.argv, 1, #job.argv, 1, argv)
  local result, err = proc.run(argv)
  if counted and numbers.passed + numbers.failed + numbers.skipped == 0 then
    numbers.failed = 1
    print("not ok " .. job.label .. ": it holds no test")
  elseif not counted or numbers.failed == 0 and not (result and result.code == 0) then
    numbers.failed = numbers.failed + 1
    print("not ok " .. job.label .. ": " .. (result and ("ended with exit status %s, signal %s"):format(
      tostring(result.code), tostring(result.signal)) or tostring(err)))
  end
  print(("# %s took %.1f s"):format(job.label, time.monotonic() - started))
  return numbers
end

local passed, failed, skipped, flaky = 0, 0, 0, {}
for _, job in ipairs(jobs) do
  local numbers = run(job)
  if numbers.failed > 0 and again then
    print("# " .. job.label .. " failed, and is run once more")
    numbers = run(job)
    if numbers.failed == 0 then flaky[#flaky + 1] = job.label end
  end
  passed, failed = passed + numbers.passed, failed + numbers.failed
  skipped = skipped + numbers.skipped
end
if #jobs == 0 then
  print("no test matches")
  failed = 1
end
for _, name in ipairs(flaky) do print("flaky: " .. name) end
print(("%d passed, %d failed%s"):format(passed, failed, skipped > 0 and (", %d skipped"):format(skipped) or ""))
return failed > 0 and 1 or 0
