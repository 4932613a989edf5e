-- Image registries over the OCI distribution API: digests, tags, promotion by digest. Nothing is ever pulled.
--
-- A digest is what we computed from the bytes, not what a header says. Tokens are kept by (realm, service, scope,
-- user) until four fifths of their life are over. Rules: the distribution specification 1.1 and its token auth.
local errors, hash, http, json, log, time = require "errors", require "hash", require "http", require "json",
  require "log", require "time"

local M = {}

-- All four, always: without the lists a registry may answer with a child manifest, under another digest.
local ACCEPT <const> = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
  .. "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
local MANIFEST_MAX <const> = 4 << 20
local TIMEOUT <const> = 60
local MAX_PAGES <const> = 1000

---@class ImageRegistry
---@field name string "127.0.0.1:5101/team/web"
---@field path string "team/web"
---@field package base string
---@field package config RegistryConfig
local Repository = {}
Repository.__index = Repository

local tokens = {} -- key -> {token, until}
local schemes = {} -- base -> "basic" once a registry asked for it

---Splits an image name into the registry's host and the path below it; docker.io's short names are completed.
---@param name string
---@return string host
---@return string path
function M.split(name)
  local first, rest = name:match("^([^/]+)/(.+)$")
  if first and (first:find("[.:]") or first == "localhost") then
    if first == "docker.io" then return "registry-1.docker.io", rest:find("/", 1, true) and rest or "library/" .. rest end
    return first, rest
  end
  return "registry-1.docker.io", first and name or "library/" .. name
end

---The registry of an image repository, with the credentials that the configuration has for its host.
---@param name string Without tag.
---@param cfg Config
---@return ImageRegistry
function M.repository(name, cfg)
  local host, path = M.split(name)
  local known = cfg.registries[host] or host == "registry-1.docker.io" and cfg.registries["docker.io"] or {}
  local loopback = host:match("^127%.") or host:match("^localhost:?%d*$") or host:match("^%[::1%]")
  -- As container engines do: a registry on this machine may speak plain http unless it has a CA of its own.
  local plain = known.plain_http or loopback and not known.ca
  return setmetatable({
    name = name, path = path, host = host, base = (plain and "http://" or "https://") .. host, config = known, plain = plain,
  }, Repository)
end

-- ---- authentication ----

local function credentials(self)
  local config = self.config
  if not config.username then return nil end
  local password, err = config.password:reveal()
  if not password then return nil, err end
  return { user = config.username, password = password }
end

-- `Bearer realm="https://...",service="...",scope="..."` as a table.
local function challenge(text)
  local scheme, rest = text:match("^%s*(%a+)%s*(.*)$")
  if not scheme then return nil end
  local fields = { scheme = scheme:lower() }
  for key, value in rest:gmatch('(%a+)%s*=%s*"([^"]*)"') do fields[key:lower()] = value end
  return fields
end

local function origin(url) return url:match("^(%a+://[^/?#]+)") end

-- A registry must not talk us into sending its user's password to just anybody, or in the clear.
local function realm_allowed(self, realm)
  local at = origin(realm)
  if not at then return false end
  if at:match("^https://") then return true end
  return self.plain and at:match("^http://") ~= nil
end

local function fetch_token(self, ask, scope)
  if not ask.realm or not realm_allowed(self, ask.realm) then
    return errors.fail("denied", "the registry wants its token from a place we do not send passwords to",
      { op = "registry.token", target = self.name })
  end
  local auth, err = credentials(self)
  if err then return nil, err end
  local key = table.concat({ ask.realm, ask.service or "", scope, auth and auth.user or "" }, "\n")
  local known = tokens[key]
  if known and known.valid > time.monotonic() then return known.token, key end
  local url = ("%s%sservice=%s&scope=%s"):format(ask.realm, ask.realm:find("?", 1, true) and "&" or "?",
    M.escape(ask.service or ""), M.escape(scope))
  local answer
  answer, err = http.get(url, { auth = auth, ca = self.config.ca, timeout = TIMEOUT, redirects = 0, max_body = 1 << 20 })
  if not answer then return nil, err end
  if answer.status == 401 or answer.status == 403 then
    return errors.fail("unauthorized", "the registry's token service refused us" .. (auth and "" or " (no credentials are configured)"),
      { op = "registry.token", target = self.name })
  end
  if answer.status ~= 200 then return nil, M.failure(self, answer, "registry.token") end
  local body
  body, err = answer:json()
  local token = type(body) == "table" and (body.token or body.access_token)
  if type(token) ~= "string" then
    return errors.fail("protocol", "the token service gave no token", { op = "registry.token", target = self.name, cause = err })
  end
  log.secret(token)
  local life = math.type(body.expires_in) == "integer" and body.expires_in or 60
  tokens[key] = { token = token, valid = time.monotonic() + math.max(5, math.min(life, 3600)) * 0.8 }
  return token, key
end

---Percent-encodes a query value.
---@param text string
---@return string
function M.escape(text)
  return (text:gsub("[^%w%-._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

-- ---- requests ----

-- The error of an answer: the registry's own words, cleaned and cut.
function M.failure(self, answer, op)
  local code = ({ [401] = "unauthorized", [403] = "denied", [404] = "not_found", [409] = "conflict", [412] = "conflict",
    [429] = "rate_limited" })[answer.status] or "status"
  if answer.status >= 500 then code = "busy" end
  local words
  local body = answer.body and answer.body ~= "" and json.decode(answer.body)
  if type(body) == "table" and type(body.errors) == "table" and type(body.errors[1]) == "table" then
    local first = body.errors[1]
    words = ("%s: %s"):format(tostring(first.code), tostring(first.message)):gsub("%c", " "):sub(1, 300)
  end
  return errors.new(code, ("the registry answered %d%s"):format(answer.status, words and " (" .. words .. ")" or ""),
    { op = op, target = self.name, status = answer.status })
end

local function once(self, method, url, options, authorization)
  local headers = {}
  for k, v in pairs(options.headers or {}) do headers[k] = v end
  return http.request {
    method = method, url = url, headers = headers, body = options.body, auth = authorization, ca = self.config.ca,
    timeout = options.timeout or TIMEOUT, max_body = options.max_body or MANIFEST_MAX, sink = options.sink, body_file = options.body_file,
  }
end

---One call of the registry's API, authenticated as it asks for.
---@async
---@param method string
---@param path string Below the registry's address, or a whole URL of it.
---@param options {headers?: table, body?: string, body_file?: string, sink?: string, scope?: string, timeout?: number, max_body?: integer}
---@return HttpAnswer? answer
---@return Err? err
function Repository:call(method, path, options)
  local url = path:match("^https?://") and path or self.base .. path
  local scope = options.scope or ("repository:%s:pull%s"):format(self.path, (method == "GET" or method == "HEAD") and "" or ",push"
    .. (method == "DELETE" and ",delete" or ""))
  local way = origin(url) == self.base and schemes[self.base] or nil
  local authorization, err, used
  if way == "basic" then
    authorization, err = credentials(self)
  elseif way then
    used, err = fetch_token(self, way, scope)
    authorization = used and { bearer = used }
  end
  if way and not authorization and err then return nil, err end
  local answer
  answer, err = once(self, method, url, options, authorization)
  if not answer then return nil, err end
  if answer.status ~= 401 or origin(url) ~= self.base then return answer end
  local ask = answer.headers["www-authenticate"] and challenge(answer.headers["www-authenticate"])
  if not ask then return answer end
  if ask.scheme == "basic" then
    if authorization and way == "basic" then return answer end
    authorization, err = credentials(self)
    if not authorization then
      return errors.fail("unauthorized", "the registry wants a password, and the configuration has none for " .. self.host,
        { op = "registry", target = self.name, cause = err })
    end
    schemes[self.base] = "basic"
  elseif ask.scheme == "bearer" then
    schemes[self.base] = { realm = ask.realm, service = ask.service }
    local token, key = fetch_token(self, ask, scope)
    if not token then return nil, key end
    if used == token then -- the one it just refused
      tokens[key] = nil
      token, key = fetch_token(self, ask, scope)
      if not token then return nil, key end
    end
    authorization = { bearer = token }
  else
    return answer
  end
  return once(self, method, url, options, authorization)
end

-- ---- manifests ----

local function reference(self, ref) return ("/v2/%s/manifests/%s"):format(self.path, M.escape(ref):gsub("%%3A", ":")) end

local function valid_digest(text) return type(text) == "string" and text:match("^sha256:%x+$") ~= nil and #text == 71 end

---The manifest's exact bytes, checked against the digest that was asked for.
---@async
---@param ref string A tag or a digest.
---@return {digest: string, media_type: string, body: string}? manifest
---@return Err? err not_found, mismatch, ...
function Repository:manifest(ref)
  local answer, err = self:call("GET", reference(self, ref), { headers = { Accept = ACCEPT } })
  if not answer then return nil, err end
  if answer.status ~= 200 then return nil, M.failure(self, answer, "registry.manifest") end
  local digest = "sha256:" .. hash.sha256(answer.body)
  if valid_digest(ref) and ref ~= digest then
    return errors.fail("mismatch", ("asked for %s, got bytes of %s"):format(ref, digest), { op = "registry.manifest", target = self.name })
  end
  local decoded = json.decode(answer.body)
  if type(decoded) ~= "table" or decoded.schemaVersion ~= 2 then
    return errors.fail("protocol", "the registry's answer is no image manifest", { op = "registry.manifest", target = self.name })
  end
  local kind = answer.headers["content-type"]
  return { digest = digest, media_type = decoded.mediaType or kind and kind:match("^[^;%s]+") or "", body = answer.body, manifest = decoded }
end

---The digest that a tag points to.
---@async
---@param ref string
---@return string? digest
---@return Err? err not_found when there is no such tag.
function Repository:digest(ref)
  local answer, err = self:call("HEAD", reference(self, ref), { headers = { Accept = ACCEPT } })
  if not answer then return nil, err end
  if answer.status == 404 then
    return errors.fail("not_found", ("there is no %s"):format(ref), { op = "registry.digest", target = self.name })
  end
  local digest = answer.headers["docker-content-digest"]
  if answer.status == 200 and valid_digest(digest) and (not valid_digest(ref) or ref == digest) then return digest end
  local manifest -- HEAD has no body to tell what is wrong, and the header is optional
  manifest, err = self:manifest(ref)
  return manifest and manifest.digest, err
end

---Points a tag at a digest of this repository: the same bytes again, under the tag. Does nothing when it is so.
---@async
---@param digest string
---@param tag string
---@return true? ok
---@return Err? err
function Repository:tag(digest, tag)
  if type(tag) ~= "string" or not tag:match("^[%w_][%w_.-]*$") or #tag > 128 then
    return errors.fail("invalid", ("'%s' cannot be an image tag"):format(tostring(tag):sub(1, 130):gsub("%c", "?")),
      { op = "registry.tag", target = self.name })
  end
  local now, err = self:digest(tag)
  if now == digest then return true end
  if not now and not errors.is(err, "not_found") then return nil, err end
  local manifest
  manifest, err = self:manifest(digest)
  if not manifest then return nil, err end
  local answer
  answer, err = self:call("PUT", reference(self, tag), { headers = { ["Content-Type"] = manifest.media_type }, body = manifest.body })
  if not answer then return nil, err end
  if answer.status ~= 201 and answer.status ~= 200 then return nil, M.failure(self, answer, "registry.tag") end
  now, err = self:digest(tag)
  if now ~= digest then
    return errors.fail("mismatch", ("%s points to %s after it was moved to %s"):format(tag, tostring(now or err), digest),
      { op = "registry.tag", target = self.name })
  end
  return true
end

---The labels of an image's configuration.
---@async
---@param digest string
---@return table<string, string>? labels
---@return Err? err
function Repository:labels(digest)
  local manifest, err = self:manifest(digest)
  if not manifest then return nil, err end
  local list = manifest.manifest.manifests
  if type(list) == "table" then
    local chosen
    for _, child in ipairs(list) do
      local platform = type(child) == "table" and child.platform
      if type(platform) == "table" and platform.os == "linux" and (not chosen or platform.architecture == "amd64") then chosen = child.digest end
    end
    if not valid_digest(chosen) then return errors.fail("unsupported", "the index names no linux image", { op = "registry.labels", target = self.name }) end
    manifest, err = self:manifest(chosen)
    if not manifest then return nil, err end
  end
  local config = manifest.manifest.config
  local wanted = type(config) == "table" and config.digest
  if not valid_digest(wanted) then return errors.fail("protocol", "the manifest names no configuration", { op = "registry.labels", target = self.name }) end
  local answer
  answer, err = self:call("GET", ("/v2/%s/blobs/%s"):format(self.path, wanted), {})
  if not answer then return nil, err end
  if answer.status ~= 200 then return nil, M.failure(self, answer, "registry.labels") end
  if "sha256:" .. hash.sha256(answer.body) ~= wanted then
    return errors.fail("mismatch", "the image's configuration has other bytes than its digest", { op = "registry.labels", target = self.name })
  end
  local body
  body, err = json.decode(answer.body)
  if type(body) ~= "table" then return nil, err end
  local labels = {}
  for k, v in pairs(type(body.config) == "table" and type(body.config.Labels) == "table" and body.config.Labels or {}) do
    if type(v) == "string" then labels[k] = v end
  end
  return labels
end

-- ---- lists, copies, deletion ----

---Every tag, in the registry's order.
---@async
---@return string[]? tags
---@return Err? err
function Repository:tags()
  local list, seen, path = {}, {}, ("/v2/%s/tags/list?n=1000"):format(self.path)
  for _ = 1, MAX_PAGES do
    if seen[path] then return errors.fail("protocol", "the registry's list of tags goes in a circle", { op = "registry.tags", target = self.name }) end
    seen[path] = true
    local answer, err = self:call("GET", path, { max_body = 16 << 20 })
    if not answer then return nil, err end
    if answer.status ~= 200 then return nil, M.failure(self, answer, "registry.tags") end
    local body
    body, err = answer:json()
    if type(body) ~= "table" then return errors.fail("protocol", "the registry's answer is no list of tags", { op = "registry.tags", target = self.name, cause = err }) end
    for _, tag in ipairs(type(body.tags) == "table" and body.tags or {}) do
      if type(tag) == "string" then list[#list + 1] = tag end
    end
    local link = answer.headers["link"]
    local following = link and link:match('<([^>]+)>[^,]*rel="?next"?')
    if not following then return list end
    if following:match("^https?://") then
      if origin(following) ~= self.base then return errors.fail("redirect", "the next page of tags is on another host", { op = "registry.tags", target = self.name }) end
      path = following:sub(#self.base + 1)
    else
      path = following:sub(1, 1) == "/" and following or ("/v2/%s/tags/%s"):format(self.path, following)
    end
  end
  return errors.fail("too_large", "the registry's list of tags does not end", { op = "registry.tags", target = self.name })
end

---Deletes a manifest, and with it every tag that points to it.
---@async
---@param digest string
---@return true? ok
---@return Err? err
function Repository:delete(digest)
  if not valid_digest(digest) then error("usage: repository:delete(digest)", 2) end
  local answer, err = self:call("DELETE", reference(self, digest), {})
  if not answer then return nil, err end
  if answer.status == 405 then return errors.fail("unsupported", "this registry does not allow deleting", { op = "registry.delete", target = self.name }) end
  if answer.status ~= 202 and answer.status ~= 200 then return nil, M.failure(self, answer, "registry.delete") end
  return true
end

-- Brings one blob here: mounted from the other repository.
local function mount(self, from, digest)
  local head, err = self:call("HEAD", ("/v2/%s/blobs/%s"):format(self.path, digest), {})
  if head and head.status == 200 then return true end
  local scope = ("repository:%s:pull,push&scope=repository:%s:pull"):format(self.path, from.path)
  local answer
  answer, err = self:call("POST", ("/v2/%s/blobs/uploads/?mount=%s&from=%s"):format(self.path, digest, M.escape(from.path)), { scope = scope, body = "" })
  if not answer then return nil, err end
  if answer.status == 201 then return true end
  return nil, M.failure(self, answer, "registry.copy")
end

---Copies an image from another repository of the same registry, without its bytes passing through here.
---@async
---@param from ImageRegistry
---@param digest string
---@param tag string
---@return true? ok
---@return Err? err
function Repository:copy_from(from, digest, tag)
  local manifest, err = from:manifest(digest)
  if not manifest then return nil, err end
  local ok
  for _, child in ipairs(manifest.manifest.manifests or {}) do
    ok, err = self:copy_from(from, child.digest, child.digest)
    if not ok then return nil, err end
  end
  local blobs = { manifest.manifest.config, table.unpack(manifest.manifest.layers or {}) }
  for _, blob in ipairs(blobs) do
    ok, err = mount(self, from, blob.digest)
    if not ok then return nil, err end
  end
  local answer
  answer, err = self:call("PUT", reference(self, tag), { headers = { ["Content-Type"] = manifest.media_type }, body = manifest.body })
  if not answer then return nil, err end
  if answer.status ~= 201 then return nil, M.failure(self, answer, "registry.copy") end
  return true
end

---The X-Registry-Auth value that a container engine needs to pull and push here; nil for anonymous.
---@return string? value
---@return Err? err
function Repository:engine_auth()
  local auth, err = credentials(self)
  if err then return nil, err end
  local value = hash.base64(json.encode(auth and { username = auth.user, password = auth.password, serveraddress = self.host } or { auth = "" }))
  if auth then log.secret(value) end
  return value
end

return M
