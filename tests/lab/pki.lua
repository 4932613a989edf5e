-- A certificate authority of our own: what a registry with a company's certificate looks like to its clients.
local base = require "lab.base"

local M = {}

---@class Pki
---@field ca string file of the authority's certificate
---@field cert string
---@field key string
---@field dir string

local EC = { "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes" }

local function openssl(dir, ...)
  local argv = { "openssl", ... }
  argv.cwd = dir
  return base.run(argv)
end

local opened

---A CA and a server certificate for localhost and 127.0.0.1, made once for this process.
---@async
---@return Pki
function M.open()
  if opened then return opened end
  local dir = base.dir("pki")
  opened = M.issue(dir, "lab ca", {})
  base.on_close(function() opened = nil end)
  return opened
end

---Makes a CA and a server certificate. `days` may be negative (expired); `names` replaces the subject's names.
---@async
---@param dir string
---@param name string
---@param options {days?: integer, names?: string, usage?: string} usage: "serverAuth" unless said
---@return Pki
function M.issue(dir, name, options)
  openssl(dir, "req", "-x509", EC[1], EC[2], EC[3], EC[4], EC[5], "-days", "30", "-keyout", "ca.key", "-out", "ca.crt",
    "-subj", "/CN=" .. name, "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
  openssl(dir, "req", EC[1], EC[2], EC[3], EC[4], EC[5], "-keyout", "server.key", "-out", "server.csr",
    "-subj", "/CN=localhost")
  base.write(dir .. "/ext", ("subjectAltName=%s\nextendedKeyUsage=%s\n"):format(
    options.names or "DNS:localhost,IP:127.0.0.1", options.usage or "serverAuth"))
  openssl(dir, "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
    "-days", tostring(options.days or 30), "-extfile", "ext", "-out", "server.crt")
  return { dir = dir, ca = dir .. "/ca.crt", cert = dir .. "/server.crt", key = dir .. "/server.key" }
end

return M
