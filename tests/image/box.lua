-- Moontide's own image for tests: made once for each test process, loaded into the lab's docker, run as a pod's
-- container would be: read-only, without capabilities, without a way to more privileges, as nobody.
--
--   local box = require "image.box"
--   local result = box.run { "version" }                    -- result.code, result.output
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: return-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check, lab = require "check", require "lab"
local fs, http, json = require "fs", require "http", require "json"

local M = { folder = "build/image", name = "moontide:lab" }

local loaded

---Ends the test as skipped when there can be no engine here.
function M.need()
  local why = require("lab.docker").unavailable()
  if why then check.skip(why) end
end

---The image in the lab's docker; built and loaded at the first call.
---@async
---@return LabDocker
function M.docker()
  M.need()
  local docker = lab.docker()
  if loaded then return docker end
  lab.run { "make", "-s", "image", "IMAGE=" .. M.name, "ENGINE=none", timeout = 900 }
  local answer = assert(http.request {
    method = "POST", url = "http://docker/v1.41/images/load?quiet=1", unix = docker.socket, timeout = 120,
    headers = { ["Content-Type"] = "application/x-tar" }, body_file = M.folder .. "/image.tar",
  })
  assert(answer.status == 200 and answer.body:find(M.name, 1, true), answer.body)
  loaded = true
  return docker
end

---Starts a container of the image; it is removed when the test ends.
---@async
---@param options table Arguments as the list; entrypoint, binds, env (a table), groups, user, tmpfs.
---@return string id
function M.start(options)
  local docker, env = M.docker(), json.array {}
  for k, v in pairs(options.env or {}) do env[#env + 1] = k .. "=" .. v end
  local made, err = docker:call("POST", "/containers/create", { json = {
    Image = M.name, Cmd = json.array(table.move(options, 1, #options, 1, {})), Env = env, Tty = true,
    Entrypoint = options.entrypoint, User = options.user,
    HostConfig = {
      ReadonlyRootfs = true, CapDrop = { "ALL" }, SecurityOpt = { "no-new-privileges" }, NetworkMode = "host",
      Binds = json.array(options.binds or {}), GroupAdd = json.array(options.groups or {}),
      Tmpfs = options.tmpfs or { ["/tmp"] = "mode=1777", ["/var/lib/moontide"] = "mode=0700,uid=65534,gid=65534" },
    },
  } })
  assert(made, err)
  check.defer(function() docker:call("DELETE", "/containers/" .. made.Id .. "?force=1") end)
  local _, failure = docker:call("POST", "/containers/" .. made.Id .. "/start")
  if failure then error(failure, 2) end
  return made.Id
end

---What a container has written so far.
---@async
---@param id string
---@return string
function M.output(id)
  return (assert(M.docker():call("GET", "/containers/" .. id .. "/logs?stdout=1&stderr=1")):gsub("\r\n", "\n"))
end

---Runs the image to its end.
---@async
---@param options table As for start().
---@return {code: integer, output: string}
function M.run(options)
  local id = M.start(options)
  local answer = assert(M.docker():call("POST", "/containers/" .. id .. "/wait"))
  return { code = answer.StatusCode, output = M.output(id) }
end

---The files of the image, as paths without the leading slash.
---@async
---@return table<string, string> kinds path -> "file", "dir" or "link"
function M.files()
  M.docker()
  local list = {}
  for path, kind in fs.walk(M.folder .. "/root") do list[path] = kind end
  return list
end

return M
