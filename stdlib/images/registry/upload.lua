-- What is put into a registry that no container engine pushes: blobs, and manifests that name them.
--
-- Rules: the distribution specification 1.1, pushing a blob monolithically in two requests.
local errors, hash = require "errors", require "hash"

local M = {}

local MAX_BLOB <const> = 16 << 20

---@class (partial) ImageRegistry
local Upload = {}

M.methods = Upload

---Uploads bytes as a blob, unless the registry has them.
---@async
---@param bytes string
---@return string? digest
---@return Err? err
---@return_overload nil, Err
function Upload:push_blob(bytes)
  local digest = "sha256:" .. hash.sha256(bytes)
  local scopes = { ("repository:%s:pull,push"):format(self.path) }
  local answer, err = self:call("HEAD", ("/v2/%s/blobs/%s"):format(self.path, digest), { scopes = scopes })
  if not answer then return nil, err end
  if answer.status == 200 then return digest end
  answer, err = self:call("POST", ("/v2/%s/blobs/uploads/"):format(self.path), { body = "", scopes = scopes })
  if not answer then return nil, err end
  if answer.status ~= 202 then return nil, self:failure(answer, "registry.push") end
  local session = self:path_of(answer.headers.location or "", answer)
  if not session then
    return errors.fail("redirect", "the registry wants the bytes on another host", { op = "registry.push",
      target = self.name })
  end
  session = session .. (session:find("?", 1, true) and "&" or "?") .. "digest=" .. digest
  answer, err = self:call("PUT", session, {
    body = bytes, scopes = scopes, headers = { ["Content-Type"] = "application/octet-stream" },
  })
  if not answer then return nil, err end
  if answer.status == 201 then return digest end
  return nil, self:failure(answer, "registry.push")
end

---Puts a manifest under a tag, whose blobs are there.
---@async
---@param body string
---@param media_type string
---@param tag string
---@return string? digest
---@return Err? err
---@return_overload nil, Err
function Upload:push_manifest(body, media_type, tag)
  local answer, err = self:call("PUT", ("/v2/%s/manifests/%s"):format(self.path, tag),
    { headers = { ["Content-Type"] = media_type }, body = body })
  if not answer then return nil, err end
  if answer.status == 201 or answer.status == 200 then return "sha256:" .. hash.sha256(body) end
  return nil, self:failure(answer, "registry.push")
end

---The bytes of a blob of moderate size, checked.
---@async
---@param digest string
---@return string? bytes
---@return Err? err
---@return_overload nil, Err
function Upload:blob(digest)
  local answer, err = self:call("GET", ("/v2/%s/blobs/%s"):format(self.path, digest), { max_body = MAX_BLOB })
  if not answer then return nil, err end
  if answer.status ~= 200 then return nil, self:failure(answer, "registry.blob") end
  if "sha256:" .. hash.sha256(answer.body or "") == digest then return answer.body end
  return errors.fail("mismatch", "the blob has other bytes than its digest",
    { op = "registry.blob", target = self.name })
end

return M
