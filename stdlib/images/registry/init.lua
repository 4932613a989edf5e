-- Image registries over the OCI distribution API: digests, tags, promotion by digest. Nothing is ever pulled.
--
-- What is promoted, copied or judged by its labels is what we hashed ourselves; a digest that a header claims
-- is only where to look. Rules: the distribution specification 1.1; quirks of the big registries are named
-- where they matter.
local errors, hash, http, json, log, time = require "errors", require "hash", require "http", require "json",
  require "log", require "time"
local compose = require "base.compose"
local client, content = require "images.registry.client", require "images.registry.content"
local link, manifests = require "images.registry.link", require "images.registry.manifest"
local reference, text = require "images.reference", require "base.text"
local token, upload = require "images.registry.token", require "images.registry.upload"

local M = {}

local MAX_PAGES <const>, MAX_TAGS <const>, LIST_TIME <const> = 1000, 500000, 300
local MAX_PAGE <const> = 16 << 20
-- How many tags a page is asked for. Some registries refuse what is more than their own limit.
local PAGE_SIZES <const> = { "?n=1000", "?n=100", "" }

---@class (partial) ImageRegistry
local Repository = {}
Repository.__index = Repository
compose(Repository, { client = client.methods, upload = upload.methods })

-- Whether a registry is on this machine, by its address and not by how its name begins.
local function on_loopback(host)
  local name = host:gsub(":%d+$", "")
  return name == "localhost" or name == "[::1]" or name:find("^127%.%d+%.%d+%.%d+$") ~= nil
end

local function configured(cfg, host)
  if not reference.is_hub(host) then return cfg.registries[host] end
  for name, known in pairs(cfg.registries) do
    if reference.is_hub(name) then return known end
  end
end

---The registry of an image repository, with the credentials that the configuration has for its host.
---@param name string Without tag.
---@param cfg Config
---@return ImageRegistry
function M.repository(name, cfg)
  local host, path = reference.split(name)
  local known = configured(cfg, host) or {}
  -- As container engines do: a registry on this machine may speak plain http unless it has a CA of its own.
  local plain = known.plain_http or on_loopback(host) and not known.ca or false
  return setmetatable({
    name = name, path = path, host = host, base = (plain and "http://" or "https://") .. host, config = known,
    plain = plain,
  }, Repository)
end

-- ---- manifests ----

local function about(self, op) return { op = "registry." .. op, target = self.name } end

local function fail(self, op, code, message) return errors.fail(code, message, about(self, op)) end

local function address(self, ref) return ("/v2/%s/manifests/%s"):format(self.path, ref) end

---The manifest's exact bytes, checked against the digest that was asked for.
---@async
---@param ref string A tag or a digest.
---@return Manifest? manifest
---@return Err? err not_found, mismatch, ...
---@return_overload nil, Err
function Repository:manifest(ref)
  local ok, err = manifests.check_reference(ref, about(self, "manifest"))
  if not ok then return nil, err end
  local answer
  answer, err = self:call("GET", address(self, ref), { headers = { Accept = manifests.ACCEPT } })
  if not answer then return nil, err end
  if answer.status == 404 then return fail(self, "manifest", "not_found", ("there is no %s"):format(ref)) end
  if answer.status ~= 200 then return nil, self:failure(answer, "registry.manifest") end
  return manifests.parse(answer.body or "", answer.headers["content-type"], reference.is_digest(ref) and ref or nil,
    about(self, "manifest"))
end

---Whether what was asked for may only be missing: registries say 401 or 403, too, of what is not there, so as not to
---tell whether it is. Who goes on to write it will hear whether it is a matter of rights.
---@param err? Err
---@return boolean
function M.may_be_missing(err)
  if errors.is(err, "not_found") then return true end
  return err ~= nil and (err.status == 401 or err.status == 403)
end

---The digest that a tag points to. Asks with HEAD: some registries count every GET against a limit. What HEAD refuses
---or does not find is asked for with GET: not every registry, and not every proxy before one, knows HEAD.
---@async
---@param ref string
---@return string? digest
---@return Err? err not_found when there is no such tag.
---@return_overload nil, Err
function Repository:digest(ref)
  local ok, err = manifests.check_reference(ref, about(self, "digest"))
  if not ok then return nil, err end
  local answer
  answer, err = self:call("HEAD", address(self, ref), { headers = { Accept = manifests.ACCEPT } })
  if not answer then return nil, err end
  if errors.passing(answer.status) then
    return nil, self:failure(answer, "registry.digest")
  end
  local digest = answer.headers["docker-content-digest"]
  local usable = answer.status == 200 and reference.is_digest(digest)
  if usable and (not reference.is_digest(ref) or ref == digest) then return digest end
  local manifest -- HEAD has no body to tell what is wrong, and the header is optional
  manifest, err = self:manifest(ref)
  return manifest and manifest.digest, err
end

-- Puts a manifest's bytes under a tag or its digest.
local function put(self, op, manifest, ref)
  local answer, err = self:call("PUT", address(self, ref),
    { headers = { ["Content-Type"] = manifest.media_type }, body = manifest.body })
  if not answer then return nil, err end
  if answer.status == 201 or answer.status == 200 then return true end
  return nil, self:failure(answer, "registry." .. op)
end

-- Points a tag to a manifest, and verifies it. A registry whose tags never change refuses even the
-- same digest again, so what is so already is not put.
local function point(self, op, digest, tag, get)
  local now, err = self:digest(tag)
  if now == digest then return true end
  if not now and not M.may_be_missing(err) then return nil, err end
  local manifest, ok
  manifest, err = get()
  if not manifest then return nil, err end
  ok, err = put(self, op, manifest, tag)
  if not ok then return nil, err end
  now, err = self:digest(tag)
  if now == digest then return true end
  if not now then return nil, err end
  return fail(self, op, "mismatch", ("%s points to %s after it was moved to %s"):format(tag, now, digest))
end

---Points a tag at a digest of this repository: the same bytes, put again. Does nothing when it is so.
---@async
---@param digest string
---@param tag string
---@return true? ok
---@return Err? err
---@return_overload nil, Err
function Repository:tag(digest, tag)
  local ok, err = manifests.check_target(digest, tag, about(self, "tag"))
  if not ok then return nil, err end
  return point(self, "tag", digest, tag, function() return self:manifest(digest) end)
end

-- The configuration of an image, read by its manifest.
local function configuration(self, op, manifest)
  if not manifest.config then return fail(self, op, "protocol", "the manifest names no configuration") end
  local bytes, err = self:blob(manifest.config.digest)
  if not bytes then return nil, err end
  local body = json.decode(bytes)
  if type(body) ~= "table" then return fail(self, op, "protocol", "the image's configuration is no object") end
  return body
end

---The platforms that an image is for: those of an index's children, else what its configuration says.
---@async
---@param digest string
---@return {os: string, architecture: string}[]? platforms Empty when it does not say.
---@return Err? err unsupported when it is no image; the message says what it is.
function Repository:platforms(digest)
  local manifest, err = self:manifest(digest)
  if not manifest then return nil, err end
  local what = content.of_manifest(manifest)
  if what then return fail(self, "platforms", "unsupported", what) end
  local list = {}
  local function add(p)
    if type(p) ~= "table" or type(p.os) ~= "string" or type(p.architecture) ~= "string" then return end
    if p.os == "" or p.os == "unknown" or p.architecture == "" then return end
    list[#list + 1] = { os = p.os, architecture = p.architecture }
  end
  for _, child in ipairs(manifest.children) do
    if content.is_image_child(child) then add(child.platform) end
  end
  if #manifest.children > 0 or not manifest.config then return list end
  local body
  body, err = configuration(self, "platforms", manifest)
  if not body then return nil, err end
  add(body)
  return list
end

---The labels of an image's configuration; of an index, those of its image for linux.
---@async
---@param digest string
---@return table<string, string>? labels
---@return Err? err
---@return_overload nil, Err
function Repository:labels(digest)
  local manifest, err = self:manifest(digest)
  if not manifest then return nil, err end
  if #manifest.children > 0 then
    local child = manifests.main_child(manifest)
    if not child then return fail(self, "labels", "unsupported", "the index names no linux image") end
    manifest, err = self:manifest(child)
    if not manifest then return nil, err end
  end
  local body
  body, err = configuration(self, "labels", manifest)
  if not body then return nil, err end
  local labels, given = {}, type(body.config) == "table" and body.config.Labels
  for k, v in pairs(type(given) == "table" and given or {}) do
    if type(k) == "string" and type(v) == "string" then labels[k] = v end
  end
  return labels
end

-- ---- lists, copies, deletion ----

-- Adds a page's tags to the list. What cannot be a tag is not one.
local function take(list, answer)
  local body, err = answer:json()
  if type(body) ~= "table" or body.tags ~= nil and body.tags ~= json.null and type(body.tags) ~= "table" then
    return nil, err
  end
  for _, tag in ipairs(type(body.tags) == "table" and body.tags or {}) do
    if reference.is_tag(tag) then list[#list + 1] = tag end
  end
  return true
end

-- How each registry wants to be asked for its first page, once it refused more.
local sizes = {}

-- The first page of tags; asks for less when the registry finds a page's size wrong.
local function first_page(self, path)
  local answer, err
  for i = sizes[self.base] or 1, #PAGE_SIZES do
    answer, err = self:call("GET", path .. PAGE_SIZES[i], { max_body = MAX_PAGE })
    if not answer or answer.status ~= 400 and answer.status ~= 413 and answer.status ~= 422 then
      if answer and answer.status == 200 then sizes[self.base] = i end
      return answer, err
    end
  end
  return answer, err
end

-- Where the list goes on: a path of this registry; nil at its end.
local function next_page(self, answer)
  local following, unknown = link.next(answer)
  if unknown then
    return fail(self, "tags", "protocol", "the registry's Link header does not tell whether there are more tags: "
      .. text.clean(unknown))
  end
  if not following then return nil end
  local path = self:path_of(following, answer)
  if not path then return fail(self, "tags", "redirect", "the next page of tags is on another host") end
  return path
end

---Every tag, in the registry's order.
---@async
---@return string[]? tags
---@return Err? err not_found when the repository is not there, or has no tags yet
---@return_overload nil, Err
function Repository:tags()
  local path = ("/v2/%s/tags/list"):format(self.path)
  local list, seen, last = {}, {}, time.monotonic() + LIST_TIME
  local answer, err = first_page(self, path)
  for page = 1, MAX_PAGES do
    if not answer then return nil, err end
    if answer.status ~= 200 then return nil, self:failure(answer, "registry.tags") end
    local ok, cause = take(list, answer)
    if not ok then
      return errors.fail("protocol", "the registry's answer is no list of tags",
        { op = "registry.tags", target = self.name, cause = cause })
    end
    path, err = next_page(self, answer)
    if not path then return not err and list or nil, err end
    if seen[path] then
      return fail(self, "tags", "protocol", "the registry's list of tags goes in a circle")
    end
    seen[path] = true
    if #list > MAX_TAGS or page == MAX_PAGES then break end
    if time.monotonic() > last then return fail(self, "tags", "timeout", "the list of tags took too long") end
    answer, err = self:call("GET", path, { max_body = MAX_PAGE })
  end
  return fail(self, "tags", "too_large", "the registry's list of tags does not end")
end

---Deletes a manifest, and with it every tag that points to it.
---@async
---@param digest string
---@return true? ok
---@return Err? err not_found; unsupported when this registry does not allow it
---@return_overload nil, Err
function Repository:delete(digest)
  if not reference.is_digest(digest) then error("usage: repository:delete(digest)", 2) end
  local answer, err = self:call("DELETE", address(self, digest), {})
  if not answer then return nil, err end
  if answer.status == 202 or answer.status == 200 then return true end
  if answer.status ~= 405 then return nil, self:failure(answer, "registry.delete") end
  return fail(self, "delete", "unsupported", "this registry does not allow deleting")
end

-- Brings one blob here: mounted from the other repository of the same registry.
local function mount(self, from, digest)
  local scopes = { ("repository:%s:pull,push"):format(self.path), ("repository:%s:pull"):format(from.path) }
  local answer, err = self:call("HEAD", ("/v2/%s/blobs/%s"):format(self.path, digest), { scopes = scopes })
  if answer and answer.status == 200 then return true end
  if not answer then return nil, err end
  local path = ("/v2/%s/blobs/uploads/?mount=%s&from=%s"):format(self.path, digest, http.escape(from.path))
  answer, err = self:call("POST", path, { scopes = scopes, body = "" })
  if not answer then return nil, err end
  if answer.status == 201 then return true end
  if answer.status ~= 202 then return nil, self:failure(answer, "registry.copy") end
  -- It began an upload instead. A session that is left behind costs it a file, so we end it if we can.
  local session = self:path_of(answer.headers.location or "", answer)
  if session then self:call("DELETE", session, { scopes = scopes }) end
  return fail(self, "copy", "unsupported", "the registry would not mount a layer of " .. from.path)
end

local function copy_parts(self, from, manifest, depth)
  if depth > 3 then return fail(self, "copy", "too_large", "an index within an index within an index") end
  local ok, err
  for _, child in ipairs(manifest.children) do
    local part
    part, err = from:manifest(child.digest)
    if not part then return nil, err end
    ok, err = copy_parts(self, from, part, depth + 1)
    if not ok then return nil, err end
    ok, err = put(self, "copy", part, part.digest)
    if not ok then return nil, err end
  end
  for _, item in ipairs(manifest.blobs) do
    ok, err = mount(self, from, item.digest)
    if not ok then return nil, err end
  end
  return true
end

---Copies an image from another repository of the same registry, without its bytes passing through here. The
---children of an index come first; the tag appears when everything is there. Does nothing when it is so.
---@async
---@param from ImageRegistry
---@param digest string
---@param tag string
---@return true? ok
---@return Err? err
---@return_overload nil, Err
function Repository:copy_from(from, digest, tag)
  if from.base ~= self.base then
    return fail(self, "copy", "unsupported", "the other repository is in another registry")
  end
  local ok, err = manifests.check_target(digest, tag, about(self, "copy"))
  if not ok then return nil, err end
  return point(self, "copy", digest, tag, function()
    local manifest, problem = from:manifest(digest)
    if not manifest then return nil, problem end
    ok, problem = copy_parts(self, from, manifest, 1)
    if not ok then return nil, problem end
    return manifest
  end)
end

---The X-Registry-Auth value that a container engine needs to pull and push here.
---@async
---@return string? value for anonymous too
---@return Err? err
---@return_overload nil, Err
function Repository:engine_auth()
  local auth, err = token.credentials(self)
  if err then return nil, err end
  local server = self.host == reference.HUB and reference.HUB_LOGIN or self.host
  local value = hash.base64(json.encode(auth and {
    username = auth.user, password = auth.password, serveraddress = server,
  } or { auth = "" }))
  if auth then log.secret(value) end
  return value
end

return M
