-- A run, as the `run(run, change)` of a policy gets it: image, release, restore, hold, notify and its other words.
-- Every word is a step, or rows of our own journal.
--
-- A release is: a row of the journal (its number), apply to the target, wait, verify; then the row is live, and the
-- target settles. What fails is recorded as failed, or retried when the error is transient; bad is what a rollback
-- marks.
local metric = require "checks.metric"
local context, effects, errors, facade, log, targets, time, words = require "policy.context", require "policy.effects",
  require "errors", require "base.facade", require "log", require "targets", require "time", require "policy.words"
local tables, task = require "base.tables", require "task"
local known_options = require("policy.options").check

---@class Run: RunParts
---@field id integer
---@field by? string Who caused it.
---@field kind string
---@field app string
---@field environment string
---@field place Place
---@field row table
local Run = {}
Run.__index = Run

---What a run is given besides the place where it works.
---@class RunParts
---@field steps Steps
---@field world World
---@field journal Journal
---@field lead Leadership
---@field hooks table
---@field patience Seconds How long it waits for a target out of reach.
---@field stopping fun(): boolean Whether the host parks what still runs.
---@field settings? table What the run's policy reads as run.settings: as they were when it first began.
---@field released fun(release: integer) Called when a release is live and checked.

---@class Image
---@field repository string
---@field commit string
---@field digest string
---@field image string "repository@sha256:..."
---@field built boolean Built by this run, not found.
---@field run Run
---@field face Image What a policy gets.
local Image = {}
Image.__index = Image

local M = {}

-- Step data tables must not carry what is not data.
local IMAGE_FIELDS <const> = { "repository", "commit", "digest", "image", "built" }

local function must(value, err)
  if value == nil then error(err or errors.new("internal", "nothing was returned: neither a value nor an error"), 0) end
  return value
end

local image_face ---@type fun(object: table): any
local run_face ---@type fun(object: table): any

local function as_image(run, data)
  local image = setmetatable({ run = run }, Image)
  for _, k in ipairs(IMAGE_FIELDS) do image[k] = data[k] end
  image.face = image_face(image)
  return image.face
end

---The image of a commit: found in the registry by its `sha-<commit>` tag, built and pushed when it is not there. With a
---digest it is that one, which another environment proved: it is never built.
---@async
---@param commit string Full commit id.
---@param options? {version?: string, digest?: string}
---@return Image image
function Run:image(commit, options)
  if type(commit) ~= "string" or not commit:match("^%x+$") then
    error("usage: run:image(commit [, {version=, digest=}])", 2)
  end
  known_options(self, "run:image", options, { "version", "digest" }, 2)
  local version, digest = options and options.version, options and options.digest
  local data = self.steps:perform("image", { commit = commit, version = version, digest = digest }, function()
    local place, world = self.place, self.world
    -- Two environments that need one image build it once.
    local _ <close> = task.lock(world, "image " .. place.app_config.image .. " " .. commit)
    return must(world.ensure_image {
      app = place.app_config, repo = world.repository(place.app_config), commit = commit, version = version,
      digest = digest,
      work = place.state .. "/work", hooks = self.hooks,
    })
  end, "waits")
  return as_image(self, data)
end

---Points a tag of the registry at this image. Moving it again to where it points already does nothing.
---@async
---@param name string "staging", "v1.2.0"
---@return Image self
function Image:tag(name)
  local run = self.run
  run.steps:perform("tag", { image = self.image, tag = name }, function()
    return must(run.world.registry(self.repository):tag(self.digest, name))
  end, "acts") -- the program that follows the tag rolls it out
  return self.face
end

-- Refusals of an API server that has just come up and has not read its grants yet: asked again for some seconds.
local NO_GRANT_YET <const> = { denied = true, unauthorized = true }
local COMING_UP <const> = 4

-- Asks the target until it answers or `patience` is over.
local function patiently(self, ask)
  local pause, since = 1, {}
  while true do
    self.steps:may_act "target"
    local value, err = ask()
    local refused = err and err.status ~= nil and NO_GRANT_YET[err.code] or false
    if value ~= nil or not err or not errors.passing(err) and not refused then return must(value, err) end
    local patience = self.patience
    if refused then patience = math.min(patience, COMING_UP) end
    since[refused] = since[refused] or time.monotonic()
    if time.monotonic() + pause - since[refused] > patience then return must(value, err) end
    self:log("the target cannot be reached, trying again: %s", err.message)
    time.sleep(pause)
    pause = math.min(pause * 2, 15)
  end
end

-- Whether a host before this state left just this running. A target that knows generations, or whose things bear the
-- number of their release, takes it over by itself, without rolling anything out; any other would start it anew. What
-- a person orders is done: the configuration may be another one.
local function runs_already(self, target, request)
  if target.takes_over or self.kind ~= "change" and self.by then return false end
  local live = not target.follows and (request.part and self.journal:held(self.app, self.environment)[request.part]
    or self.journal:live(self.app, self.environment, request))
  if not live or live.adopted == 0 or live.digest ~= request.digest then return false end
  local now = target:current()
  if not now or now.digest ~= request.digest or now.healthy == false or now.generation then return false end
  self:log("it runs already: nothing to roll out")
  return true
end

-- The target of a release, or of one part of it.
local function target_of(self, request)
  return must(self.world.target(targets.about(must(targets.part(self.place.config, request.part)), request)))
end

-- Samples a metric over its time; raises when it does not pass.
local function measure(self, m, asked, failed)
  if not m then
    error(errors.new("not_found", "the configuration has this metric no more", { op = "metric" }), 0)
  end
  local http = self.world.module "http"
  local result = self.steps:observe("metric", asked, m.over, m.every, function(seen, last)
    local done, said = metric.sample(m, http, seen, last)
    self.hooks.progress(said)
    return done
  end)
  local passes, verdict = metric.verdict(m, result)
  self:log("%s", verdict)
  if not passes then failed(metric.failure(m, verdict)) end
  return result
end

-- Applies, waits, verifies; raises what failed.
local function put(self, request)
  local place, world = self.place, self.world
  local function target() return target_of(self, request) end
  local function checks() return must(targets.part(place.config, request.part)).verify end
  -- Arguments of the target that do not identify the step: they may differ after a crash.
  local function told()
    local all = {
      hooks = self.hooks, run = self.id, by = self.by, generation = self.journal.generation, host = self.lead.host,
      since = self.row.queued_at,
    }
    for name, value in pairs(request) do all[name] = value end
    return all
  end
  self.steps:perform("apply", request, function()
    return patiently(self, function()
      local there = target()
      if runs_already(self, there, request) then return true end
      local ok, err = there:apply(told())
      -- Another host's generation is higher. Only the host that holds the lead may take a higher one yet.
      if not ok and errors.is(err, "conflict") and err.generation and self.lead:rise_above(err.generation) then
        return there:apply(told())
      end
      return ok, err
    end)
  end)
  local about = { digest = request.digest, part = request.part }
  self.steps:perform("wait", about, function()
    return patiently(self, function() return target():wait(told()) end)
  end)
  -- Whether there are checks is recorded: after a crash the configuration may be another one.
  local there = self.steps:value("checks", { part = request.part }, function()
    local others, metrics = metric.apart(checks())
    return #metrics > 0 and { checks = #others, metrics = #metrics } or #others
  end)
  -- While the target is out of reach a check proves nothing about the release.
  local function failed(err)
    local where = target()
    local _, away = where:current()
    if errors.passing(away) then error(away, 0) end
    if where.failed then where:failed(told(), err.message) end
    error(err, 0)
  end
  if (type(there) == "table" and there.checks or there) > 0 then
    self.steps:perform("verify", about, function()
      local ok, err = world.verify(metric.apart(checks()), {
        app = place.app, environment = place.environment, part = request.part, version = request.version,
        commit = request.commit, digest = request.digest, image = request.image, run = self.id,
        release = request.release, hooks = self.hooks,
      })
      if not ok then failed(assert(err)) end
      return true
    end)
  end
  for n = 1, type(there) == "table" and there.metrics or 0 do
    local _, metrics = metric.apart(checks())
    measure(self, metrics[n], { n = n, part = request.part }, failed)
  end
end

-- The parts that a release goes to, in order, as the journal has them from then on: the one that it names, else all
-- that this run has not put it to already. What is put back goes where another one went since. nil: there is one
-- target; a run that began with one, or with several, goes on so.
local function parts_for(self, image, options)
  local recorded = self.steps:upcoming()
  if recorded and recorded ~= "parts" or not recorded and not self.place.config.targets then return nil end
  return self.steps:value("parts", { image = image.image, part = options.part }, function()
    if options.part then return { options.part } end
    local held, names = self.journal:held(self.app, self.environment), {}
    for _, part in ipairs(targets.parts(self.place.config)) do
      local now, there = held[part.part], false
      if options.restored then
        there = now and now.digest == image.digest and now.given == "live" or not now and next(held) ~= nil
      elseif now then
        there = now.run == self.id and now.digest == image.digest and now.given == "live"
      end
      if not there then names[#names + 1] = part.part end
    end
    return names
  end)
end

-- A request as it is for one part.
local function with_part(request, name)
  if not name then return request end
  local own = { part = name }
  for key, value in pairs(request) do own[key] = value end
  return own
end

-- Puts a release to one part after another. The journal has each before it is touched, so that all are put back.
local function put_to_parts(self, whole, names)
  local journal = self.journal
  for i, name in ipairs(names) do
    if i > 1 then self.steps:ready(true) end -- a hold stops it between two parts
    local request = with_part(whole, name)
    self:log("part %s", name)
    local given = { release = request.release, part = name }
    self.steps:value("part", given, function() return journal:give(request.release, name, "pending") end, true)
    local ok, err = pcall(put, self, request) ---@type boolean, any
    if not ok then
      err = errors.wrap(err)
      if not err.message:find("^part ") then err.message = ("part %s: %s"):format(name, err.message) end
      error(err, 0)
    end
    self.steps:value("part live", given, function() return journal:give(request.release, name, "live") end, true)
  end
end

---@class ReleaseOptions
---@field part? string Of several targets: the one part that gets it, as a canary. The release is not live before the
--- rest has it, too; until then, and when its run ends before, it is what a rollback takes back.
---@field version? string
---@field restored? boolean
---@field versions? table<string, string> By name, for targets that put several out at once.
---@field containers? string[] With init_containers: those that get the image, instead of the configuration's.
---@field init_containers? string[]
---@field cause? string What the target's own history says of it (kubernetes.io/change-cause).
---@field pod_annotations? table<string, string>

-- What the target is asked for besides the image.
local PASSED_ON <const> = { "version", "restored", "versions", "containers", "init_containers", "cause",
  "pod_annotations" }
local RELEASE_OPTIONS <const> = { "part", table.unpack(PASSED_ON) }

---Rolls an image out by digest, waits until the target reports it, and lets it prove itself. A release that fails is
---recorded as failed and raises; the rollback policy is asked at once. One that a transient error stops is recorded
---as unfinished, and the run is tried again.
---@async
---@param image Image|{digest: string, image: string, commit?: string}
---@param options? ReleaseOptions
function Run:release(image, options)
  if type(image) ~= "table" or not image.digest then
    error("usage: run:release(image [, {version=, part=}])", 2)
  end
  known_options(self, "run:release", options, RELEASE_OPTIONS, 2)
  options = options or {}
  self.steps:ready(true)
  local whole <close> = self.steps:counting "busy" -- no other run passes between its steps
  local place, journal, run_id, only = self.place, self.journal, self.id, options.part
  if only then must(targets.part(place.config, only)) end
  local id = self.steps:value("release", { image = image.image, version = options.version, part = only }, function()
    return journal:add_release {
      app = self.app, environment = self.environment, run = run_id, version = options.version, commit = image.commit,
      digest = image.digest, image = image.image, restored = options.restored, containers = options.containers,
      init_containers = options.init_containers, only = only,
      settings = not place.app_config.found and require("targets.settings").of(place.config) or nil,
    }
  end, true)
  assert(whole)
  local request = { image = image.image, digest = image.digest, commit = image.commit, release = id }
  for _, name in ipairs(PASSED_ON) do request[name] = options[name] end
  local names = parts_for(self, image, options)
  local ok, err = pcall(names and put_to_parts or put, self, request, names) ---@type boolean, any
  if not ok then
    err = errors.wrap(err)
    if err.code == "cancelled" or err.code == "diverged" or self.stopping() then error(err, 0) end
    -- A transient error: the release is neither good nor bad, and the run is retried.
    self.steps:value("release failed", { release = id }, function()
      return journal:set_release(id, errors.passing(err) and "unfinished" or "failed", err.message)
    end, true)
    err.release = id
    error(err, 0)
  end
  if only then
    self.steps:value("release canary", { release = id }, function() return journal:set_release(id, "canary") end, true)
  else
    self.steps:value("release live", { release = id }, function() return journal:set_release(id, "live") end, true)
  end
  self.released(id)
  for _, name in ipairs(names or { false }) do
    name = name or nil
    self.steps:perform("settle", { digest = image.digest, part = name }, function()
      return must(target_of(self, with_part(request, name)):settle {
        digest = image.digest, release = id, restored = options.restored, part = name, hooks = self.hooks,
      })
    end)
  end
end

---Puts an earlier release back: its digest is rolled out again, nothing is built.
---@async
---@param release {id: integer, version?: string, commit?: string, digest: string, image: string, containers?: string[],
--- init_containers?: string[]}
function Run:restore(release)
  self:release(release, {
    version = release.version, restored = true, containers = release.containers,
    init_containers = release.init_containers,
  })
end

---@class MetricOptions
---@field prometheus? string Address of the server, with `query`.
---@field query? string PromQL that gives a number: a scalar, or an instant vector, whose values must all be in bounds.
---@field url? string Address that answers with JSON, with `json`.
---@field json? string Where the number is: "errors.rate".
---@field token? {env: string}|{file: string} Bearer token; a variable must be one of the app's `env`.
---@field name? string What people call it.
---@field over? Seconds|string How long it is sampled, "1m" unless given.
---@field every? Seconds|string Time between two samples, "15s" unless given.
---@field above? number
---@field below? number
---@field within? number[] Two numbers.
---@field failures? integer Samples that may be out of bounds: 0.
---@field samples? integer Samples with a number that it takes to tell; half of all unless given.
---@field empty? number What an answer without a number counts as.
---@field partial? boolean Takes incomplete answers for whole.
---@field inconclusive? "fail"|"pass" What too few numbers mean: "fail".
---@field dry_run? boolean Only says what it would have said, and passes.

---Samples a number over a time against a bound: the analysis of a canary. Raises when it does not pass. Waits durably:
---a restart goes on with the samples that it had.
---@async
---@param options MetricOptions
---@return MetricResult result { outcome, summary, samples, failures, missing, min, max, mean, last }
function Run:metric(options)
  local m, asked = metric.given(options, self.place)
  return measure(self, m, asked, function(err) error(err, 0) end)
end

---Marks a release as bad, so that its digest is not put back by a later rollback.
---@param id integer
---@param reason string
function Run:mark_bad(id, reason)
  local journal = self.journal
  self.steps:value("mark bad", { release = id }, function()
    local release = journal:release_by_id(id)
    if not release or release.app ~= self.app or release.environment ~= self.environment then
      error(errors.new("not_found", ("%s %s has no release %s"):format(self.app, self.environment, tostring(id)),
        { op = "run:mark_bad" }), 0)
    end
    return journal:set_release(id, "bad", reason)
  end, true)
end

---The last good release before another one; nil when there is none.
---@param id integer
---@return {id: integer, version?: string, commit?: string, digest: string, image: string}?
function Run:good_before(id)
  return self.steps:value("good before", { release = id }, function() return self.place:good_before(id) end)
end

---Whether another release went out here after this one.
---@param id integer
---@return boolean
function Run:overtaken(id)
  return self.steps:value("overtaken", { release = id }, function()
    return self.journal:followed(self.app, self.environment, id)
  end)
end

---Holds this environment: changes wait until an operator orders unhold.
---@param reason string
function Run:hold(reason)
  local journal = self.journal
  self.steps:perform("hold", { reason = reason }, function()
    journal:hold(self.app, self.environment, "policy " .. self.row.policy, reason)
    return true
  end)
end

-- The text of a notification or log line.
local function said(word, text, ...)
  local ok, message = true, text
  if select("#", ...) > 0 and type(text) == "string" then ok, message = pcall(string.format, text, ...) end
  if not ok then error(("run:%s(%q): %s"):format(word, text, message), 3) end
  if type(message) == "string" or type(message) == "number" then return tostring(message) end
  if errors.is(message) then return tostring(message) end
  error(("usage: run:%s(text, ...); the text is a %s"):format(word, type(message)), 3)
end

---Notifies the channels that the environment names. A channel that fails does not fail the run.
---@async
---@param text string
---@param ... any For string.format.
function Run:notify(text, ...)
  local config, steps = self.place.config, self.steps
  if steps:since(2) then text = said("notify", text, ...) elseif select("#", ...) > 0 then text = text:format(...) end
  -- Whether there was a channel when an older edition passed here shows in what it recorded.
  if not steps:since(2) and #config.notify == 0 and steps:upcoming() ~= "notify" then return self:log(text) end
  steps:perform("notify", { text = text }, function()
    if #config.notify == 0 then
      self:log(text)
      return true
    end
    local ok, err = self.world.notify(config.notify, {
      level = "info", title = ("%s %s"):format(self.app, self.environment), text = text, app = self.app,
      environment = self.environment, run = self.id,
    })
    if not ok then log.warn("a notification failed", { app = self.app, error = tostring(err) }) end
    return ok and true or false
  end)
end

---Writes a line to the run's log.
---@param text string
---@param ... any For string.format.
function Run:log(text, ...)
  text = said("log", text, ...)
  self.steps.emit { kind = "note", level = "info", text = text }
end

---Waits; a restart of the host does not begin the wait again.
---@async
---@param seconds Seconds|string 90, or "1m30s".
function Run:sleep(seconds) self.steps:sleep(effects.seconds("run:sleep", seconds)) end

---The wall clock, as this run first saw it.
---@return number seconds
function Run.now(_) return effects.require("time").now() end

---Runs functions side by side; the first failure ends the others and is raised.
---@async
---@param fns (fun(): any)[]
---@return any[] results
function Run.all(_, fns) return effects.require("task").all(fns) end

---Performs your own effect as one step: recorded, answered from the journal after a crash. It must be idempotent,
---and return plain data.
---@async
---@param name string
---@param args any What it depends on; nil when there is nothing.
---@param fn fun(attempt: integer): any
---@return any
function Run:step(name, args, fn)
  if type(name) ~= "string" or type(fn) ~= "function" then
    error("usage: run:step(name, args, fn); args may be nil", 2)
  end
  return self.steps:perform("step " .. name, args, fn, "acts")
end

---@param row table The journal's row.
---@param place Place
---@param parts RunParts Becomes the run.
---@return Run
function M.new(row, place, parts)
  local run = setmetatable(parts, Run) --[[@as Run]]
  run.id, run.row, run.place, run.by, run.kind = row.id, row, place, row.by, row.kind
  run.app, run.environment, run.settings = row.app, row.environment, run.settings or {}
  return run
end

-- What watch returned: the journal keeps what it has words for beside the rest.
local function change_of(run)
  local row, change = run.row, {}
  for key, value in pairs(row.change) do change[key] = value end
  if run.steps:since(2) then
    for _, key in ipairs { "key", "title", "by", "reason" } do
      if change[key] == nil then change[key] = row[key] end
    end
  end
  return change
end

---Runs a policy's `run` inside the current task.
---@async
---@param policy Policy
---@param run Run
function M.execute(policy, run)
  task.asked(("run %d of the policy %s (%s) for %s %s\nrun"):format(run.id, policy.name, policy.file,
    run.app, run.environment))
  local asking = { mode = "run", place = run.place, steps = run.steps, edition = run.steps.edition }
  local perform = require("policy.load").instance(policy, asking).run
  context.with(asking, perform, run_face(run), change_of(run))
  run.steps:finish()
  require("policy.load").strong(asking, run.steps)
end

local IMAGE_WORDS <const> = facade.methods(Image, { "tag" })
local RUN_WORDS <const> = words.of_run(Run)

image_face = facade.kind("image", IMAGE_FIELDS, IMAGE_WORDS)
run_face = facade.kind("run", { "id", "app", "environment", "by", "kind", "settings" }, RUN_WORDS, {
  made = { settings = function(run) return tables.copy(run.settings) end },
})

---What a run's policy may call: "run:image", "image:tag", ..., sorted.
---@return string[]
function M.words()
  local names = {}
  for kind, methods in pairs { run = RUN_WORDS, image = IMAGE_WORDS } do
    for name in pairs(methods) do names[#names + 1] = kind .. ":" .. name end
  end
  table.sort(names)
  return names
end

return M
