-- Which module serves each of the program's own targets, builders, sources, checks, notifiers, commands, routes and
-- words. Start here to follow a name of the configuration or of the command line to its code, which is loaded when it
-- is used.
local extension = require "extension"

local function target(kind, destroys)
  return {
    name = kind, destroys = destroys, keys = function() return require("config.targets")[kind] end,
    open = function(...) return require("targets." .. kind).open(...) end,
  }
end

local function builder(kind)
  return {
    name = kind, available = function(...) return require("images.builder." .. kind).available(...) end,
    build = function(...) return require("images.builder." .. kind).build(...) end,
  }
end

local function notifier(kind)
  return {
    name = kind, keys = function() return require("config.notifiers")[kind] end,
    send = function(...) return require("tell.notify").post(...) end,
  }
end

local function check(kind, more)
  more.name = kind
  more.key = function() return require("config.checks").own[kind].key end
  more.keys = function() return require("config.checks").own[kind].keys end
  return more
end

local COMMANDS <const> = {
  "init", "run", "once", "check", "plan", "test", "reload",
  "status", "history", "why", "logs", "rollback", "release", "retry", "cancel",
  "apply", "destroy", "hold", "unhold", "freeze", "thaw", "approve", "reject", "exec", "repl", "version", "help",
}
-- people/cli/init.lua is the command line itself.
local FILES <const> = { init = "setup" }
-- Orders to the running host are in verbs.lua; every other command is a file of its own.
local VERBS <const> = {
  rollback = true, release = true, retry = true, cancel = true, apply = true, destroy = true, hold = true,
  unhold = true, freeze = true, thaw = true, approve = true, reject = true,
}

---The commands of the command line.
---@return CommandKind[]
local function command()
  local list = {}
  for i, name in ipairs(COMMANDS) do
    list[i] = { name = name, load = function()
      return VERBS[name] and require("people.cli.verbs")[name] or require("people.cli." .. (FILES[name] or name))
    end }
  end
  return list
end

---The routes: health needs no token, the API one, and the control socket is for operators.
---@return table<string, RouteKind>
local function route()
  local all = {}
  for name, handle in pairs(require("people.control.health").routes) do all[name] = { open = true, handle = handle } end
  for name, handle in pairs(require("people.control.api").routes) do all[name] = { handle = handle } end
  for name, handle in pairs(require("people.control.operator").routes) do
    all[name] = { socket = true, handle = handle }
  end
  return all
end

return extension {
  target = {
    target("docker", true), target("podman", true), target("command", true), target("kubernetes", true),
  },
  builder = { builder "docker", builder "podman", builder "buildah", builder "buildkit", builder "job" },
  check = {
    check("http", { attempt = function(...) return require("checks.verify").probe(...) end }),
    check("command", { attempt = function(...) return require("checks.verify").command(...) end }),
    check("metric", { prove = function(...) return require("checks.metric").prove(...) end }),
    check("job", { within = 600, prove = function(...) return require("checks.job").prove(...) end }),
  },
  notifier = { notifier "slack", notifier "webhook" },
  source = {
    git = {
      observe = function(...) return require("engine.observe").git(...) end,
      expire = function(app, world) world.repository(app):expire() end,
    },
  },
  command = command,
  route = route,
  word = {
    approval = { run = function(...) return require("policy.approval.words").run.approval(...) end },
    retry = { run = function(...) return require("policy.retry.words").run.retry(...) end },
    window = {
      place = function(...) return require("policy.window.words").place.window(...) end,
      run = function(...) return require("policy.window.words").run.window(...) end,
    },
  },
}
