-- moontide run: the host. Opens the engine and the control servers, obeys signals, shows events.
local sys = require "base.sys"
local task = require "task"

local GRACE = 30 -- seconds that runs get to finish or park when the host is told to stop

-- Opens the engine for run and once. The configuration is loaded again at each reload, with the flags
-- applied.
local function open(ctx, console, config, more)
  local options = {
    config = config, fresh = ctx.flags.fresh, load = function() return ctx:load_config() end,
    on_event = function(event) console:event(event) end,
  }
  for name, value in pairs(more or {}) do options[name] = value end
  local engine, err = require("engine").open(options)
  if not engine then return nil, ctx:fail(err) end
  return engine, config
end

local function note(console, text, level)
  console:event { at = require("time").now(), event = "host", level = level or "info", text = text }
end

---Obeys signals: TERM and INT stop, HUP reloads, which tells its outcome. A second TERM or INT stops without grace.
---@async
---@param engine Engine
---@param console Console
---@param seconds Seconds The grace.
local function obey_signals(engine, console, seconds)
  local asked = false
  while true do
    local signal = sys.next_signal()
    if signal == "HUP" then
      if engine:reload() then note(console, "configuration and policies were loaded again") end
    else
      note(console, asked and "stopping at once" or "stopping: runs may finish or park")
      local grace = asked and 0 or seconds
      asked = true
      task.start({ name = "stop", detached = true }, function() engine:stop(grace) end)
    end
  end
end

-- One of several hosts.
local function stand(ctx, console, config, since)
  local faults = require("engine").check(config)
  if #faults > 0 then
    for _, fault in ipairs(faults) do ctx:show_fault(fault) end
    return 2
  end
  local status, err = require("hosts.failover").run {
    config = config, fresh = ctx.flags.fresh, load = function() return ctx:load_config() end,
    on_event = function(event) console:event(event) end, since = since,
  }
  console:close()
  return status or ctx:fail(err)
end

---@type Command
return {
  summary = "run the host: watch, build, release",
  flags = { { name = "fresh", doc = "begin a new journal where there was one that is gone" } },
  example = "moontide run --config config/moontide.lua",
  more = "SIGTERM stops it cleanly. What is saved becomes live by itself (`moontide help reload`). On a terminal it"
    .. " shows what it does; otherwise it writes one line of JSON per event.",
  open = open,
  obey_signals = obey_signals,
  run = function(ctx)
    local since = require("time").now()
    local console = require("people.console").open(ctx.out, ctx.flags.output)
    sys.catch("TERM", "INT", "HUP")
    local asked = ctx:config()
    if not asked then return 2 end
    require("extensions").keep()
    if asked.leader then return stand(ctx, console, asked, since) end
    local engine, config = open(ctx, console, asked)
    if not engine then return config end
    local control, err = require("people.control").open(engine, config)
    if not control then
      engine:close()
      return ctx:fail(err)
    end
    engine.follow = function(before, now) return control:follow(before, now) end
    local signals <close> = task.spawn(obey_signals, engine, console, GRACE)
    local watching <close> = task.spawn(require("engine.watcher").run, {
      since = since, config = function() return engine.config end, tried = function() return engine.tried end,
      reload = function() engine:reload { saved = true } end,
    })
    local ok, failure = engine:run()
    watching:cancel()
    signals:cancel()
    control:close()
    console:close()
    if not ok then return ctx:fail(failure) end
    return 0
  end,
}
