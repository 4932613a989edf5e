-- Credentials of all configured registries as the file that docker's relatives read. For this user alone, gone with
-- the folder.
local fs, hash, json, log = require "fs", require "hash", require "json", require "log"
local reference = require "images.reference"

local M = {}

---Writes the file: base images may be private too, so all that are known are in it.
---@async
---@param request BuildRequest
---@param name string of the file
---@return table|false|nil folder Closable, with the file in it; false when there are no credentials.
---@return Err? err
function M.folder(request, name)
  local auths = {}
  for host, known in pairs(request.cfg.registries) do
    if known.username then
      local password, err = assert(known.password):reveal()
      if password then
        local word = hash.base64(known.username .. ":" .. password)
        log.secret(word)
        auths[host] = { auth = word }
        if reference.is_hub(host) then auths[reference.HUB_LOGIN] = auths[host] end
      elseif known == request.registry.config then
        return nil, err
      end
    end
  end
  if not next(auths) then return false end
  local folder, err = fs.temp_dir { dir = request.work, prefix = "auth-" }
  if not folder then return nil, err end
  local text, mode = assert(json.encode { auths = auths }), 384 -- 0600
  local ok
  ok, err = fs.write(folder.path .. "/" .. name, text, { mode = mode, sync = false })
  if ok then return folder end
  folder:close()
  return nil, err
end

return M
