-- B12's own side: moontide exec tests/bench/own_stories.lua stories|lives|day. Lives through stories in simulated
-- worlds; prints how many there were and the seconds of processor time that they took.
local simulation, sys, time = require "simulation", require "base.sys", require "time"

local which = ...
local STORIES <const>, APPS <const> = 200, 10

-- A push, its release to staging, a tag, its release to production.
local function story(options)
  local world <close> = simulation.new(options)
  local web = world:app("web", { environments = { staging = {}, production = {} } })
  web:push("a")
  world:settle()
  web:tag("v1.0.0", "a")
  world:settle()
  assert(assert(web:running("production")).version == "v1.0.0")
  return world:places()
end

local WORK <const> = {
  stories = function()
    for _ = 1, STORIES do story() end
    return STORIES
  end,
  -- The same story, killed at each place.
  lives = function()
    local places = story()
    for k = 1, places.kills do story { disturb = { kill = k } } end
    return places.kills
  end,
  -- Apps that are polled each minute for a day, with a push to each in the middle.
  day = function()
    local world <close> = simulation.new { poll = "1m" }
    local apps = {}
    for i = 1, APPS do apps[i] = world:app("app" .. i, { environments = { staging = {} } }) end
    for _, app in ipairs(apps) do app:push("first") end
    world:pass("12h")
    for _, app in ipairs(apps) do app:push("second") end
    world:pass("12h")
    assert(apps[APPS]:running("staging").commit == simulation.commit("second"))
    return APPS * 24 * 60
  end,
}

sys.virtual_time(simulation.START)
local began = time.cpu()
local count = WORK[which]()
print(("%d %.6f"):format(count, time.cpu() - began))
