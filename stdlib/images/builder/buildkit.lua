-- Builds and pushes with a remote BuildKit, through its own client buildctl.
--
-- The context is a fresh checkout of exactly the commit, sent over the same connection as everything else; BuildKit
-- applies its .dockerignore. Passwords go to the daemon only through the session, out of a file for this user alone.
-- Which registries speak plain http or have authorities of their own is the daemon's to know (buildkitd.toml); for
-- the push it is an option.
local errors, fs, hash, json, proc = require "errors", require "fs", require "hash", require "json", require "proc"
local argv_of, failure = require "images.builder.argv", require "images.builder.failure"
local logins = require "images.builder.logins"
local add, sorted = argv_of.add, argv_of.sorted

local M = {}

local KEPT_OUTPUT <const> = 64 << 10

-- The client and how it reaches the daemon.
local function client(cfg)
  local b = cfg.builder
  local argv = b.command and { table.unpack(b.command) } or { "buildctl" }
  if b.address then add(argv, "--addr", b.address) end
  if b.ca then add(argv, "--tlscacert", b.ca) end
  if b.cert then add(argv, "--tlscert", b.cert, "--tlskey", b.key) end
  argv.env = {}
  for k, v in pairs(b.env or {}) do argv.env[k] = v end
  return argv
end

---Whether the configured daemon answers.
---@async
---@param cfg Config
---@return boolean
function M.available(cfg)
  local argv = client(cfg)
  add(argv, "--timeout", "5", "debug", "workers")
  argv.timeout, argv.max_output = 15, KEPT_OUTPUT
  local result = proc.run(argv)
  return result ~= nil and result.ok
end

---Makes a reader of buildctl's rawjson progress (client.SolveStatus): each step and each log line once. What is no
---JSON is buildctl's own words.
---@param hooks BuildHooks
---@return fun(line: string)
---@return fun(): string? words What failed, or else the last of those words.
function M.reader(hooks)
  local started, ended, failed, words = {}, {}, nil, nil
  local function step(vertex)
    local id, name = vertex.digest, vertex.name
    if type(id) ~= "string" or type(name) ~= "string" then return end
    if vertex.started and not started[id] then
      started[id] = true
      hooks.progress(name)
    end
    if type(vertex.error) == "string" and vertex.error ~= "" then failed = name .. ": " .. vertex.error end
    if vertex.completed and not ended[id] then
      ended[id] = true
      hooks.output("stdout", (vertex.cached and "cached " or "") .. name)
    end
  end
  local function line(text)
    local status = text:find("^{") and json.decode(text, { null_as_nil = true })
    if type(status) ~= "table" then
      if text:find("%S") then
        words = text
        hooks.output("stderr", text)
      end
      return
    end
    for _, vertex in ipairs(type(status.vertexes) == "table" and status.vertexes or {}) do
      if type(vertex) == "table" then step(vertex) end
    end
    -- What a step is at: "pushing layers", "pushing manifest for ...".
    for _, at in ipairs(type(status.statuses) == "table" and status.statuses or {}) do
      local id = type(at) == "table" and at.id
      if type(id) == "string" and id:find("^pushing") and not started[id] then
        started[id] = true
        hooks.progress(id)
      end
    end
    for _, entry in ipairs(type(status.logs) == "table" and status.logs or {}) do
      local bytes = type(entry) == "table" and type(entry.data) == "string" and hash.unbase64(entry.data)
      for said in (bytes or ""):gmatch("[^\r\n]+") do
        hooks.output(entry.stream == 2 and "stderr" or "stdout", said)
      end
    end
  end
  return line, function() return failed or words end
end

local function arguments(request, dir, told)
  local app, argv = request.app, client(request.cfg)
  add(argv, "build", "--progress", "rawjson", "--frontend", "dockerfile.v0", "--local", "context=" .. dir,
    "--local", "dockerfile=" .. dir, "--opt", "filename=" .. request.dockerfile)
  for _, key in sorted(request.labels) do add(argv, "--opt", ("label:%s=%s"):format(key, request.labels[key])) end
  for _, key in sorted(app.build.args) do
    add(argv, "--opt", ("build-arg:%s=%s"):format(key, tostring(app.build.args[key])))
  end
  if app.build.target then add(argv, "--opt", "target=" .. app.build.target) end
  local network = request.cfg.builder.network
  if network then
    add(argv, "--opt", "force-network-mode=" .. network)
    if network == "host" then add(argv, "--allow", "network.host") end
  end
  add(argv, "--output", ("type=image,name=%s,push=true%s"):format(request.name,
    request.registry.plain and ",registry.insecure=true" or ""), "--metadata-file", told)
  return argv
end

local function solve(request, argv)
  local line, words = M.reader(request.hooks)
  argv.cwd, argv.stdin = request.work, false
  argv.timeout, argv.max_output, argv.on_line = request.app.build.timeout, KEPT_OUTPUT, line
  local about = { op = "image.build", target = request.name }
  local result, err = proc.run(argv)
  if not result then
    if errors.is(err, "timeout") then return failure.too_long(err.message, about) end
    err.op = about.op
    if err.code == "not_found" then err.message = "buildctl is not installed: " .. err.message end
    return nil, err
  end
  if result.ok then return true end
  local said = (words() or "no output"):gsub("^[Ee]rror: ", ""):gsub("%c", " "):sub(1, 1000)
  local how = result.signal and "was ended by " .. result.signal or ("ended with %d"):format(result.code)
  return nil, failure.new(said, ("buildctl %s: %s"):format(how, said), about)
end

---Builds the context and pushes the image.
---@async
---@param request BuildRequest
---@return string? digest
---@return Err? err
---@return_overload nil, Err
function M.build(request)
  local auth <close>, problem = logins.folder(request, "config.json")
  if auth == nil then return nil, problem end
  local dir, told = request.work .. "/context", request.work .. "/metadata.json"
  local ok, err = request.checkout(dir)
  if not ok then return nil, err end
  local argv = arguments(request, dir, told)
  argv.env.TMPDIR, argv.env.HOME = request.work, request.work
  argv.env.DOCKER_CONFIG = auth and auth.path or request.work .. "/nobody"
  ok, err = solve(request, argv)
  if not ok then return nil, err end
  local text
  text, err = fs.read(told, { max = 1 << 20 })
  if not text then return nil, err end
  local metadata = json.decode(text)
  local digest = type(metadata) == "table" and metadata["containerimage.digest"]
  if type(digest) == "string" then return digest end
  return errors.fail("protocol", "BuildKit pushed without telling a digest",
    { op = "image.push", target = request.name })
end

return M
