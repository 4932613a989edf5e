-- 1,000 apps under polls while the policy's file is swapped 1,000 times, for good, broken and half-written texts in
-- turn, and the configuration now and then: every push is released exactly once.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, hash, lab, refs, task, time = require "fs", require "hash", require "lab", require "sources.git.refs",
  require "task", require "time"
local test, eq, ok = check.test, check.eq, check.ok

local APPS <const>, SWAPS <const>, PUSHED <const> = 1000, 1000, 50
local POLL <const> = 5 -- seconds
local NOTHING <const> = ("0"):rep(40)

local POLICY <const> = [[
-- text %d
return policy {
  watch = function(place)
    local head = place:head()
    if head.commit == ("0"):rep(40) then return nil, "nothing was pushed" end
    return head
  end,
  run = function(run, head)
    run:log("text %d")
    run:release(run:image(head.commit))
  end,
}
]]

-- A world in memory: each app's branch, what was put out for it, and how often.
local function new_world()
  local w = { heads = {}, running = {}, releases = {}, polls = {} }
  w.openers = {
    repository = function(app)
      local name, snapshot, of = app.name, nil, nil
      local function nothing() end
      local repo = { expect = nothing, expire = nothing, tags = function() return {} end }
      function repo.refs()
        w.polls[name] = (w.polls[name] or 0) + 1
        local head = w.heads[name] or NOTHING
        if of ~= head then snapshot, of = refs.snapshot({ main = head }, {}), head end
        return snapshot
      end
      function repo.head() return { commit = w.heads[name] or NOTHING, key = w.heads[name] or NOTHING } end
      function repo.compare() return { status = "ahead" } end
      return repo
    end,
    ensure_image = function(request)
      local digest = "sha256:" .. hash.sha256(request.commit)
      return { repository = "r.invalid/x", commit = request.commit, digest = digest, image = "r.invalid/x@" .. digest }
    end,
    target = function(environment)
      local name = environment.app
      return {
        current = function() return w.running[name] end,
        apply = function(_, request)
          local key = name .. " " .. request.commit
          w.releases[key] = (w.releases[key] or 0) + 1
          w.running[name] = { digest = request.digest, commit = request.commit, healthy = true, state = "running" }
          return true
        end,
        wait = function() return true end, settle = function() return true end,
      }
    end,
    verify = function() return true end, notify = function() return true end,
  }
  return w
end

local function config_of(dir, more)
  local config = require("sim").config(dir .. "/state", { scripts = dir .. "/scripts", rollback = false })
  config.apps, config.app_list = {}, {}
  for i = 1, APPS + more do
    local name = ("app%04d"):format(i)
    local environment = {
      name = "staging", app = name, policy = "staging", rollback = false, accept = "major", watch_for = 1,
      match_prerelease = true, notify = {}, target = { kind = "command" }, verify = {},
    }
    config.apps[name] = {
      name = name, follows = "git", source = { url = "http://git.invalid/" .. name }, branch = "main",
      image = "r.invalid/" .. name, dockerfile = "Dockerfile", context = ".", build = { args = {}, timeout = 60 },
      poll = POLL, environment_list = { environment }, environments = { staging = environment },
    }
    config.app_list[i] = config.apps[name]
  end
  return config
end

test("no push is lost or released twice while the files are swapped under load", function()
  local dir, w, more = lab.dir(), new_world(), 0 ---@type string, any, integer
  ok(fs.mkdir(dir .. "/scripts"))
  local function save(text) lab.write(dir .. "/scripts/staging.lua", text) end
  save(POLICY:format(0, 0))
  local config = config_of(dir, more)
  local host = ok(require("engine").open {
    config = config, world = w.openers, load = function() return config end,
  })
  local running = task.spawn(function() return host:run() end)
  check.defer(function()
    host:stop(0)
    running:join()
  end)

  -- Pushes: an app gets its next one when the last was released.
  local pushed, stop = {}, false
  local pushing = task.spawn(function()
    local n = 0
    while not stop do
      for i = 1, PUSHED do
        local name = ("app%04d"):format(i * (APPS // PUSHED))
        local before, now = w.heads[name], w.running[name]
        if not before or now and now.commit == before then
          n = n + 1
          w.heads[name] = hash.sha256("push " .. n):sub(1, 40)
          pushed[#pushed + 1] = name .. " " .. w.heads[name]
        end
      end
      time.sleep(0.05)
    end
  end)

  local outcomes = { loaded = 0, refused = 0 }
  for i = 1, SWAPS do
    local text = POLICY:format(i, i)
    if i % 3 == 1 then text = text .. "oops(" elseif i % 3 == 2 then text = text:sub(1, #text // 2) end
    save(text)
    if i % 100 == 0 then
      more = more == 0 and 10 or 0
      config = config_of(dir, more)
    end
    local done, err = host:reload { saved = true }
    local outcome = done and "loaded" or "refused"
    outcomes[outcome] = outcomes[outcome] + 1
    ok(done or err.faults[1].file:find("staging.lua", 1, true))
    time.sleep(0)
  end
  eq({ outcomes.loaded, outcomes.refused }, { SWAPS // 3, SWAPS - SWAPS // 3 })
  save(POLICY:format(9999, 9999))
  ok(host:reload())
  stop = true
  pushing:join()
  check.eventually(function()
    for i = 1, PUSHED do
      local name = ("app%04d"):format(i * (APPS // PUSHED))
      if not w.running[name] or w.running[name].commit ~= w.heads[name] then return false end
    end
    return #host.journal:unfinished() == 0
  end, 60, "every last push is released")
  ok(#pushed >= PUSHED, #pushed)
  for _, key in ipairs(pushed) do eq(w.releases[key], 1, key) end
  local runs = host.journal:row "SELECT count(*) AS n, sum(state = 'done') AS done FROM runs"
  eq({ runs.n, runs.done }, { #pushed, #pushed })
  -- No app was left out, and none was polled out of its turn: a reload makes no requests by itself.
  local elapsed, most, least = time.now() - host.started_at, 0, math.huge
  for i = 1, APPS do
    local polls = w.polls[("app%04d"):format(i)] or 0
    most, least = math.max(most, polls), math.min(least, polls)
  end
  ok(least >= 1)
  -- Twice as often as it is due is never.
  ok(most <= elapsed / (POLL / 2) + 2, ("%d polls in %.0f s"):format(most, elapsed))
end, 240)
