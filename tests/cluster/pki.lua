-- The certificates of one cluster: an authority, and a certificate for each of its parts.
local base = require "lab.base"

local M = {}

---@class ClusterPki
---@field dir string
---@field ca string file of the authority's certificate
local Pki = {}
Pki.__index = Pki

local NEW_KEY <const> = { "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes" }

local function openssl(dir, words)
  local argv = { "openssl", table.unpack(words) }
  argv.cwd = dir
  return base.run(argv)
end

local function request(dir, words)
  return openssl(dir, table.move(NEW_KEY, 1, #NEW_KEY, #words + 1, words))
end

---Makes an authority in a folder, and the key that signs service account tokens (sa.key, sa.pub).
---@async
---@param dir string
---@return ClusterPki
function M.new(dir)
  request(dir, { "req", "-x509", "-days", "3650", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=lab cluster ca",
    "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,digitalSignature" })
  openssl(dir, { "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "sa.key" })
  openssl(dir, { "ec", "-in", "sa.key", "-pubout", "-out", "sa.pub" })
  return setmetatable({ dir = dir, ca = dir .. "/ca.crt" }, Pki)
end

---A certificate for servers and clients alike.
---@async
---@param name string Of its files.
---@param options? {user?: string, group?: string, names?: string} Who it is to the API server, and for which hosts.
---@return {cert: string, key: string}
function Pki:issue(name, options)
  options = options or {}
  local subject = (options.group and "/O=" .. options.group or "") .. "/CN=" .. (options.user or name)
  local names = options.names or "DNS:localhost,IP:127.0.0.1"
  request(self.dir, { "req", "-keyout", name .. ".key", "-out", name .. ".csr", "-subj", subject })
  base.write(("%s/%s.ext"):format(self.dir, name),
    ("subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n"):format(names))
  openssl(self.dir, { "x509", "-req", "-in", name .. ".csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
    "-days", "3650", "-extfile", name .. ".ext", "-out", name .. ".crt" })
  return self:files(name)
end

---@param name string
---@return {cert: string, key: string}
function Pki:files(name)
  return { cert = ("%s/%s.crt"):format(self.dir, name), key = ("%s/%s.key"):format(self.dir, name) }
end

return M
