-- The same story in many lives: the host dies before or after each write of its journal and each effect, each effect
-- fails once in passing, and the answer of each is lost once. The world must end as it does undisturbed.
local errors = require "errors"

local M = {}

---@class Outcome What counts of a world's end.
---@field running table<string, string> By place.
---@field tags table<string, string>
---@field charts table<string, string> Their digests, by name and version.
---@field files table<string, string>
---@field effects table<string, integer> How often each.
---@field unfinished table<string, string> Runs, by place and title.

local UNFINISHED <const> = { queued = true, running = true }

-- The journal's side: what is unfinished, and the steps that were performed again.
local function of_journal(book, found)
  for _, row in ipairs(book:all_runs()) do
    local run = assert(book:run_by_id(row.id))
    local at = ("%s %s: %s"):format(run.app, run.environment, run.title)
    if UNFINISHED[run.state] then found.unfinished[at] = run.state end
    for _, step in ipairs(book:steps(run.id)) do
      if step.attempts > 1 then found.again[#found.again + 1] = ("%s of %s"):format(step.name, at) end
    end
  end
end

---Lets a story come to its end, and says what counts of it.
---@async
---@param tested TestWorld
---@return Outcome
function M.outcome(tested)
  local world, found = tested.world, {
    running = {}, tags = {}, charts = {}, files = {}, effects = {}, unfinished = {}, again = {},
  }
  if not world then return found end
  world:settle()
  local state = world.state
  found.files = state.files
  for place, runs in pairs(state.targets) do
    found.running[place] = ("%s %s"):format(runs.version or world.outside:called(runs.commit), runs.digest)
  end
  for name, images in pairs(state.images) do
    for tag, digest in pairs(images.tags) do found.tags[name .. ":" .. tag] = digest end
  end
  for url, charts in pairs(state.charts) do
    for name, versions in pairs(charts) do
      for version, chart in pairs(versions) do
        found.charts[("%s %s of %s"):format(name, version, url)] = chart.digest
      end
    end
  end
  for _, line in ipairs(state.effects) do found.effects[line] = (found.effects[line] or 0) + 1 end
  of_journal(world.book, found)
  return found
end

local WHAT <const> = {
  { "running", "%s runs %s, and should run %s", "nothing" },
  { "tags", "the tag %s is %s, and should be %s", "nothing" },
  { "charts", "the chart %s is %s, and should be %s", "nothing" },
  { "files", "the file %s is %q, and should be %q", "nothing" },
  { "effects", "'%s' happened %s times, and should have happened %s times", 0 },
  { "unfinished", "the run of %s is %s, and should be %s", "finished" },
}

local function sorted_keys(a, b)
  local keys, seen = {}, {}
  for _, side in ipairs { a, b } do
    for k in pairs(side) do
      if not seen[k] then
        seen[k] = true
        keys[#keys + 1] = k
      end
    end
  end
  table.sort(keys)
  return keys
end

-- How one end differs from another, in sentences.
local function differences(got, want)
  local list = {}
  for _, what in ipairs(WHAT) do
    local name, sentence, none = table.unpack(what)
    for _, key in ipairs(sorted_keys(got[name], want[name])) do
      local a, b = got[name][key], want[name][key]
      if a ~= b then list[#list + 1] = sentence:format(key, a or none, b or none) end
    end
  end
  return list
end

-- The disturbances of a story that had so many places and effects, in the order of their numbers.
local function all(places)
  local list = {}
  for k = 1, places.kills do list[#list + 1] = { kill = k } end
  for k = 1, places.effects do list[#list + 1] = { fail = k } end
  for k = 1, places.effects do list[#list + 1] = { lose = k } end
  return list
end

local function how(disturb, places)
  local where = places.disturbed or "a place that it did not come to"
  if disturb.kill then return ("the host killed at place %d, %s"):format(disturb.kill, where) end
  if disturb.fail then return ("effect %d failing once in passing, %s"):format(disturb.fail, where) end
  return ("the answer of effect %d lost once, %s"):format(disturb.lose, where)
end

local function raise(number, disturb, life, words)
  local again = life.outcome and life.outcome.again or {}
  local lines = { ("with %s:"):format(how(disturb, life.places)) }
  for _, line in ipairs(words) do lines[#lines + 1] = line end
  if #again > 0 then
    lines[#lines + 1] = "performed again: " .. table.concat(again, ", ")
  end
  lines[#lines + 1] = ("repeat only this life with --only %d"):format(number)
  error(errors.new("script", table.concat(lines, "\n"), { where = life.err and life.err.where }), 0)
end

---@class Life
---@field err? Err What the test raised.
---@field outcome? Outcome Without an error.
---@field places {kills: integer, effects: integer, disturbed?: string}

---Tells a story in every disturbed life.
---@async
---@param tell fun(disturb?: Disturbance): Life Tells it once.
---@param only? integer The number of the only disturbed life.
---@return integer lives How many were tried.
function M.run(tell, only)
  local first = tell(nil)
  if first.err then error(first.err, 0) end
  local list, lives = all(first.places), 1
  if only and not list[only] then error(("this story has %d disturbed lives"):format(#list), 0) end
  for number = only or 1, only or #list do
    local disturb = list[number]
    local life = tell(disturb)
    lives = lives + 1
    if life.err then raise(number, disturb, life, { "the story fails: " .. life.err.message }) end
    local words = differences(life.outcome, first.outcome)
    if #words > 0 then raise(number, disturb, life, words) end
  end
  return lives
end

return M
