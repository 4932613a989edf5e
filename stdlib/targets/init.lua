-- Targets: where a release runs; opens one of the kind that `extensions` knows by name. Each kind has current, apply,
-- wait and settle, and answers with what the target itself reports.
local extensions = require "extensions"
local errors, log, text = require "errors", require "log", require "base.text"

local M = {}

---@class Running What a target itself reports.
---@field digest? string
---@field commit? string
---@field version? string
---@field image? string
---@field state? string
---@field healthy? boolean nil: unknown
---@field release? integer
---@field foreign? boolean Another image was put there since, not by us.
---@field generation? integer Of the host that wrote it.
---@field host? string Who that was.

---@class TargetRequest
---@field image string "repository@sha256:..."
---@field digest string
---@field commit? string
---@field version? string
---@field release integer
---@field containers? string[] kubernetes: with init_containers, those that get it instead of the configuration's.
---@field init_containers? string[]
---@field cause? string kubernetes: what kubernetes.io/change-cause is to say.
---@field pod_annotations? table<string, string> kubernetes: onto the pod template.
---@field restored? boolean It was good here before, and is to come back as it was.
---@field part? string Of an environment with several targets.
---@field versions? table<string, string> By name, for targets that put several out at once.
---@field run? integer
---@field by? string Who caused it.
---@field generation? integer Of the host. A target that can remember it writes it beside the release, and refuses a
--- lower one than it finds: err `conflict` whose field `generation` is the one that it found.
---@field host? string Who the host is, for people.
---@field since? Wall When this was decided: what another host wrote after that is not undone.
---@field timeout? Seconds For wait.
---@field hooks? {output: fun(stream: string, line: string), progress: fun(text: string)}

---@class Target
---@field destroy? fun(self, request: table): true?, Err? Takes everything down; not every target can.
---@field follows? boolean Another program rolls out: applying what runs already starts nothing anew.
---@field current fun(self): Running?, Err? Nothing runs: nil without an error.
---@field apply fun(self, request: TargetRequest): true?, Err? Accepted, not proved; asking again changes nothing.
---@field wait fun(self, request: TargetRequest): true?, Err? Until it runs; else unhealthy, with its last words.
---@field settle fun(self, request: TargetRequest): true?, Err? It proved itself: older than the one before may go.
---@field takes_over? boolean apply finds what a host before this state left running, and makes it this release's.
---@field failed? fun(self, request: TargetRequest, why: string) It did not pass its checks.
---@field plan? fun(self, request: TargetRequest): Planned[]?, Err? What apply would do besides: it only reads.

---Whether targets of a kind can be taken down by an order.
---@param kind string
---@return boolean
function M.destroys(kind)
  local entry = extensions.get("target", kind)
  return entry ~= nil and entry.destroys == true
end

---The kinds of targets that can be taken down.
---@return string[]
function M.that_go()
  local names = {}
  for _, entry in ipairs(extensions.all "target") do
    if entry.destroys then names[#names + 1] = entry.name end
  end
  return names
end

---Whether another program rolls out the releases of targets of a kind, in its own time.
---@param kind string
---@return boolean
function M.follows(kind)
  local entry = extensions.get("target", kind)
  return entry ~= nil and entry.follows == true
end

local parts_of = setmetatable({}, { __mode = "k" }) ---@type table<EnvironmentConfig, EnvironmentConfig[]>

-- The checks of a part: those that name no other. A job runs where the part does, unless it says where.
local function checks_of(environment, part)
  local list = {}
  for _, check in ipairs(environment.verify or {}) do
    if not check.part or check.part == part.name then
      if check.job and not check.cluster then
        check = setmetatable({
          cluster = part.target.cluster or "default", namespace = check.namespace or part.target.namespace,
        }, { __index = check })
      end
      list[#list + 1] = check
    end
  end
  return list
end

---The parts of an environment, in the order in which they are released: as environments with one target each. One with
---a single target is its own only part.
---@param environment EnvironmentConfig
---@return EnvironmentConfig[]
function M.parts(environment)
  if not environment.targets then return { environment } end
  local parts = parts_of[environment]
  if not parts then
    parts = {}
    for i, part in ipairs(environment.targets) do
      parts[i] = setmetatable({
        part = part.name, target = part.target, verify = checks_of(environment, part),
      }, { __index = environment })
    end
    parts_of[environment] = parts
  end
  return parts
end

---One part of an environment.
---@param environment EnvironmentConfig
---@param name? string nil: its only one, which has no name.
---@return EnvironmentConfig? part
---@return Err? err
---@return_overload nil, Err
function M.part(environment, name)
  local known = {}
  for i, part in ipairs(M.parts(environment)) do
    if part.part == name then return part end
    known[i] = part.part
  end
  return errors.fail("not_found", ("%s %s has no part %s%s"):format(environment.app, environment.name,
    tostring(name or "without a name"), #known > 0 and "; its parts are " .. table.concat(known, ", ") or ""),
    { op = "target" })
end

---What a place is called with its part, where people and other programs tell them apart.
---@param part EnvironmentConfig
---@param between string
---@return string
function M.called(part, between)
  return table.concat({ part.name, part.part }, between)
end

---An environment as one release sees it: with the release's own containers, where it names some (a workload with
---several images), so that what its target says is about them.
---@param environment EnvironmentConfig
---@param about ReleasePart
---@return EnvironmentConfig
function M.about(environment, about)
  if not about.containers and not about.init_containers then return environment end
  local target = {}
  for key, value in pairs(environment.target --[[@as table<string, any>]]) do target[key] = value end
  target.containers, target.init_containers = about.containers or {}, about.init_containers or {}
  return setmetatable({ target = target }, { __index = environment })
end

-- What is wrong with an extension is no fault of the release: it is tried again, and no digest is marked bad.
local function broken(entry, what)
  return nil, errors.new("internal", ("%s: target %s: %s"):format(entry.file, entry.name, what),
    { op = "target", passing = true })
end

local MAY_BE_SILENT <const> = { current = true, failed = true }

-- What a function of an extension's target answers, with what it raises as an error.
---@param fine boolean
---@param value any
---@param err any
local function answer(entry, word, fine, value, err)
  if fine and (value ~= nil or errors.is(err)) then return value, err end
  if not fine and errors.is(value) then
    if value.code == "cancelled" or value.code == "deadline" then error(value, 0) end
    return nil, value
  end
  if not fine or err ~= nil then return broken(entry, ("%s: %s"):format(word, tostring(fine and err or value))) end
  if MAY_BE_SILENT[word] then return nil end
  return broken(entry, word .. "() returned nothing; return true, or nil and an error")
end

local WORDS <const> = { current = true, apply = true, wait = true, settle = false, failed = false, destroy = false,
  plan = false }

---The target of a user's extension: what it lacks and what its functions do not answer is said with its file.
---@param entry KindEntry
---@param target any
---@param err? Err
---@return Target?
---@return Err? err
local function guarded(entry, target, err)
  if type(target) ~= "table" then
    if errors.is(err) then return nil, err end
    return broken(entry, "open() must return a target, or nil and an error")
  end
  local face = { follows = target.follows, takes_over = target.takes_over } --[[@as any]]
  for word, needed in pairs(WORDS) do
    if type(target[word]) == "function" then
      face[word] = function(_, ...) return answer(entry, word, pcall(target[word], target, ...)) end
    elseif needed then
      return broken(entry, ("open() gave no function %s"):format(word))
    end
  end
  face.settle = face.settle or function() return true end
  return face
end

---Opens the target of an environment.
---@param environment EnvironmentConfig
---@param world World
---@return Target? target
---@return Err? err
function M.open(environment, world)
  local entry = assert(extensions.get("target", environment.target.kind))
  if not extensions.is_users(entry) then return entry.open(environment, world) end
  return guarded(entry, extensions.call("target", entry.name --[[@as string]], "open", environment, world))
end

---The environment variables of a configuration as texts; revealing a secret registers it with the log's filter.
---@async
---@param map table<string, string|Secret>
---@return table<string, string>? env
---@return Err? err
---@return_overload nil, Err
function M.variables(map)
  local env = {}
  for name, value in pairs(map) do
    local plain, err = require("config.secret").text(value)
    if plain == nil then return nil, err end
    env[name] = plain
  end
  return env
end

---The output of a program or a container, fit for an error: the last lines, clean, without secrets.
---@param output string
---@param lines integer
---@return string
function M.last_words(output, lines)
  local list = {}
  for line in log.redact(output):gmatch("[^\r\n]+") do
    if line:match("%S") then list[#list + 1] = text.clean(line, 300) end
  end
  return table.concat(list, " | ", math.max(1, #list - lines + 1))
end

---Fails with what went wrong and, when there are any, the last words of who should know.
---@param code string
---@param what string
---@param said? string
---@param fields table
---@return nil, Err err
function M.complain(code, what, said, fields)
  if said and said ~= "" then what = what .. "; it said: " .. said end
  return errors.fail(code, log.redact(what), fields)
end

return M
