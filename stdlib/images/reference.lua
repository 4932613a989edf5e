-- Image references: "host:5000/team/web:1.2.3@sha256:...". The one place that takes them apart and puts them together.
--
-- The grammar is that of the distribution project (its package reference) and of the OCI distribution specification;
-- short names mean Docker Hub, as they do to every container engine.
local M = {}

---Docker Hub, as its registry is asked, and as configurations of docker and its relatives call it.
M.HUB, M.HUB_LOGIN = "registry-1.docker.io", "https://index.docker.io/v1/"

local HUB_NAMES <const> = { ["docker.io"] = true, ["index.docker.io"] = true, [M.HUB] = true }
local TEXT_MAX <const>, PATH_MAX <const>, TAG_MAX <const> = 1024, 255, 128

---@class ImageReference
---@field name string As it was written, without tag and digest: what a new image string begins with.
---@field repository string "host/path", completed: two references with the same one mean the same repository.
---@field tag? string
---@field digest? string "sha256:..."

---Whether a host is one of Docker Hub's names.
---@param host string
---@return boolean
function M.is_hub(host) return HUB_NAMES[host] == true end

---Whether a text is a digest that we can check.
---@param text any
---@return boolean
function M.is_digest(text)
  return type(text) == "string" and #text == 71 and text:find("^sha256:[0-9a-f]+$") ~= nil
end

---Whether a text can be an image's tag.
---@param text any
---@return boolean
function M.is_tag(text)
  return type(text) == "string" and #text <= TAG_MAX and text:find("^[%w_][%w_.-]*$") ~= nil
end

---The host and the path of a name as it is written: the first component is a host when it holds a dot or a colon, or
---is "localhost".
---@param name string
---@return string? host nil: Docker Hub is meant.
---@return string path
function M.host_and_path(name)
  local first, rest = name:match("^([^/]+)/(.+)$") ---@cast rest string
  if first and (first:find("[.:]") or first == "localhost") then return first, rest end
  return nil, name
end

---The registry's host and the path below it; short names of Docker Hub are completed.
---@param name string
---@return string host
---@return string path
function M.split(name)
  local host, path = M.host_and_path(name)
  if host and not HUB_NAMES[host] then return host, path end
  return M.HUB, path:find("/", 1, true) and path or "library/" .. path
end

---The one name of a repository, however it is shortened: "host/path".
---@param name string
---@return string
function M.canonical(name)
  local host, path = M.split(name)
  return host .. "/" .. path
end

---The parts of what an engine or a cluster calls an image: name, tag, digest. Nothing is checked.
---@param text string
---@return string name
---@return string? tag
---@return string? digest
function M.parts(text)
  local rest, digest = text:match("^([^@]*)@(.*)$")
  rest = rest or text
  local name, tag = rest:match("^(.+):([^:/]+)$")
  return name or rest, tag, digest
end

---The digest that a text ends with; nil when it has none that we can check.
---@param text any "team/web@sha256:...", "docker-pullable://team/web@sha256:..."
---@return string? digest
function M.digest(text)
  local digest = type(text) == "string" and text:match("@(sha256:[^@]*)$")
  return M.is_digest(digest) and digest or nil
end

-- One component of a path: [a-z0-9]+ with single . _, double __ or dashes between.
local function is_component(part)
  local rest = part:match("^[a-z0-9]+(.*)$")
  while rest and rest ~= "" do
    rest = rest:match("^%.[a-z0-9]+(.*)$") or rest:match("^__?[a-z0-9]+(.*)$") or rest:match("^%-+[a-z0-9]+(.*)$")
  end
  return rest ~= nil
end

---The first component of a path that no repository can have.
---@param path string
---@return string? part
function M.wrong_component(path)
  for part in (path .. "/"):gmatch("(.-)/") do
    if not is_component(part) then return part end
  end
end

local function is_host(text)
  local host, port = text:match("^(%[[%x:]+%])(.*)$")
  if not host then
    host, port = text:match("^([^:]*)(.*)$") ---@cast host string
    for label in (host .. "."):gmatch("(.-)%.") do
      if not label:find("^%w[%w-]*$") or label:find("-$") then return false end
    end
  end
  return port == "" or port ~= nil and port:find("^:%d+$") ~= nil
end

local function is_any_digest(text)
  if text:find("^sha256:") then return M.is_digest(text) end
  local hex = text:match("^%a[%w+._-]*:(%x+)$")
  return hex ~= nil and #hex >= 32
end

---Takes an image reference apart. A part that is missing is missing: only the tag becomes "latest" when there is
---neither a tag nor a digest, as every container engine has it.
---@param text any
---@return ImageReference? reference nil when it is none.
function M.parse(text)
  if type(text) ~= "string" or #text > TEXT_MAX then return nil end
  local name, tag, digest = M.parts(text)
  if tag and not M.is_tag(tag) or digest and not is_any_digest(digest) then return nil end
  if #name == 64 and name:find("^%x+$") then return nil end -- the id of an image
  local host, path = M.host_and_path(name)
  if host and not is_host(host) or M.wrong_component(path) or #path > PATH_MAX then return nil end
  if not tag and not digest then tag = "latest" end
  return { name = name, repository = M.canonical(name), tag = tag, digest = digest }
end

---Writes a reference so that both people and machines know what runs: the tag for people, the digest for machines.
---@param name string
---@param tag? string
---@param digest? string
---@return string
function M.format(name, tag, digest)
  return name .. (tag and ":" .. tag or "") .. (digest and "@" .. digest or "")
end

return M
