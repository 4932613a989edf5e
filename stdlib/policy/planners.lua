-- What each step of the program's own words would do: by the step's name, as policy/plan.lua asks for it.
--
-- A planner reads the world and changes nothing; run.journal is a copy, so what a step writes there alone is done. To
-- add one for a new word is one line here: ["step's name"] = function(run, args, perform) return said, result end.
local metric, unknown = require "checks.metric", require "policy.unknown"
local errors, short, targets, time = require "errors", require("base.text").short, require "targets", require "time"

local planners = {} ---@type table<string, Planner>

local function must(value, err)
  if value == nil then error(err, 0) end
  return value
end

-- An image as people tell it: its version or commit, and the beginning of its digest.
local function called(what)
  local name = what.version or what.commit and short(what.commit)
  local digest = what.digest and (unknown.unbuilt(what.digest) and "new image" or short(what.digest))
  return name and digest and ("%s (%s)"):format(name, digest) or name or digest or what.image or "?"
end

-- ---- images and tags ----

planners["image"] = function(run, args)
  local app, image = run.place.app_config, require "images.image"
  local digest, err = image.find(run.world.registry(app.image), args.commit, args.digest)
  local result = {
    repository = app.image, commit = args.commit, digest = digest or unknown.UNBUILT, built = not digest,
    image = ("%s@%s"):format(app.image, digest or unknown.UNBUILT),
  }
  if digest then
    return {
      action = "none", text = ("image of %s is in the registry: %s"):format(short(args.commit), digest),
      commit = args.commit, digest = digest,
    }, result
  end
  if args.digest or not require("images.registry").may_be_missing(err) then error(err, 0) end
  local builder = must(require("images.builder.choice").which(run.world))
  return {
    action = "create", commit = args.commit, builder = builder,
    text = ("image of %s would be built by %s and pushed to %s"):format(short(args.commit), builder, app.image),
  }, result
end

planners["tag"] = function(run, args)
  local repository, digest = args.image:match("^(.-)@(.+)$")
  local now, err = run.world.registry(repository):digest(args.tag)
  if not now and not require("images.registry").may_be_missing(err) then error(err, 0) end
  local to = unknown.unbuilt(digest) and "the new image" or short(digest)
  local said = { tag = args.tag, from = now, to = not unknown.unbuilt(digest) and digest or nil }
  if now == digest then
    said.action, said.text = "none", ("tag %s points to %s"):format(args.tag, short(digest))
  elseif now then
    said.action, said.text = "change", ("tag %s moves from %s to %s"):format(args.tag, short(now), to)
  else
    said.action, said.text = "create", ("tag %s is set to %s"):format(args.tag, to)
  end
  return said, true
end

-- ---- releases ----

-- The part of the run's place that a request is about, as an environment with one target.
local function part_of(run, request) return must(targets.part(run.place.config, request.part)) end

planners["apply"] = function(run, request)
  local part = part_of(run, request)
  local target = must(run.world.target(targets.about(part, request)))
  local kind = part.target.kind
  local now, err = target:current()
  if err then error(err, 0) end
  local said = {
    target = kind, part = request.part, image = request.image, version = request.version,
    from = now and now.digest, to = not unknown.unbuilt(request.digest) and request.digest or nil,
  }
  local where = ("%s %s (%s)"):format(run.app, targets.called(part, " "), kind)
  if not now then
    said.action, said.text = "create", ("%s: nothing runs there; would run %s"):format(where, called(request))
  elseif now.digest == request.digest then
    said.action, said.text = "none", ("%s: runs %s already"):format(where, called(request))
  else
    said.action, said.text = "change", ("%s: %s -> %s"):format(where, called(now), called(request))
  end
  local list = { said }
  for _, further in ipairs(target.plan and must(target:plan(request)) or {}) do list[#list + 1] = further end
  return list, true
end

planners["wait"] = function(run, args)
  return { action = "do", text = ("waits until %s reports that it runs"):format(part_of(run, args).target.kind) }, true
end

-- One check as the configuration has it.
local function words_of(check)
  local way = require("config.checks").way(check)
  local value = check[way.name]
  if type(value) == "table" then value = value[1] and table.concat(value, " ") or value.image or way.name end
  return ("%s %s"):format(way.name, tostring(value))
end

planners["verify"] = function(run, args)
  local list = {}
  for i, check in ipairs((metric.apart(part_of(run, args).verify))) do
    local words = words_of(check)
    list[i] = {
      action = "do", check = words, within = check.within,
      text = ("checks %s%s"):format(words, check.within and ", within " .. time.words(check.within) or ""),
    }
  end
  return list, true
end

planners["metric"] = function(run, args)
  local _, metrics = metric.apart(args.n and part_of(run, args).verify or {})
  local m = args.n and metrics[args.n] or metric.given(args, run.place)
  local numbers, why = metric.ask(m, run.world.module "http")
  local now = "no number now: " .. tostring(why)
  for _, n in ipairs(numbers or {}) do
    now = ("now it is %g"):format(n)
    if not metric.in_bounds(m, n) then
      now = now .. ", out of bounds"
      break
    end
  end
  return {
    action = "do", metric = m.name, over = m.over, bound = metric.bound(m), now = numbers,
    text = ("samples %s for %s: must be %s (%s)"):format(m.name, time.words(m.over), metric.bound(m), now),
  }, { outcome = "passed", summary = "not sampled: this is a plan", samples = 0, failures = 0, missing = 0 }
end

planners["settle"] = function() return nil, true end

-- ---- people ----

planners["notify"] = function(run, args)
  local channels = run.place.config.notify
  local whom = #channels > 0 and table.concat(channels, ", ") or "the log alone"
  return { action = "do", text = ("tells %s: %s"):format(whom, args.text), channels = channels }, true
end

planners["approved"] = function(run, args)
  local approval = run.journal:approval_by_id(args.approval)
  if not approval then error(errors.new("conflict", "the approval is gone", { op = "approval" }), 0) end
  local by = #approval.voters > 0 and (" (%s)"):format(table.concat(approval.voters, ", ")) or ""
  return {
    action = "do", approval = approval.name, votes = approval.votes, voters = approval.voters,
    text = ("waits for approval of %s: %d of %d votes%s, until %s"):format(approval.name,
      #approval.voters, approval.votes, by, time.iso(approval.deadline)),
  }, "approved"
end

planners["window"] = function(_, request)
  local window = require "policy.window"
  local open, changes = window.state(request)
  if not open and not changes then error(window.never(request), 0) end
  return {
    action = open and "none" or "do", window = request.window, zone = request.zone, opens = not open and changes or nil,
    text = ("%s: %s"):format(open and "its window is open" or "waits for its window", window.words(request)),
  }, "open"
end

planners["hold"] = function(run, args, perform)
  return {
    action = "change", text = ("holds %s %s: %s"):format(run.app, run.environment, args.reason), reason = args.reason,
  }, perform()
end

-- ---- what only reads is read; what a policy does by itself is its own ----

local function read(_, _, perform) return nil, perform() end

for _, name in ipairs { "fs.read", "fs.list", "fs.stat", "fs.exists" } do planners[name] = read end

-- A request that only reads, and keeps what it reads in memory.
local function request(name)
  return function(_, args, perform)
    local options = args.options or {}
    local method = name == "http.request" and tostring(options.method or "GET"):upper() or name:sub(6):upper()
    if (method == "GET" or method == "HEAD") and not options.sink then return nil, perform() end
    unknown.unseen(("%s to %s would be sent, and its answer decides what comes next"):format(
      name, tostring(args.url)))
  end
end

for _, word in ipairs { "get", "head", "post", "put", "patch", "delete", "request" } do
  planners["http." .. word] = request("http." .. word)
end

planners["proc.run"] = function(_, args)
  local command = {}
  for i, word in ipairs(args.command or {}) do command[i] = tostring(word) end
  unknown.unseen(("the command %q would run, and what it gives decides what comes next"):format(
    table.concat(command, " ")))
end

-- What is said of rows of the journal, by the step's name.
local notes = {
  ["mark bad"] = function(run, args)
    local release = run.journal:release_by_id(args.release)
    return {
      action = "change", release = args.release,
      text = ("marks %s as bad: it is not put out again by itself"):format(release and called {
        version = release.version, commit = release.commit_id or release.commit, digest = release.digest,
      } or "the release"),
    }
  end,
}

return { steps = planners, notes = notes }
