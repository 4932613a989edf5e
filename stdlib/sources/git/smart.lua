-- Git over HTTP in this process: one request lists references, one streams a pack.
--
-- Speaks protocol version 2 and falls back to version 0. No git process, no credential helper, no .netrc and
-- no configuration file is involved, so a password never leaves this host's memory except inside the request.
--
-- Redirects are followed on the first GET only and then rewrite the base address, as git does
-- (http.followRedirects=initial), and credentials stay with the origin that they were given for.

local api = require "base.api"
local budget = require "base.budget"
local errors = require "errors"
local hash = require "hash"
local http = require "http"
local pktline = require "sources.git.pktline"
local refs = require "sources.git.refs"
local text = require "base.text"
local time = require "time"
local url = require "sources.git.url"

local M = {}

local SUFFIX = "/info/refs?service=git-upload-pack"
local MAX_REDIRECTS = 3
-- Above what 200,000 references of annotated tags take.
local MAX_LIST = 32 * 1024 * 1024
local REDISCOVER = 24 * 3600
-- Longest silence inside of a pack: servers count and compress before they send.
local STALLED = 120

---What we call ourselves. Some servers treat agents that are not git's differently.
M.AGENT = "moontide/1"

---@class SmartEndpoint one repository behind HTTP
---@field url GitUrl
---@field username? string
---@field password? string
---@field ca? string file of certificates to trust instead of the system's
---@field timeout Seconds of a whole request for references
---@field interval Seconds longest pause that failures may cause
---@field private place? GitUrl where redirects led
---@field private caps GitCaps Set by the first answer.
---@field private caps_at number
local Endpoint = { caps_at = 0, timeout = 30 }
Endpoint.__index = Endpoint

---Makes an endpoint. Does no I/O.
---@param opts {url: GitUrl, username?: string, password?: string, ca?: string, timeout?: Seconds, interval?: Seconds}
---@return SmartEndpoint
---@nodiscard
function M.endpoint(opts)
  local self = setmetatable({ url = opts.url, interval = opts.interval or 30 }, Endpoint)
  for _, name in ipairs { "username", "password", "ca", "timeout" } do
    if opts[name] then self[name] = opts[name] end
  end
  self.username = self.username or opts.url.user
  return self
end

---An HTTP answer that is not a 200, as an error; reports it to the budget.
---@private
function Endpoint:status_error(response, op, share, place)
  local status = response.status
  local wait = api.asked(response)
  local code, message
  if status == 401 then
    code = "unauthorized"
    message = not self.password and "the server wants a user name and a password"
      or place.origin == self.url.origin and "the server does not accept the credentials"
      or "a redirect led to another server, which wants credentials: configure its address instead"
  elseif status == 429 or ((status == 403 or status == 503) and wait) then
    code, message = "rate_limited", "the server wants to be asked less often"
    share:hold(wait or 60)
  elseif status == 403 then
    code, message = "denied", "the server does not allow this"
  elseif status == 404 or status == 410 then
    code, message = "not_found", "the repository does not exist, or is hidden from these credentials"
  elseif status >= 300 and status < 400 then
    code, message = "redirect", "the server redirects a request that must not be redirected"
  else
    code, message = "status", "the server failed"
  end
  local err = errors.new(code, ("%s (HTTP %d)"):format(message, status), { op = op, target = self.url.text })
  err.status = status
  err.retry_after = wait
  if status >= 500 and code == "status" then
    share:failed(err, self.interval, self.url.text)
  else
    share:succeeded(self.url.text)
  end
  return nil, err
end

-- Whether it is the origin that the credentials were given for.
local function trusted(self, place) return place.origin == self.url.origin end

---@private
function Endpoint:request(op, opts)
  local place = opts.place or self.place or self.url
  local share = budget.of(place.origin)
  local slot <close>, err = share:enter(nil, self.url.text)
  if not slot then return nil, err end
  local headers = { ["Git-Protocol"] = "version=2", ["User-Agent"] = "git/2.0 (" .. M.AGENT .. ")",
    ["Accept"] = opts.accept, ["Content-Type"] = opts.content_type, ["Accept-Encoding"] = "identity" }
  local response
  response, err = http.request {
    method = opts.method, url = place.text .. opts.path, headers = headers, body = opts.body,
    auth = trusted(self, place) and self.password and { user = self.username or "git", password = self.password }
      or nil,
    ca = self.ca, timeout = opts.timeout or self.timeout, connect_timeout = 10, max_body = opts.max or MAX_LIST,
    redirects = opts.redirects or 0, stream = opts.stream, idle_timeout = opts.idle,
  }
  if not response then
    share:failed(err, self.interval, self.url.text)
    return nil, errors.new(err.code, err.message, { op = op, target = self.url.text, cause = err })
  end
  return response, share
end

---A 200 of the right type and without an encoding on top.
---@private
function Endpoint:check(response, share, op, kind, place)
  if response.status ~= 200 then return self:status_error(response, op, share, place or self.place or self.url) end
  share:succeeded(self.url.text)
  local content = (response.headers["content-type"] or ""):match "^[^;%s]*"
  if content:lower() ~= kind then
    return errors.fail("protocol", ("the server answers with %s, not with git's %s"):format(
      content == "" and "no content type" or text.clean(content, 60), kind),
        { op = op, target = self.url.text })
  end
  local encoding = response.headers["content-encoding"]
  if encoding and encoding:lower() ~= "identity" then
    return errors.fail("protocol", "the server compresses although nobody asked",
      { op = op, target = self.url.text })
  end
  return true
end

local function with_target(self, op, result, err)
  if result then return result end
  return nil, errors.new(err.code, err.message, { op = op, target = self.url.text, cause = err })
end

local function pause() time.sleep(0) end

---Learns the base address and the capabilities.
---@private
function Endpoint:discover()
  local op = "git.discover"
  local place = self.url
  local response, share = self:request(op,
    { method = "GET", path = SUFFIX, accept = "*/*", place = place, redirects = MAX_REDIRECTS })
  if not response then return nil, share end
  if response.url ~= place.text .. SUFFIX then
    -- The server that answers in the end is asked from now on. Credentials stay with the origin they were given for; a
    -- sign-in page is no repository.
    local found = response.url:sub(-#SUFFIX) == SUFFIX and url.parse(response.url:sub(1, -#SUFFIX - 1))
    if not found then
      return errors.fail("redirect", "the server redirects to something that is not a repository (sign-in page?)",
        { op = op, target = self.url.text })
    end
    place = found
  end
  local ok, err = self:check(response, share, op, "application/x-git-upload-pack-advertisement", place)
  if not ok then return nil, err end
  local caps
  caps, err = with_target(self, op, refs.parse_advertisement(response.body, pause))
  if not caps then return nil, err end
  self.caps_at = time.monotonic()
  -- A list of references is kept by the caller, not by the endpoint.
  local snapshot = caps.snapshot
  caps.snapshot = nil
  self.place, self.caps = place ~= self.url and place or nil, caps
  return caps, snapshot, response.body
end

---@private
function Endpoint:ask_refs()
  local op, caps = "git.ls_refs", self.caps
  caps.request = caps.request or refs.ls_refs_request(caps, M.AGENT)
  local response, share = self:request(op, {
    method = "POST", path = "/git-upload-pack",
    accept = "application/x-git-upload-pack-result", content_type = "application/x-git-upload-pack-request",
    body = caps.request,
  })
  if not response then return nil, share end
  local ok, err = self:check(response, share, op, "application/x-git-upload-pack-result")
  if not ok then return nil, err end
  return response.body
end

-- Errors after which the remembered capabilities or the redirected base may be what is wrong.
local STALE = { protocol = true, not_found = true, redirect = true, status = true, failed = true,
  denied = true }

---Lists HEAD, branches and tags: one POST, plus one GET at first, once a day and after surprises.
---@async
---@param known? string fingerprint of the answer that the caller has
---@return GitSnapshot|true|nil snapshot true when the answer is byte for byte the known one
---@return any fingerprint of this answer, or the error
function Endpoint:ls_refs(known)
  local fresh = not self.caps or self.caps.version == 0 or time.monotonic() - self.caps_at > REDISCOVER
  for attempt = 1, 2 do
    if fresh then
      local caps, snapshot, list = self:discover()
      if not caps then return nil, snapshot end
      if caps.version == 0 then
        local fingerprint = hash.sha256(list)
        if fingerprint == known then return true, known end
        snapshot.at = time.now()
        return snapshot, fingerprint
      end
    end
    local body, err = self:ask_refs()
    local snapshot
    if body then
      local fingerprint = hash.sha256(body)
      if fingerprint == known then return true, known end
      snapshot, err = with_target(self, "git.ls_refs", refs.parse_ls_refs(body, self.caps.format, pause))
      if snapshot then
        snapshot.at = time.now()
        return snapshot, fingerprint
      end
    end
    if fresh or attempt == 2 or not STALE[err and err.code] then return nil, err end
    fresh = true
  end
end

local function fetch_body(caps, wants, haves)
  local line = pktline.line
  local out = {}
  if caps.version == 2 then
    out[1] = line "command=fetch\n" .. (caps.agent and line("agent=" .. M.AGENT .. "\n") or "")
      .. line("object-format=" .. caps.format .. "\n") .. pktline.DELIM .. line "no-progress\n"
      .. line "ofs-delta\n"
    for _, oid in ipairs(wants) do out[#out + 1] = line("want " .. oid .. "\n") end
  else
    local words = "side-band-64k ofs-delta no-progress"
      .. (caps.format == "sha256" and " object-format=sha256" or "")
      .. (caps.agent and " agent=" .. M.AGENT or "")
    for i, oid in ipairs(wants) do
      out[#out + 1] = line("want " .. oid .. (i == 1 and " " .. words or "") .. "\n")
    end
    out[#out + 1] = pktline.FLUSH
  end
  for _, oid in ipairs(haves) do out[#out + 1] = line("have " .. oid .. "\n") end
  out[#out + 1] = line "done\n"
  if caps.version == 2 then out[#out + 1] = pktline.FLUSH end
  return table.concat(out)
end

-- Takes the pack out of the frames that follow a `done`. State: nil (before the pack), "shallow", "pack", "end".
-- A server whose own history is cut says where, before the pack.
local function unpack_frames(op, target, sink, shallow)
  local state
  local function fail(code, message)
    return errors.fail(code, message, { op = op, target = target })
  end
  return function(kind, payload)
    if kind == "broken" then return nil, payload end
    if state == "end" then return fail("protocol", "something follows the pack") end
    if kind == "flush" then
      if state ~= "pack" then return fail("protocol", "the server sent no pack") end
      state = "end"
      return true
    end
    if kind == "delim" and state == "shallow" then
      state = nil
      return true
    end
    if kind ~= "data" then return fail("protocol", "an unexpected marker inside of the pack") end
    if state == "shallow" then
      local ending = payload:match "^shallow (%x+)\n?$"
      if not refs.id_format(ending) then return fail("protocol", "a line does not say where the history ends") end
      shallow[#shallow + 1] = ending
      return true
    end
    local channel = payload:byte(1)
    if state == "pack" or channel == 1 or channel == 2 or channel == 3 then
      state = "pack"
      if channel == 1 then return sink(payload:sub(2)) end
      if channel == 2 then return true end
      if channel == 3 then return fail("failed", "the server says: " .. text.clean(payload:sub(2))) end
      return fail("protocol", "the pack has a channel of unknown number")
    end
    if payload:sub(1, 4) == "ERR " then
      local message = text.clean(payload:sub(5))
      return fail(message:find "not our ref" and "not_found" or "failed", "the server says: " .. message)
    end
    if payload:find "^shallow%-info\n?$" then
      state = "shallow"
      return true
    end
    if payload:find "^packfile\n?$" then
      state = "pack"
      return true
    end
    -- Version 0 acknowledges the `have` lines before the pack.
    if payload:find "^NAK\n?$" or payload:find "^ACK %x+[%a ]*\n?$" then return true end
    return fail("protocol", "the answer to a fetch is neither an acknowledgement nor a pack")
  end, function()
    if state == "end" then return true end
    return fail("protocol", "the pack ends early")
  end
end

---@class FetchOptions
---@field wants string[] full ids
---@field haves string[] ids whose whole history is here
---@field shallow string[] gets the commits at which the server's own history ends, before the pack comes
---@field sink fun(bytes: string): boolean?, Err? gets the pack; a false result ends the transfer
---@field timeout Seconds of the whole transfer
---@field max integer longest pack in bytes

---Streams the pack of some objects into a sink.
---@async
---@param opts FetchOptions
---@return true?
---@return Err? err code "not_found" when the server does not give one of the ids
---@return_overload nil, Err
function Endpoint:fetch(opts)
  local op = "git.fetch"
  local caps, err = self.caps, nil
  if not caps then caps, err = self:discover() end
  if not caps then return nil, err end
  if caps.version == 0 and not caps.words["side-band-64k"] then
    return errors.fail("unsupported", "the server is too old to be fetched from",
      { op = op, target = self.url.text })
  end
  local response <close>, share = self:request(op, {
    method = "POST", path = "/git-upload-pack", stream = true, timeout = opts.timeout, idle = STALLED,
    max = opts.max,
    accept = "application/x-git-upload-pack-result", content_type = "application/x-git-upload-pack-request",
    body = fetch_body(caps, opts.wants, opts.haves),
  })
  if not response then return nil, share end
  local ok
  ok, err = self:check(response, share, op, "application/x-git-upload-pack-result")
  if not ok then return nil, err end
  for _, ending in ipairs(caps.shallow or {}) do table.insert(opts.shallow, ending) end
  local take, finished = unpack_frames(op, self.url.text, opts.sink, opts.shallow)
  local reader = pktline.reader()
  local deadline = time.monotonic() + opts.timeout
  while true do
    local chunk
    if time.monotonic() > deadline then
      return errors.fail("timeout", ("the pack did not come within %.0f s"):format(opts.timeout),
        { op = op, target = self.url.text })
    end
    chunk, err = response:read(65536)
    if err then return with_target(self, op, nil, err) end
    if not chunk then break end
    for kind, payload in reader:feed(chunk) do
      ok, err = take(kind, payload)
      if not ok then return nil, err end
    end
  end
  return finished()
end

return M
