-- How a release gets into a workload: exactly the named containers, the image by digest, annotations that say who.
--
-- Pure: an object as it is in, the body of a conditional PATCH out. A name that the workload does not have is an error
-- that tells which it has: a strategic merge would quietly add a container of that name.
local errors, rollout, text, time = require "errors", require "cluster.rollout", require "base.text", require "time"
local labels, reference = require "base.labels", require "images.reference"
local dig = rollout.dig

local M = {}

local PREFIX <const> = labels.PREFIX

---@class ContainerChoice
---@field containers? string[] Names. Left out: the only one.
---@field init_containers? string[]

---@class Deliverer Who writes: this host.
---@field host string Its name, for people.
---@field id string Of its state folder: hosts that share it are one.
---@field app string
---@field environment string

---What people call an object: "deployment/web".
---@param object table
---@return string
function M.name(object)
  return ("%s/%s"):format(tostring(object.kind):lower(), tostring(dig(object, "metadata", "name")))
end

---An annotation of ours; nil when there is none.
---@param object table
---@param key string
---@return string?
function M.annotation(object, key)
  local value = labels.get(dig(object, "metadata", "annotations"), key)
  return type(value) == "string" and value ~= "" and value or nil
end

local function names_of(group)
  local names = {}
  for i, c in ipairs(type(group) == "table" and group or {}) do names[i] = tostring(c.name) end
  return names
end

local function in_words(names) return #names > 0 and table.concat(names, ", ") or "none" end

---The containers of a workload that get the image.
---@param object table
---@param choice ContainerChoice
---@return {containers: table[], initContainers: table[]}? chosen The objects themselves.
---@return Err? err invalid: it has others.
---@return_overload nil, Err
function M.choose(object, choice)
  local what = M.name(object)
  local template = rollout.template(object)
  local function wrong(words, ...)
    return errors.fail("invalid", text.clean(words:format(...), 500), { op = "rollout.containers", target = what })
  end
  if not template then return wrong("%s describes no pods", what) end
  local chosen = { containers = {}, initContainers = {} }
  local wanted = { containers = choice.containers, initContainers = choice.init_containers or {} }
  local all = names_of(template.spec.containers)
  if not wanted.containers or #wanted.containers == 0 then
    if #wanted.initContainers > 0 then
      wanted.containers = {}
    elseif #all == 1 then
      wanted.containers = all
    else
      return wrong("%s has the containers %s: `containers` must name those that get the image", what, in_words(all))
    end
  end
  for _, group in ipairs { "containers", "initContainers" } do
    for _, name in ipairs(wanted[group] or {}) do
      local found
      for _, c in ipairs(template.spec[group] or {}) do
        if c.name == name then found = c end
      end
      if not found then
        return wrong("%s has no %scontainer '%s'; it has: %s", what, group == "initContainers" and "init " or "", name,
          in_words(names_of(template.spec[group])))
      end
      table.insert(chosen[group], found)
    end
  end
  return chosen
end

---The image of the chosen containers; nil and what differs when they do not agree.
---@param chosen {containers: table[], initContainers: table[]}
---@return string? image
---@return string? differing
function M.image(chosen)
  local image
  for _, group in ipairs { "containers", "initContainers" } do
    for _, c in ipairs(chosen[group]) do
      if image and c.image ~= image then return nil, ("%s and %s"):format(image, tostring(c.image)) end
      image = c.image
    end
  end
  return image
end

---The digest in an image's name.
---@param image? string
---@return string? digest
function M.digest(image)
  local digest = reference.digest(image)
  return digest and #digest == 71 and digest or nil
end

-- ---- who may ----

-- Annotations are untrusted: anyone who may patch the workload writes them. A generation counts up to a number that
-- hosts do not come to, so that each can take a higher one (a Lease counts in 32 bits, the journal in 64) and none is
-- locked out for good. A time that is still to come says nothing of who was first.
local MOST_GENERATION <const> = 1 << 30
local SKEW <const> = 3600 -- seconds that another host's clock may be ahead

-- A number as we write it into an annotation.
local function counted(digits)
  return digits and #digits <= 18 and digits:find("^%d+$") and math.tointeger(tonumber(digits)) or nil
end

---The number of the host's turn that wrote last; 0 when none of ours did.
---@param object table
---@return integer
function M.generation(object)
  local told = M.annotation(object, "generation")
  if told and #told > 18 and told:find("^%d+$") then return MOST_GENERATION end
  return math.min(counted(told) or 0, MOST_GENERATION)
end

---Whether this host may write now. A host may not after a later generation was written; of hosts that share
---a state, a lower release never follows a higher one; and of two that do not, whoever decided before the other wrote
---has been overtaken, and must look again.
---@param object table
---@param request TargetRequest
---@param who Deliverer
---@return true? ok
---@return Err? err conflict; `generation`: the one that was found, when it is higher.
---@return_overload nil, Err
function M.fence(object, request, who)
  local id, release = M.annotation(object, "state"), counted(M.annotation(object, "release"))
  if not id then return true end
  local found, own = M.generation(object), request.generation
  local host, at = M.annotation(object, "host") or "?", M.annotation(object, "at")
  local name = M.annotation(object, "version") or text.short(M.annotation(object, "commit"))
  local words
  if own and found > own then
    words = ("another Moontide, on host %s, released %s in generation %d; ours is %d (if no such host is left: kubectl"
      .. " annotate %s %s-)"):format(host, name, found, own, M.name(object),
      labels.name(dig(object, "metadata", "annotations"), "generation"))
  elseif id == who.id then
    if not release or M.annotation(object, "app") ~= who.app or M.annotation(object, "environment") ~= who.environment
      or release <= request.release then
      return true
    end
    words = ("release %d (%s, by host %s) came after this one, %d"):format(release, name, host, request.release)
  else
    local written = at and time.parse_iso(at)
    if not written or not request.since or written <= request.since or written > time.now() + SKEW then return true end
    words = ("another Moontide, on host %s, released %s at %s, after this was decided"):format(host, name, at)
  end
  return errors.fail("conflict", text.clean(words, 400), { op = "target.apply", target = M.name(object),
    generation = own and found > own and found or nil })
end

-- ---- what is written ----

-- To the millisecond: whole seconds would hide who was first.
local function now()
  local at = time.now()
  return (time.iso(at):gsub("Z$", (".%03dZ"):format((at % 1) * 1000 // 1)))
end

local function plain(value) return value ~= nil and text.clean(tostring(value), 200) or nil end

---The annotations of a release, as a map without prefix; absent ones are not in it.
---@param object table The workload as it is; {} for a new one.
---@param request TargetRequest
---@param who Deliverer
---@return table<string, string>
function M.story(object, request, who)
  return {
    app = who.app, environment = who.environment, by = plain(request.by or "moontide"), commit = plain(request.commit),
    version = plain(request.version), run = plain(request.run), release = plain(request.release),
    digest = request.digest, host = plain(request.host or who.host), state = who.id, at = now(),
    generation = plain(request.generation and math.max(request.generation, M.generation(object))),
  }
end

local KEYS <const> = { "app", "environment", "by", "commit", "version", "run", "release", "digest", "host", "state",
  "at", "generation" }

local function cause(story)
  return text.clean(("moontide: %s by %s"):format(story.version
    and ("%s (%s)"):format(story.version, text.short(story.commit)) or text.short(story.commit or story.digest),
    story.by), 200)
end

---The annotations as an object has them; `absent` stands for those that must go.
---@param story table<string, string>
---@param absent any nil leaves them out.
---@param told? string The policy's text for the history.
---@return table<string, any>
function M.annotations(story, absent, told)
  -- kubectl rollout history shows it
  local out = { ["kubernetes.io/change-cause"] = told and text.clean(told, 200) or cause(story) }
  for _, key in ipairs(KEYS) do out[PREFIX .. key] = story[key] or absent end
  return out
end

---Whether this very release has been written already: by an attempt before, or by another host that decided the same.
---@param object table
---@param chosen {containers: table[], initContainers: table[]}
---@param request TargetRequest
---@param who Deliverer
---@return boolean
function M.applied(object, chosen, request, who)
  if M.image(chosen) ~= request.image or M.annotation(object, "digest") ~= request.digest then return false end
  if M.annotation(object, "state") ~= who.id then
    return M.annotation(object, "state") ~= nil and not M.fence(object, request, who)
  end
  return M.annotation(object, "release") == tostring(request.release) and M.annotation(object, "app") == who.app
    and M.annotation(object, "environment") == who.environment
end

local function pod_spec(chosen, image)
  local spec = {}
  for group, list in pairs(chosen) do
    if #list > 0 then
      spec[group] = {}
      for i, c in ipairs(list) do spec[group][i] = { name = c.name, image = image } end
    end
  end
  return spec
end

---The body of the PATCH, for a strategic merge or (`apply`) for server-side apply. It holds the resourceVersion: it
---fails with 409 after a write in between.
---@param object table
---@param chosen {containers: table[], initContainers: table[]}
---@param request TargetRequest
---@param who Deliverer
---@param null any JSON's null, for annotations that go.
---@param apply? boolean
---@return table body
function M.body(object, chosen, request, who, null, apply)
  local body = {
    metadata = {
      resourceVersion = object.metadata.resourceVersion,
      annotations = M.annotations(M.story(object, request, who), not apply and null or nil, request.cause),
    },
    spec = { template = {
      metadata = request.pod_annotations and { annotations = request.pod_annotations } or nil,
      spec = pod_spec(chosen, request.image),
    } },
  }
  for _, key in ipairs(apply and {} or KEYS) do -- an apply takes away what it leaves out
    for _, name in ipairs(labels.outdated(object.metadata.annotations, key)) do
      body.metadata.annotations[name] = null
    end
  end
  if object.kind == "CronJob" then body.spec = { jobTemplate = { spec = body.spec } } end
  if apply then
    body.apiVersion, body.kind = object.apiVersion, object.kind
    body.metadata.name, body.metadata.namespace = object.metadata.name, object.metadata.namespace
  end
  return body
end

-- ---- who did it ----

-- Whether a set of fields (FieldsV1, docs "server-side apply") holds the image of a container.
local function holds_image(fields, kind, group, name)
  local at = fields
  local path = { "f:spec", "f:template", "f:spec", "f:" .. group }
  if kind == "CronJob" then path = { "f:spec", "f:jobTemplate", "f:spec", "f:template", "f:spec", "f:" .. group } end
  for _, key in ipairs(path) do
    at = type(at) == "table" and at[key] or nil
  end
  local entry = type(at) == "table" and at['k:{"name":"' .. name .. '"}']
  return type(entry) == "table" and entry["f:image"] ~= nil
end

---The managers that own the image of a container, from managedFields, the last to write first.
---@param object table
---@param group "containers"|"initContainers"
---@param name string
---@return {manager: string, operation: string, time: string}[]
function M.managers(object, group, name)
  local list = {}
  for _, entry in ipairs(dig(object, "metadata", "managedFields") or {}) do
    if holds_image(entry.fieldsV1, object.kind, group, name) then
      list[#list + 1] = {
        manager = text.clean(tostring(entry.manager), 80), operation = tostring(entry.operation),
        time = text.clean(tostring(entry.time), 40),
      }
    end
  end
  table.sort(list, function(a, b) return a.time > b.time end)
  return list
end

---Who gave a workload the image that it has, when that was not this request: for an error.
---@param object table
---@param chosen {containers: table[], initContainers: table[]}
---@param request TargetRequest
---@return string? words nil when the image is the wanted one.
function M.foreign(object, chosen, request)
  for _, group in ipairs { "containers", "initContainers" } do
    for _, c in ipairs(chosen[group]) do
      if c.image ~= request.image then
        local who = M.managers(object, group, c.name)[1]
        local by = who and ("%s (%s, %s)"):format(who.manager, who.operation, who.time) or "somebody"
        if who and who.manager == "moontide" then
          by = ("the Moontide on host %s"):format(M.annotation(object, "host") or "?")
        end
        return text.clean(("%s set the image of container %s to %s"):format(by, c.name, tostring(c.image)), 500)
      end
    end
  end
end

return M
