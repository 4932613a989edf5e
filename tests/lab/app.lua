-- The sample app as files for a repository: a static web server, FROM scratch, whose behaviour is a file.
--
--   repo:commit(lab.app { version = "one" })                       -- works
--   repo:commit(lab.app { version = "two", mode = "crash" })       -- modes: see app.c
local base = require "lab.base"
local fs, hash = require "fs", require "hash"

local M = {}

local SOURCE = "tests/lab/app.c"
local CACHE = "build/lab"

local DOCKERFILE = [[
FROM scratch
COPY app version mode /
ENV PORT=8080
HEALTHCHECK --interval=1s --timeout=2s --retries=3 CMD ["/app", "--check"]
ENTRYPOINT ["/app"]
]]

---The compiled program, built once for each version of its source.
---@async
---@return string bytes
function M.binary()
  local source = assert(fs.read(SOURCE))
  local path = ("%s/app-%s"):format(CACHE, hash.sha256(source):sub(1, 16))
  local bytes = fs.read(path)
  if bytes then return bytes end
  assert(fs.mkdir(CACHE, { parents = true }))
  local out = base.dir("app") .. "/app"
  base.run { "cc", "-std=c11", "-D_GNU_SOURCE", "-Os", "-static", "-s", "-o", out, SOURCE }
  bytes = assert(fs.read(out, { max = 16 << 20 }))
  base.write(path, bytes) -- atomic: two tests may do this at once
  return bytes
end

---Files of one version of the app, for repo:commit.
---@async
---@param options {version?: string, mode?: string, dockerfile?: string}
---@return table<string, string|table>
function M.files(options)
  return {
    ["app"] = { text = M.binary(), mode = 493 }, -- 0755
    ["version"] = (options.version or "dev") .. "\n",
    ["mode"] = (options.mode or "good") .. "\n",
    ["Dockerfile"] = options.dockerfile or DOCKERFILE,
  }
end

---What the app answers at "/" in one version, nil when nobody answers on the port.
---@async
---@param port integer
---@return string? body
---@return integer? status
function M.ask(port)
  local response = require("http").get(("http://127.0.0.1:%d/"):format(port), { timeout = 2 })
  if response then return response.body, response.status end
end

return M
