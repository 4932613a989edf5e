-- What the manual says of time and of previews is so: its windows and schedules can be read, its policies load, its
-- configuration is one.
---@diagnostic disable: need-check-nil -- a nil fails the test
---@diagnostic disable: param-type-mismatch -- a nil fails the test
local check = require "check"
local errors, fs, load, policy, time = require "errors", require "fs", require "config.load", require "policy.load",
  require "time"
require "engine"
local test, eq, ok = check.test, check.eq, check.ok

local function page(name) return (assert(fs.read(("config/manual/%s.md"):format(name)))) end

local function blocks(text)
  local list = {}
  for block in text:gmatch "```lua\n(.-)```" do list[#list + 1] = block end
  return list
end

test("each window and schedule of the page of time can be read", function()
  local text = page "time"
  local windows, schedules = 0, 0
  for line in assert(text:match "| window | open |\n|[-|]+\n(.-)\n\n"):gmatch "[^\n]+" do
    for window in assert(line:match "^| (.-) | "):gmatch "`(.-)`" do
      if window ~= ";" then
        time.within(window, "Europe/Berlin")
        windows = windows + 1
      end
    end
  end
  for schedule in assert(text:match "## Schedules\n\n(.-);"):gmatch "`(.-)`" do
    time.next(schedule, "Europe/Berlin")
    schedules = schedules + 1
  end
  ok(windows >= 9 and schedules >= 6, windows .. " " .. schedules)
end)

test("each policy of the page of time loads, without a fault", function()
  local count = 0
  for _, block in ipairs(blocks(page "time")) do
    if block:find "^watch = " then
      local text = 'local time = require "time"\nreturn policy {\n' .. block .. "run = function() end, }"
      local compiled, fault = policy.compile("page", text, "page.lua")
      eq(policy.unknown(ok(compiled, fault and fault.message)), {})
      count = count + 1
    else
      local fine, why = pcall(assert(_G.load)("local require = ... " .. block), require)
      ok(fine, errors.clean(why).message)
    end
  end
  eq(count, 2)
end)

test("the configuration of the page of previews is one", function()
  local text = "return { state = '/tmp/x', " .. blocks(page "previews")[1] .. "}"
  local value, line = load.parse(text, "page.lua")
  local config, faults = load.check(value, { file = "page.lua", line = line })
  ok(config, faults and load.describe(faults[1]))
  eq({ #config.apps.web.templates, #config.apps.web.environment_list }, { 1, 1 })
end)
