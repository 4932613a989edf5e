-- What the modules of policies reach in a simulated world: addresses that tests answer for, files in memory, programs.
local answers, errors, hash, http, json, proc = require "base.http_answer", require "errors", require "hash",
  require "http", require "json", require "proc"

local M = {}

---@class SimulatedAnswers
---@field addresses table<string, any> What a test answers, by address or the beginning of it.
---@field programs table<string, any> Likewise, by path.
---@field random integer How often random bytes were asked for.

-- What was given for the longest beginning of an address.
local function given(addresses, url)
  local best
  for address in pairs(addresses) do
    if url:sub(1, #address) == address and (not best or #address > #best) then best = address end
  end
  return best and addresses[best]
end

local function answer_of(method, url, value)
  if type(value) == "string" then value = { body = value } end
  if math.type(value) == "integer" then value = { status = value } end
  if not (math.type(value.status) == "integer" or value.body) then -- JSON may have a status of its own
    value = { body = assert(json.encode(value)), headers = { ["content-type"] = "application/json" } }
  end
  local names, values = {}, {}
  for name, text in pairs(value.headers or {}) do
    names[#names + 1], values[name:lower()] = name:lower(), tostring(text)
  end
  table.sort(names)
  return answers.raw {
    status = value.status or 200, url = url, elapsed = 0, http_version = "1.1",
    body = method ~= "HEAD" and value.body or "", names = names, values = values, location = values.location,
  }
end

local READS <const> = { GET = true, HEAD = true }

-- The headers as a server gets them, those that options stand for among them.
local function sent(headers, options)
  local all, auth = {}, options.auth
  for name, value in pairs(headers or {}) do all[name] = value end
  if options.etag then all["If-None-Match"] = options.etag end
  if auth then
    all.Authorization = auth.bearer and "Bearer " .. auth.bearer
      or "Basic " .. hash.base64(("%s:%s"):format(auth.user or "", auth.password or ""))
  end
  return all
end

local function http_module(outside, life, answered)
  return http.through(function(op, method, url, _, headers, options)
    local function refused(why) return errors.fail("refused", url .. " " .. why, { op = op, target = url }) end
    for part in pairs(outside:look().down) do
      if url:sub(1, #part) == part then return refused "is down" end
    end
    local value, err = given(answered.addresses, url), nil
    if value == nil then return refused "is not answered" end
    if not READS[method] then
      local done
      done, err = outside:effect(life, ("%s %s"):format(method, url), function() end)
      if not done then return nil, err end
    end
    if type(value) == "function" then
      value, err = value { method = method, url = url, body = options.body, headers = sent(headers, options) }
    end
    if value == nil and err then return nil, err end
    if value == nil then return refused "is not answered" end
    return answer_of(method, url, value)
  end)
end

-- ---- files ----

local function path_of(name, options)
  local full = (options and options.root and options.root .. "/" or "") .. name
  local parts = {}
  for part in full:gmatch "[^/]+" do
    if part == ".." then parts[#parts] = nil elseif part ~= "." then parts[#parts + 1] = part end
  end
  return "/" .. table.concat(parts, "/")
end

local function fs_module(outside, life)
  local face = { join = require("fs").join }
  local function files() return outside:look().files end
  local function effect(word, name, change)
    return outside:effect(life, ("%s file %s"):format(word, name), change)
  end
  local function missing(name)
    return errors.fail("not_found", name .. " does not exist", { op = "fs", target = name })
  end
  function face.read(name, options)
    local text = files()[path_of(name, options)]
    if not text then return missing(name) end
    local from = options and options.offset or 0
    return text:sub(from + 1, options and options.length and from + options.length or -1)
  end
  function face.exists(name, options) return (face.stat(name, options)) ~= nil end
  function face.stat(name, options)
    local path, there = path_of(name, options), files()
    if there[path] then return { type = "file", size = #there[path] } end
    for other in pairs(there) do
      if other:sub(1, #path + 1) == path .. "/" then return { type = "dir", size = 0 } end
    end
    return missing(name)
  end
  function face.list(name, options)
    local path, seen, list = path_of(name, options), {}, {}
    for other in pairs(files()) do
      local below = other:sub(1, #path + 1) == path .. "/" and other:sub(#path + 2) or ""
      local first = below:match "^[^/]+"
      if first and not seen[first] then
        seen[first] = true
        list[#list + 1] = { name = first, type = first == below and "file" or "dir" }
      end
    end
    table.sort(list, function(a, b) return a.name < b.name end)
    return list
  end
  function face.write(name, text, options)
    return effect("write", name, function(state) state.files[path_of(name, options)] = text end)
  end
  function face.append(name, text, options)
    local path = path_of(name, options)
    return effect("append to", name, function(state)
      state.files[path] = (state.files[path] or "") .. text
    end)
  end
  function face.mkdir() return true end
  function face.remove(name, options)
    local path = path_of(name, options)
    if not face.exists(name, options) then return missing(name) end
    return effect("remove", name, function(state)
      for other in pairs(state.files) do
        if other == path or other:sub(1, #path + 1) == path .. "/" then state.files[other] = nil end
      end
    end)
  end
  function face.rename(from, to, options)
    local path = path_of(from, options)
    if not files()[path] then return missing(from) end
    return effect("rename", from, function(state)
      state.files[path_of(to, options)], state.files[path] = state.files[path], nil
    end)
  end
  return face
end

-- ---- programs ----

local function proc_module(outside, life, answered)
  local function run(spec)
    local value = answered.programs[spec[1]]
    if value == nil then
      return errors.fail("not_found", ("there is no program %s in this world"):format(tostring(spec[1])),
        { op = "proc.run", target = spec[1] })
    end
    local done, err = outside:effect(life, "run " .. table.concat(spec, " "), function() end)
    if not done then return nil, err end
    if type(value) == "function" then value, err = value(spec) end
    if value == nil then return nil, err end
    local code = value.code or 0
    return { ok = code == 0, code = code, stdout = value.stdout or "", stderr = value.stderr or "", elapsed = 0 }
  end
  return { run = run, check = proc.check, spawn = function(spec) return run(spec) end }
end

local function hash_module(answered)
  local function random(bytes)
    answered.random = answered.random + 1
    local text = ""
    while #text < bytes do text = text .. hash.unhex(hash.sha256(("%d %d"):format(answered.random, #text))) end
    return text:sub(1, bytes)
  end
  return setmetatable({ random = random }, { __index = hash })
end

---The module that a policy's effects call.
---@param outside Outside
---@param life SimulatedLife
---@param answered SimulatedAnswers
---@return table<string, table>
function M.all(outside, life, answered)
  return {
    http = http_module(outside, life, answered), fs = fs_module(outside, life),
    proc = proc_module(outside, life, answered), hash = hash_module(answered), time = require "time",
  }
end

return M
