-- A place: an app in one environment, as policies see it. `watch(place)` reads here; nothing changes anything.
local context, effects, facade = require "policy.context", require "policy.effects", require "base.facade"
local short = require("base.text").short
local health, observing = require "engine.health", require "engine.current"
local problems, unknown = require "journal.problems", require "base.unknown"
local settings, tables = require "policy.settings", require "base.tables"
local observe, semver, targets = require "engine.observe", require "semver", require "targets"
local time, words = require "time", require "policy.words"
local known_options = require("policy.options").check

---@class Place: PlaceParts
---@field package beside fun(app: AppConfig, environment: EnvironmentConfig, seen: Seen): Place Makes another place.
---@field app string The app's name, as of a run; policies read it as `name`.
---@field environment string
---@field branch string
---@field accept string Version policy: all, major, minor, patch, ...
---@field settings table Those of the app and the environment, with what the policy declares: a copy.
---@field package face Place What a policy gets: the fields above and the methods.
---@field app_config AppConfig
---@field config EnvironmentConfig
---@field seen Seen What polling knows of the app.
---@field retrying? boolean A person tries again what failed: what is known of failures does not count.
local Place = {}
Place.__index = Place

---What all places of a host share: they have its fields as their own.
---@class PlaceParts
---@field journal Journal
---@field world World
---@field health HealthChecks
---@field suspensions table<string, Suspension>
---@field state string The state folder.
---@field folder? fun(place: Place): string
---@field poll_soon fun(app: string) Makes the next poll of an app come at once.

local M = {}

---A release as people read it: what was adopted may have neither version nor commit.
---@param release {version?: string, commit?: string, digest?: string}
---@return string
local function called(release)
  if release.version or release.commit then return release.version or short(release.commit) end
  return short(release.digest)
end
M.called = called

local face_of ---@type fun(place: Place): table

---Makes the maker of a host's places.
---@param shared PlaceParts
---@return fun(app: AppConfig, environment: EnvironmentConfig, seen: Seen): Place new
function M.maker(shared)
  local common = setmetatable(shared, Place) ---@type any
  local class = { __index = common }
  function common.beside(app, environment, seen)
    local self = setmetatable({
      app = app.name, environment = environment.name, branch = environment.branch or app.branch,
      accept = environment.accept,
      app_config = app, config = environment, seen = seen,
    }, class) --[[@as Place]]
    self.face = face_of(self)
    return self
  end
  return common.beside
end

---Gives the value back, or raises the error of a failure.
---@param value any
---@param err? any
---@return any value
local function raise(value, err)
  if value == nil and err ~= nil then error(err, 0) end
  return value
end

---The commit that a branch points at now, as a change. May wait for an explanation of how the app's branch moved.
---@async
---@param branch? string The app's unless given.
---@return {key: string, commit: string, title: string, reason?: string, by?: string}
function Place:head(branch)
  if branch ~= nil and type(branch) ~= "string" then error("usage: place:head([branch])", 2) end
  branch = branch or self.branch
  local head = raise(observe.repository(self):head(branch))
  return {
    key = head.commit, commit = head.commit, title = ("%s at %s"):format(branch, short(head.commit)),
    reason = branch == self.branch and observe.explain(self, head.commit) or nil,
    by = observe.pusher(self, head.commit, branch),
  }
end

---The branches of the repository whose names match a pattern, in the order of their names.
---@async
---@param pattern string "feature/*": `*` is any text, also with slashes, `?` any one character.
---@return {branch: string, commit: string}[]
function Place:branches(pattern)
  if type(pattern) ~= "string" then error("usage: place:branches(pattern)", 2) end
  local list, matches = {}, require("sources.git.branches").matches
  for _, branch in ipairs(raise(observe.repository(self):branches())) do
    if matches(pattern, branch.branch) then
      list[#list + 1] = { branch = branch.branch, commit = branch.commit }
    end
  end
  return list
end

local MOST <const> = 1000 -- commits that a policy gets at once

local function is_id(text) return type(text) == "string" and require("sources.git.refs").id_format(text) ~= nil end

---The commits that `to` has and `from` has not, newest first, each with the paths that it changed (of a merge, against
---its first parent). `status` says what `to` is as seen from `from`: "ahead", as after pushes; "behind" (a reset) or
---"identical", and then there are none; "diverged" (a force push); "unknown" when the repository has `from` no more:
---then they are the newest that lead to `to`. `cut` is true when there are more.
---@async
---@param from? string A full commit id; nil: the newest that lead to `to`.
---@param to string A full commit id.
---@param options? {most?: integer} How many at most: 100 unless given, up to 1000.
---@return GitChanges commits
function Place:commits(from, to, options)
  local most = options == nil and 100 or type(options) == "table" and (rawget(options, "most") or 100)
  if from ~= nil and not is_id(from) or not is_id(to) or math.type(most) ~= "integer" then
    error("usage: place:commits(from, to [, { most = 100 }]), from and to being full commit ids", 2)
  end
  ---@cast most integer
  known_options(nil, "place:commits", options, { "most" }, 2)
  local found = raise(observe.repository(self):changes(from, to, math.max(1, math.min(most, MOST))))
  return tables.copy(found)
end

-- Whether a tag is a newer version than that one.
local function above(name, last)
  local version = semver.tag(name)
  return version ~= nil and semver.compare(version, last) > 0
end

-- Why a tag that was first seen then is passed over: a rollback to what runs now came after it.
local function passed(name, seen, back)
  if not seen or seen > back.at then return nil end
  local version = back.version and semver.tag(back.version)
  if version and not above(name, version) then return nil end
  if not back.digest then return ("it was there when run %d began: %s"):format(back.run, back.title) end
  if back.by then return ("it was there when %s put %s here by run %d"):format(back.by, called(back), back.run) end
  return ("it was there when run %d went back to %s"):format(back.run, called(back))
end

---Why a version is passed over here, if so: a rollback to what runs now came after it.
---@param version string A tag's name.
---@return string? reason
function Place:passed_over(version)
  local journal = self.journal
  local back = not self.retrying and journal:gone_back(self.app, self.environment)
  return back and passed(version, journal:tag_seen(self.app, version), back) or nil
end

---Every tag of the repository, with what we know of it: `was` when it moved since we first saw it, `old` when it was
---there before Moontide was, `passed` (why, in words) when a rollback to what runs here came after it. Those
---that came since are first.
---@async
---@return {name: string, commit: string, was?: string, old: boolean, passed?: string}[]
function Place:tags()
  local repo, journal = observe.repository(self), self.journal
  local known, since, before = observe.known(journal, self.seen, self.app_config), {}, {}
  local inherited = journal:inherited(self.app, self.environment)
  local last = inherited and inherited.version and semver.tag(inherited.version)
  local back = not self.retrying and journal:gone_back(self.app, self.environment) or nil
  for _, tag in ipairs(raise(repo:tags())) do
    local k = known[tag.name]
    local old = k ~= nil and k.first_sight and not (last and above(tag.name, last))
    local list = old and before or since
    local seen = { name = tag.name, commit = tag.commit, old = old }
    if k and k.commit ~= tag.commit then seen.was = k.commit end
    if k and back and not old then seen.passed = passed(tag.name, k.at, back) end
    list[#list + 1] = seen
  end
  for _, tag in ipairs(before) do since[#since + 1] = tag end
  return since
end

---What the app's source found, where that is an extension's: a copy of what its poll gave.
---@return any
function Place:found()
  if self.seen.error then error(self.seen.error, 0) end
  return tables.copy(self.seen.found)
end

---The release that runs here, as the target reported it; nil when there is none.
---@return {id: integer, version?: string, commit?: string, digest?: string, at: number}?
function Place:current()
  local live = self.journal:live(self.app, self.environment)
  if live then
    return {
      id = live.id, version = live.version, commit = live.commit, digest = live.digest, image = live.image,
      at = live.at,
    }
  end
end

---What runs, looked up once for each question that a policy is asked: it may ask for every tag.
function Place:current_now()
  local c = context.current()
  if not c or c.mode ~= "watch" then return self:current() end
  if c.running == nil then c.running = self:current() or false end
  return c.running
end

---Whether a tag may follow the one that runs, by the environment's `accept` and `match_prerelease`.
---@param candidate string The tag's name.
---@param rule? string Another rule than the environment's `accept`: "patch", "range:>=2 <3", ...
---@return boolean allowed
---@return string reason In words.
function Place:allows(candidate, rule)
  if rule ~= nil then
    local known, err = semver.policy(rule)
    if not known then error(("place:allows: %s"):format(err and err.message or "this is no rule"), 2) end
  end
  local current = self:current_now()
  if not current or not current.version then return true, "nothing with a version runs yet" end
  local allowed, reason = semver.allows(rule or self.accept, current.version, candidate,
    { match_prerelease = self.config.match_prerelease })
  return allowed or false, tostring(reason)
end

local ENDED_BADLY <const> = { failed = true, quarantined = true, diverged = true, cancelled = true }

---The run that already tried this key here, when it failed or was cancelled, or when its release was taken back.
---@param key string
---@return {id: integer, how: "failed"|"was cancelled"|"was taken back", error: string}?
function Place:failed(key)
  if self.retrying then return nil end
  local run = self.journal:run_of_key(self.app, self.environment, key)
  if run and ENDED_BADLY[run.state] then
    local how = run.state == "cancelled" and "was cancelled" or "failed"
    return { id = run.id, how = how, error = run.error and run.error.message or run.state }
  end
  local reason = run and self.journal:taken_back(run.id)
  if reason then return { id = run.id, how = "was taken back", error = reason } end
end

local LOOKED <const> = 30 -- seconds for which it is believed how a target was
local SHOWN <const> = 20  -- runs that wait, of which a policy sees so many

-- Another environment of the app, as a place.
local function other(self, environment)
  local config = type(environment) == "string" and self.app_config.environments[environment]
  if config then return self.beside(self.app_config, config, self.seen) end
  return raise(unknown.environment(self.app_config, tostring(environment), "place:of"))
end

-- Whether what runs at a place is well: as its health is judged while it is watched, else as its target says.
local function is_well(place, live)
  local judged = place.seen.health and place.seen.health[place.environment]
  if judged and judged.release == live.id and judged.bad >= health.OBSERVATIONS then return false end
  observing.look_here(place, live, LOOKED)
  local at_work = { app_states = { [place.app] = place.seen } } ---@type any
  return problems.healthy(at_work, place.app, place.config)
end

-- The last change at a place, when it failed or was taken back.
local function failure_of(place)
  local run = place.journal:last_ended(place.app, place.environment, "change")
  if not run then return nil end
  local how, reason = run.state, run.error and run.error.message
  if not ENDED_BADLY[how] then how, reason = "bad", place.journal:taken_back(run.id) end
  return reason and {
    run = run.id, version = run.change.version, commit = run.change.commit, how = how, reason = reason,
  } or nil
end

---@class PlaceSeen Another environment of the app, as a policy sees it: plain data.
---@field environment string
---@field release? {id: integer, version?: string, commit?: string, digest?: string, image?: string, at: number} What
--- runs there, as the target reported it.
---@field since? number Since when that digest runs there, without another one between.
---@field healthy? boolean Whether it is well, by its checks while it is watched and by its target; nil: not known.
---@field waiting {id: integer, state: "running"|"queued", title: string, version?: string, commit?: string}[] What is
--- under way or waits there, the oldest first.
---@field held? {by: string, reason?: string, at: number} Who holds it, or everything.
---@field failed? {run: integer, version?: string, commit?: string, how: string, reason: string} The last change there,
--- when it failed ("failed", "cancelled", ...) or was taken back ("bad").

---Another environment of the same app, to read: what runs there, since when, whether it is well, what waits.
---Asks its target, unless that was done within the last half minute.
---@async
---@param environment string
---@return PlaceSeen
function Place:of(environment)
  local place = other(self, environment)
  local live, waiting = place:current(), {}
  for i, row in ipairs(place.journal:open_at(place.app, environment)) do
    if i > SHOWN then break end
    waiting[i] = {
      id = row.id, state = row.state, title = row.title, version = row.change.version, commit = row.change.commit,
    }
  end
  local hold, well = place.journal:hold_of(place.app, environment), nil
  if live then well = is_well(place, live) end
  return {
    environment = environment, release = live, healthy = well, waiting = waiting, failed = failure_of(place),
    since = live and live.digest and place.journal:runs_since(place.app, environment, live.digest) or nil,
    held = hold and { by = hold.by, reason = hold.reason, at = hold.at } or nil,
  }
end

---The release by which another environment proved a commit: it was live there, and was not found bad since. What runs
---there now must be well, too.
---@async
---@param environment string
---@param commit string A full commit id.
---@return {id: integer, version?: string, commit: string, digest: string, image: string, at: number}? release
---@return string? reason Why there is none, in words.
function Place:proved(environment, commit)
  local place = other(self, environment)
  local release, reason = place.journal:released(place.app, environment, commit)
  if release and place.journal:known_bad(place.app, environment, release.digest) then
    release, reason = nil, "its image is bad there"
  elseif release and release.state == "live" and is_well(place, release) == false then
    release, reason = nil, "it is not well there"
  end
  if not release then return nil, ("%s has not proved %s: %s"):format(environment, short(commit), reason) end
  return {
    id = release.id, version = release.version, commit = release.commit, digest = release.digest,
    image = release.image, at = release.at,
  }
end

---Who holds everything (`moontide freeze`), and why; nil when nothing is frozen. Changes wait in a freeze whether a
---policy asks or not; one that asks may have a better reason, or watch nothing at all meanwhile.
---@return {by: string, reason?: string, at: number, till?: number}? freeze
function Place:frozen()
  local freeze = self.journal:freeze_of(time.now())
  return freeze and { by = freeze.by, reason = freeze.reason, at = freeze.at, till = freeze.till }
end

-- Keeps what a policy turns down with the question that it was asked.
local function turn_down(subject, alarm, reason, ...)
  local c = context.current()
  local said = c and c.said
  if not said then error("a candidate is turned down while a policy is asked: inside of watch", 4) end
  subject, reason = tostring(subject), tostring(reason)
  if subject == "" then error("usage: place:refuse(subject, reason, ...): the subject is empty", 4) end
  if select("#", ...) > 0 then reason = reason:format(...) end
  said:add(subject, reason, alarm, effects.caller)
end

---Refuses a candidate; `moontide why` shows the reason with the line that said so. One decision a subject: further
---reasons for one are appended.
---@param subject string "v1.2.0"
---@param reason string
---@param ... any For string.format.
function Place.refuse(_, subject, reason, ...) turn_down(subject, nil, reason, ...) end

---Refuses a candidate as an alarm: logged as a warning and notified once.
---@param subject string
---@param reason string A format.
---@param ... any For string.format.
function Place.alarm(_, subject, reason, ...) turn_down(subject, true, reason, ...) end

-- Why a release that failed is not taken back: another release has the place now, or it never ran. nil: it is.
local function untouched(self, release)
  local run = release.run and self.journal:run_by_id(release.run)
  local code = run and run.error and run.error.code
  local note = ("%s was not finished (%s); nothing is taken back"):format(called(release), release.reason or code)
  if code == "conflict" or code == "busy" then return note end
  if code == "unhealthy" then return nil end
  local live = self.journal:live(self.app, self.environment, release)
  for _, part in ipairs(health.given(self, release)) do
    local target = self.world.target(targets.about(part, release))
    local running, err
    if target then running, err = target:current() end
    if err then
      return ("%s was not finished (%s), and the target does not tell what runs: %s"):format(called(release),
        release.reason or code, err.message)
    end
    local before = not target or not running and not live
      or running and live and running.digest == live.digest and live.digest ~= release.digest
    if not before then return nil end
  end
  return note
end

---The newest release here, when it ran and failed, or turned unhealthy while it is still watched.
---@async
---@return {key: string, release: integer, reason: string, version?: string, commit?: string}?
---@return string? reason Why there is nothing to do.
function Place:bad_release()
  local journal, note = self.journal, nil
  local newest = journal:newest_release(self.app, self.environment)
  if not newest then return nil, "nothing has been released here yet" end
  if newest.state == "failed" or newest.state == "cancelled" then
    note = untouched(self, newest)
    if note then newest = journal:live(self.app, self.environment, newest) end -- what ran before is still watched
    if not newest then return nil, note end
  end
  local name = called(newest)
  local change = { release = newest.id, version = newest.version, commit = newest.commit, digest = newest.digest }
  if newest.state == "failed" or newest.state == "cancelled" then
    change.reason = newest.reason or "it failed its checks"
  elseif newest.state == "canary" then
    local well, err = true, nil ---@type boolean?, Err?
    if newest.run then well, err = self.health:judge(self, newest) end
    if well ~= false then
      return nil, ("%s is a canary in the part %s since %s: %s"):format(name, newest.only, time.iso(newest.at),
        well and "it is healthy" or err and err.message or "nobody can tell")
    end
    change.reason = err and err.message or "it turned unhealthy"
  elseif newest.state == "live" and newest.run and time.now() - newest.at < self.config.watch_for then
    local well, err = self.health:judge(self, newest)
    if well ~= false then
      local until_when = time.iso(newest.at + self.config.watch_for)
      if well then return nil, note or ("%s is healthy, and watched until %s"):format(name, until_when) end
      return nil, ("%s is watched until %s: %s"):format(name, until_when, err and err.message or "nobody can tell")
    end
    change.reason = err and err.message or "it turned unhealthy"
  elseif newest.state == "live" then
    return nil, note or name .. " runs"
  else
    return nil, ("the newest release, %s, is %s%s"):format(name, newest.state, newest.reason and ": " .. newest.reason
      or "")
  end
  if newest.restored == 1 then
    self:alarm(name, "it was itself put back by a rollback, and fails too (%s): a person must look", change.reason)
    return nil, "a rollback failed: " .. change.reason
  end
  change.key = ("release %d"):format(newest.id)
  change.title = "take back " .. name
  return change
end

---The last release that was good here before another one; nil when there is none.
---@param id integer
---@return {id: integer, version?: string, commit?: string, digest: string, image: string}?
function Place:good_before(id)
  local bad = self.journal:release_by_id(id)
  return bad and self.journal:good_before(self.app, self.environment, id, bad.digest)
end

---The folder where this app's policies may keep files.
---@async
---@return string path
function Place:folder()
  local path = ("%s/files/%s"):format(self.state, self.app)
  raise(self.world.module("fs").mkdir(path, { parents = true }))
  return path
end

M.raise = raise

---The settings here as a policy sees them.
---@param policy? Policy nil: as they are.
---@return table? settings
---@return Err? err
function Place:settings_for(policy) return settings.of(self.app_config, self.config, policy and policy.settings) end

-- place.settings: made once for each question that a policy is asked; each reading is a copy, plain data.
local function settings_of(place)
  local c = context.current() or {} --[[@as Context]]
  c.settings = c.settings or raise(place:settings_for(c.policy))
  return tables.copy(c.settings)
end

face_of = facade.kind("place", { "name", "environment", "branch", "accept", "settings" }, words.of_place(Place), {
  made = { settings = settings_of }, framed = { refuse = true, alarm = true }, read = { name = "app" },
})

return M
