-- Builds and pushes with a program of the buildah family, which needs no daemon: what buildah and podman
-- share.
--
-- The context goes in as the commit's own tar, so nothing of this machine can get into the image. The working
-- folder is empty: a Dockerfile that the commit lacks must not be found beside the host. Passwords are in a
-- file for this user alone, gone before the call returns. Base images are pulled as the engine's own
-- configuration says.
local errors, fs, proc = require "errors", require "fs", require "proc"
local argv_of, failure = require "images.builder.argv", require "images.builder.failure"
local logins = require "images.builder.logins"
local add, sorted = argv_of.add, argv_of.sorted

local M = {}

-- What a rootless engine needs to find its store, and what leads to base images behind a proxy.
local INHERITED <const> = {
  "HOME", "USER", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS",
  "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
}
local KEPT_OUTPUT <const> = 64 << 10

-- The command line that starts the program; what comes after is the caller's.
local function program(kind, cfg)
  return cfg.builder.command and { table.unpack(cfg.builder.command) } or { kind }
end

---Whether the configured program is there and is of this kind.
---@async
---@param kind "buildah"|"podman"
---@param cfg Config
---@return boolean
function M.available(kind, cfg)
  local argv = program(kind, cfg)
  add(argv, "--version")
  argv.env, argv.inherit, argv.timeout, argv.max_output = cfg.builder.env, INHERITED, 10, 4096
  local result = proc.run(argv)
  return result ~= nil and result.ok and result.stdout:find(kind .. " version", 1, true) == 1
end

-- A folder with the registry's own authority, in the form that the family reads.
local function certificates(request)
  local ca = request.registry.config.ca
  if not ca then return nil end
  local text, err = fs.read(ca)
  if not text then return nil, err end
  local dir = request.work .. "/certs"
  local made, why = fs.mkdir(dir)
  if not made and not errors.is(why, "exists") then return nil, why end
  local ok
  ok, err = fs.write(dir .. "/ca.crt", text, { sync = false })
  return ok and dir, err
end

-- Runs the program; its lines go to the hooks. An exit status becomes an error in the program's own words.
local function run(kind, request, op, argv, each)
  local last
  local env = { TMPDIR = request.work }
  for k, v in pairs(request.cfg.builder.env or {}) do env[k] = v end
  argv.env, argv.inherit, argv.cwd = env, INHERITED, request.work .. "/empty"
  argv.timeout, argv.max_output = request.app.build.timeout, KEPT_OUTPUT
  argv.on_line = function(line, stream)
    if line:find("%S") then
      if stream == "stderr" then last = line end
      each(line)
      request.hooks.output(stream, line)
    end
  end
  local result, err = proc.run(argv)
  if not result then
    if errors.is(err, "timeout") then return failure.too_long(err.message, { op = op, target = request.name }) end
    err.op = op
    if err.code == "not_found" then err.message = kind .. " is not installed: " .. err.message end
    return nil, err
  end
  if result.ok then return true end
  local words = (last or "no output"):gsub("^[Ee]rror: ", ""):gsub("%c", " "):sub(1, 1000)
  local how = result.signal and "was ended by " .. result.signal or ("ended with %d"):format(result.code)
  return nil, failure.new(words, ("%s %s: %s"):format(kind, how, words), { op = op, target = request.name })
end

local function build(kind, request, auth)
  local app, argv = request.app, program(kind, request.cfg)
  -- Docker's format, because OCI's has no place for a HEALTHCHECK.
  add(argv, "build", "--format", "docker", "--force-rm", "--file", request.dockerfile, "--tag", request.name)
  -- Up to buildah 1.28 the labels of a stage that is not the last are no part of its cache's key: two commits
  -- that build the same would get one image, with the label of the first.
  add(argv, app.build.target and "--layers=false" or "--layers")
  for _, key in sorted(request.labels) do add(argv, "--label", key .. "=" .. request.labels[key]) end
  for _, key in sorted(app.build.args) do
    add(argv, "--build-arg", key .. "=" .. tostring(app.build.args[key]))
  end
  if app.build.target then add(argv, "--target", app.build.target) end
  if request.cfg.builder.network then add(argv, "--network", request.cfg.builder.network) end
  if auth then add(argv, "--authfile", auth.path .. "/auth.json") end
  add(argv, "-")
  argv.stdin = { file = request.archive }
  return run(kind, request, "image.build", argv, function(line)
    local step, steps, words = line:match("^%[?[%d/]*%]? ?STEP (%d+)/(%d+): (.*)$")
    if step then request.hooks.progress(words, tonumber(step), tonumber(steps)) end
  end)
end

local function push(kind, request, auth)
  local certs, err = certificates(request)
  if err then return nil, err end
  local argv, told = program(kind, request.cfg), request.work .. "/digest"
  add(argv, "push", "--digestfile", told)
  if request.registry.plain then add(argv, "--tls-verify=false") end
  if certs then add(argv, "--cert-dir", certs) end
  if auth then add(argv, "--authfile", auth.path .. "/auth.json") end
  add(argv, request.name, "docker://" .. request.name)
  argv.stdin = false
  local blobs = 0
  local ok, failed = run(kind, request, "image.push", argv, function(line)
    if line:find("^Copying blob") then
      blobs = blobs + 1
      request.hooks.progress(("pushing layer %d"):format(blobs))
    end
  end)
  if not ok then return nil, failed end
  local digest
  digest, err = fs.read(told, { max = 4096 })
  return digest and digest:match("^%s*(%S+)%s*$"), err
end

---Builds the context and pushes the image.
---@async
---@param kind "buildah"|"podman"
---@param request BuildRequest
---@return string? digest
---@return Err? err
---@return_overload nil, Err
function M.build(kind, request)
  local ok, err = fs.mkdir(request.work .. "/empty")
  if not ok then return nil, err end
  local auth <close>, problem = logins.folder(request, "auth.json")
  if auth == nil then return nil, problem end
  ok, err = build(kind, request, auth)
  if not ok then return nil, err end
  request.hooks.progress("pushing " .. request.tag)
  return push(kind, request, auth)
end

return M
