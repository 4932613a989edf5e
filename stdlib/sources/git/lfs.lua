-- Git LFS: what a pointer says, and the files that pointers stand for, by the batch API (git-lfs, docs/api/batch.md).
--
-- The server's answer is hostile input: every file must have the size and the digest that the commit's own pointer
-- gives, and credentials go to the repository's origin alone.
local code_of = require("base.api").code
local errors = require "errors"
local fs = require "fs"
local hash = require "hash"
local http = require "http"
local json = require "json"
local text = require "base.text"
local url = require "sources.git.url"

local M = {}

M.VERSION = "version https://git-lfs.github.com/spec/v1"
---A longer file is no pointer (git-lfs, docs/spec.md).
M.MAX_POINTER = 1024
local BATCH = 100
local MEDIA_TYPE = "application/vnd.git-lfs+json"
local OP = "git.lfs"
local CODES <const> = { [403] = "unauthorized" } -- where they differ from other services

---@class LfsPointer
---@field oid string sha256 of the file
---@field size integer

---Reads a pointer file; nil when the text is none.
---@param pointer string
---@return LfsPointer?
function M.parse(pointer)
  if #pointer > M.MAX_POINTER or pointer:sub(1, #M.VERSION + 1) ~= M.VERSION .. "\n" then return nil end
  local oid, size = pointer:match "\noid sha256:(%x+)\n", pointer:match "\nsize (%d+)\n"
  if not oid or #oid ~= 64 or not size or #size > 15 then return nil end
  return { oid = oid:lower(), size = math.tointeger(tonumber(size)) --[[@as integer]] }
end

---@class LfsSource where a repository's files are
---@field url GitUrl of the repository
---@field api? string address of the LFS server, where it is not below the repository's
---@field username? string
---@field password? string
---@field ca? string

local function fail(code, message, target, cause)
  return errors.fail(code, message, { op = OP, target = target, cause = cause })
end

local function origin(address)
  local at = url.parse((address:gsub("[?#].*$", "")))
  return at and at.origin
end

local function auth_for(source, address)
  if source.password and origin(address) == source.url.origin then
    return { user = source.username or "git", password = source.password }
  end
end

local function api_of(source)
  if source.api then return source.api end
  if source.url.scheme ~= "http" and source.url.scheme ~= "https" then
    return fail("unsupported", "an ssh address does not tell where the LFS files are: set `lfs` to the address of the "
      .. "LFS server (https://.../info/lfs)", source.url.text)
  end
  local base = source.url.text
  return (base:find "%.git$" and base or base .. ".git") .. "/info/lfs"
end

-- The addresses of some files: oid -> { href =, headers = }.
local function ask(source, api, pointers)
  local objects = {}
  for i, p in ipairs(pointers) do objects[i] = { oid = p.oid, size = p.size } end
  local answer, err = http.post(api .. "/objects/batch", {
    operation = "download", transfers = json.array { "basic" }, hash_algo = "sha256", objects = json.array(objects),
  }, {
    headers = { Accept = MEDIA_TYPE, ["Content-Type"] = MEDIA_TYPE }, auth = auth_for(source, api),
    ca = source.ca, timeout = 60,
  })
  if not answer then return fail(err.code, err.message, api, err) end
  if answer.status ~= 200 then
    local problem = errors.new(code_of(answer.status, CODES),
      ("the LFS server answers with HTTP %d"):format(answer.status), { op = OP, target = api })
    problem.status = answer.status
    return nil, problem
  end
  local value = answer:json()
  local found = {}
  for _, object in ipairs(type(value) == "table" and type(value.objects) == "table" and value.objects or {}) do
    if type(object) == "table" and type(object.oid) == "string" then
      local action = type(object.actions) == "table" and object.actions.download
      if type(action) == "table" and type(action.href) == "string" then
        found[object.oid] = { href = action.href, headers = type(action.header) == "table" and action.header or {} }
      elseif type(object.error) == "table" then
        found[object.oid] = { refused = text.clean(tostring(object.error.message or object.error.code), 200) }
      end
    end
  end
  return found
end

local function check(path, pointer, target)
  local digest, size = hash.sha256_file(path)
  if not digest then return nil, size end
  if digest ~= pointer.oid or size ~= pointer.size then
    fs.remove(path)
    return fail("mismatch", ("the LFS file %s has another content than its pointer says"):format(
      pointer.oid:sub(1, 12)), target)
  end
  return path
end

local function download(source, place, pointer, path)
  local short = pointer.oid:sub(1, 12)
  local where = source.url.text
  if not place then return fail("protocol", "the LFS server says nothing of the file " .. short, where) end
  if place.refused then return fail("not_found", ("the LFS file %s: %s"):format(short, place.refused), where) end
  local headers, signed = {}, false
  for name, value in pairs(place.headers) do
    if type(name) == "string" and type(value) == "string" then
      headers[name] = value
      signed = signed or name:lower() == "authorization"
    end
  end
  local answer, err = http.get(place.href, {
    headers = headers, auth = not signed and auth_for(source, place.href) or nil, ca = source.ca, sink = path,
    max_body = pointer.size, timeout = 900, idle_timeout = 60,
  })
  if not answer then return fail(err.code, ("the LFS file %s: %s"):format(short, err.message), where, err) end
  if answer.status ~= 200 then
    local problem = errors.new(code_of(answer.status, CODES),
      ("the LFS file %s: HTTP %d"):format(short, answer.status), { op = OP, target = where })
    problem.status = answer.status
    return nil, problem
  end
  return check(path, pointer, where)
end

-- A repository on this machine keeps its files beside its objects.
local function copy_local(source, pointer)
  for _, base in ipairs { source.url.path, source.url.path .. "/.git" } do
    local path = ("%s/lfs/objects/%s/%s/%s"):format(base, pointer.oid:sub(1, 2), pointer.oid:sub(3, 4), pointer.oid)
    local stat = fs.stat(path)
    if stat and stat.type == "file" then
      local digest, size = hash.sha256_file(path)
      if digest == pointer.oid and size == pointer.size then return path end
    end
  end
  return fail("not_found", ("the repository does not hold the LFS file %s"):format(pointer.oid:sub(1, 12)),
    source.url.text)
end

---Brings files; they are what their pointers say.
---@async
---@param source LfsSource
---@param pointers LfsPointer[] each once
---@param dir string where they may be put
---@return table<string, string>? paths by their oid
---@return Err? err
---@return_overload nil, Err
function M.fetch(source, pointers, dir)
  local paths = {}
  if source.url.scheme == "file" and not source.api then
    for _, p in ipairs(pointers) do
      local path, err = copy_local(source, p)
      if not path then return nil, err end
      paths[p.oid] = path
    end
    return paths
  end
  local api, err = api_of(source)
  if not api then return nil, err end
  for first = 1, #pointers, BATCH do
    local part = table.move(pointers, first, math.min(first + BATCH - 1, #pointers), 1, {})
    local places
    places, err = ask(source, api, part)
    if not places then return nil, err end
    for _, p in ipairs(part) do
      paths[p.oid], err = download(source, places[p.oid], p, dir .. "/" .. p.oid)
      if not paths[p.oid] then return nil, err end
    end
  end
  return paths
end

return M
