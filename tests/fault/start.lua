-- The start of the program itself, from before main to the end: each of its first allocations fails, then every
-- fortieth part further on, alone and with all that follow. It must say what is wrong and end with 70, or work.
--
-- With an argument, only that one: moontide exec tests/fault/start.lua 1234+
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local proc, sys = require "proc", require "base.sys"

local function start(plan)
  return assert(proc.run {
    sys.exe(), "version",
    env = { MOONTIDE_FAIL_ALLOCATION = plan, ASAN_OPTIONS = sys.env "ASAN_OPTIONS" }, timeout = 60,
  })
end

local failures = 0

-- False once the plan lies beyond the last allocation.
local function try(plan)
  local result = start(plan)
  local worked = result.code == 0 and result.stdout:find("^moontide ") ~= nil
  local told = result.code == 70 and result.stdout == "" and result.stderr:find "^moontide: [^\n]*memory[^\n]*\n$"
  if not (worked or told) then
    failures = failures + 1
    print(("not ok start, allocation %s: exit %s, %s"):format(plan, result.code or result.signal, result.stderr))
  end
  return not result.stderr:find("still to go", 1, true)
end

local only = sys.args()[3]
if only then
  try(only)
else
  local points = 0
  for _, rest in ipairs { "", "+" } do
    local n = 1
    while try(n .. rest) and failures < 20 do
      points = points + 1
      n = n + (n < 100 and 1 or n // 40)
    end
    assert(n > 1000, "the start takes far fewer allocations than it should: is this the fault build?")
  end
  print(("ok start of the program: %d points"):format(points))
end
return failures > 0 and 1 or 0
