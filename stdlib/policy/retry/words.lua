-- Words of policies: run:retry(3, fn, { pause = "10s" }).
local errors, schema, time = require "errors", require "base.schema", require "time"

local M = { place = {}, run = {} }

local USAGE <const> = "usage: run:retry(tries, fn [, { pause = \"10s\", growing = true, any = true }])"
local LONGEST <const> = 3600 -- seconds of a pause that grows

-- Errors that say something about the run, or about the policy, and nothing about what it called.
local FINAL <const> = { cancelled = true, diverged = true, budget = true, memory = true }

local function worth_another(err, options)
  if errors.is(err) and FINAL[rawget(err, "code")] then return false end
  return options.any or errors.passing(err)
end

local function read(tries, fn, options)
  options = options == nil and {} or options
  if math.type(tries) ~= "integer" or tries < 1 or type(fn) ~= "function" or type(options) ~= "table" then
    error(USAGE, 4)
  end
  for key, value in next, options do
    if key ~= "pause" and type(value) ~= "boolean" or key ~= "pause" and key ~= "growing" and key ~= "any" then
      error(USAGE, 4)
    end
  end
  local pause = schema.seconds(options.pause == nil and 10 or options.pause)
  return pause or error(USAGE, 4), options
end

---Calls fn again when it raises a transient error, at most so many times in all, with a pause between. Each step inside
---is recorded as ever: after a crash no try is repeated that had ended. What ends the run is never tried again.
---@async
---@param run Run
---@param tries integer How often fn is called at most.
---@param fn fun(try: integer): any... Gets the number of the try.
---@param options? {pause?: Seconds|string, growing?: boolean, any?: boolean} pause: 10 s; growing: twice as long each
--- time, an hour at most; any: after any error, not only transient ones.
---@return any ... What fn returned.
function M.run.retry(run, tries, fn, options)
  local pause, asked = read(tries, fn, options)
  for try = 1, tries do
    local results = table.pack(pcall(fn, try))
    if results[1] then return table.unpack(results, 2, results.n) end
    local err = results[2]
    if try == tries or run.steps.over or run.steps.stopping() or not worth_another(err, asked) then error(err, 0) end
    run:log("try %d of %d failed, the next one begins in %s: %s", try, tries, time.words(pause),
      tostring(errors.clean(err)))
    run.steps:sleep(pause)
    if asked.growing then pause = math.min(pause * 2, LONGEST) end
  end
end

return M
