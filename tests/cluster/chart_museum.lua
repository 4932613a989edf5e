-- A stand-in for ChartMuseum, whose modules cannot be had here: its API after its README and routes, out of our own
-- `serve`, with its charts in memory. Nothing of it was seen in the original, all of it was read; the real `helm`
-- validates it (cluster/charts_test.lua).
--
-- MOONTIDE_CHARTMUSEUM names the original, for whoever has it: then it answers behind this, which only writes down what
-- was asked, breaks what a test wants broken, and puts packages into its folder. Tests with a bearer's token keep the
-- stand-in: the original wants certificates for that.
--
--   local museum = chart_museum.open { user = "dev", password = "secret-word", context = "/team", api = false }
--   museum:put("web", "1.2.3", bytes)     -- as if somebody had uploaded it
--   museum.log                            -- "GET /api/charts/web", ... in order
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local archive, base, tools = require "extensions.charts.archive", require "lab.base", require "cluster.tools"
local errors, fs, gzip, hash, http, json, semver, serve, time, yaml = require "errors", require "fs", require "gzip",
  require "hash", require "http", require "json", require "semver", require "serve", require "time", require "yaml"

local M = {}

---@class StandInMuseum
---@field url string
---@field charts table<string, table[]> Newest first.
---@field log string[]
---@field overwrite boolean
---@field broken? fun(request: table): table? Answers instead, when it gives something.
local Museum = {}
Museum.__index = Museum

local function plain(status, value) return serve.json(status, value) end

-- Chart.yaml out of a package: the part of the archive's tar that we need.
local function chart_yaml(bytes)
  local tar, err = gzip.decode(bytes)
  if not tar then return nil, err end
  local at = 1
  while at + 511 <= #tar do
    local head = tar:sub(at, at + 511)
    local size = tonumber(head:sub(125, 135):match("[0-7]+") or "", 8)
    if not size then return errors.fail("invalid", "no tar") end
    if head:sub(1, 100):match("^[^/]+/Chart%.yaml%z") then return yaml.decode(tar:sub(at + 512, at + 511 + size)) end
    at = at + 512 + (size + 511) // 512 * 512
  end
  return errors.fail("invalid", "Chart.yaml is missing")
end

---Adds a version without a question.
---@param name string
---@param version string
---@param bytes? string
---@param more? table Further fields of the entry.
function Museum:put(name, version, bytes, more)
  bytes = bytes or name .. version
  local entry = {
    apiVersion = "v2", name = name, version = version, digest = hash.sha256(bytes), created = time.iso(),
    urls = json.array { ("charts/%s-%s.tgz"):format(name, version) },
  }
  for key, value in pairs(more or {}) do entry[key] = value end
  local list = self.charts[name] or json.array {}
  self.charts[name] = list
  for i = #list, 1, -1 do
    if list[i].version == version then table.remove(list, i) end
  end
  table.insert(list, entry)
  table.sort(list, function(a, b)
    local left, right = semver.tag(a.version), semver.tag(b.version)
    if not left or not right then return left ~= nil and right == nil end
    return semver.compare(left, right) > 0
  end)
  self.files[("%s-%s.tgz"):format(name, version)] = bytes
  if self.original then
    if not gzip.decode(bytes) then -- a test that needs no real one
      local chart = { apiVersion = "v2", name = name, version = version }
      for _, key in ipairs { "appVersion", "description", "type" } do chart[key] = entry[key] end
      bytes = assert(archive.write({ { path = name .. "/Chart.yaml", data = assert(yaml.encode(chart)) } }, 0))
    end
    assert(fs.write(self:stored(name, version), bytes))
  end
end

-- Where the original keeps a package.
function Museum:stored(name, version)
  return ("%s%s/%s-%s.tgz"):format(self.original.folder, self.tenant or "", name, version)
end

---Takes a version away.
function Museum:remove(name, version)
  for i = #self.charts[name], 1, -1 do
    if self.charts[name][i].version == version then table.remove(self.charts[name], i) end
  end
  if #self.charts[name] == 0 then self.charts[name] = nil end
  self.files[("%s-%s.tgz"):format(name, version)] = nil
  if self.original then fs.remove(self:stored(name, version)) end
end

---The index as it is written: block style, names sorted, `generated` and `serverInfo` behind the entries.
---@return string
function Museum:index()
  local entries = {}
  for name, list in pairs(self.charts) do entries[name] = list end
  local text = "apiVersion: v1\n" .. assert(yaml.encode { entries = entries })
  return text .. ('generated: "%s"\nserverInfo: {}\n'):format(time.iso())
end

local function upload(self, request)
  local bytes = request.body
  local kind, boundary = request.headers["content-type"], nil
  if kind and kind:find("^multipart/form%-data") then
    boundary = kind:match('boundary="?([^";]+)')
    local at = bytes:find('name="chart"', 1, true)
    local _, start = bytes:find("\r\n\r\n", at or 1, true)
    local stop = bytes:find("\r\n--" .. boundary, start or 1, true)
    if not at or not start or not stop then return plain(400, { error = "no package found in the form" }) end
    bytes = bytes:sub(start + 1, stop - 1)
  end
  local chart, err = chart_yaml(bytes)
  if type(chart) ~= "table" then return plain(400, { error = tostring(err and err.message) }) end
  if not semver.parse(tostring(chart.version)) or type(chart.name) ~= "string" then
    return plain(400, { error = "chart.metadata.version " .. json.encode(tostring(chart.version)) .. " is invalid" })
  end
  local file = ("%s-%s.tgz"):format(chart.name, chart.version)
  if self.files[file] and not self.overwrite and request.query.force == nil then
    return plain(409, { error = boundary and "chart already exists" or "file already exists" })
  end
  self:put(chart.name, chart.version, bytes, {
    appVersion = chart.appVersion, description = chart.description, apiVersion = chart.apiVersion, type = chart.type,
  })
  return plain(201, { saved = true })
end

local function api(self, request, path)
  if path == "/charts" and request.method == "POST" then return upload(self, request) end
  if path == "/charts" and request.method == "GET" then return plain(200, self.charts) end
  local name, rest = path:match("^/charts/([^/]+)(.*)$")
  local list = name and self.charts[name]
  if not name then return plain(404, { error = "not found" }) end
  if not list then return plain(404, { error = "chart not found" }) end
  if rest == "" then return plain(200, list) end
  local wanted = rest:match("^/([^/]+)$")
  for _, entry in ipairs(list) do
    if entry.version == wanted or wanted == "latest" then
      if request.method == "DELETE" then
        self:remove(name, entry.version)
        return plain(200, { deleted = true })
      end
      return plain(200, entry)
    end
  end
  return plain(404, { error = ("no chart version found for %s-%s"):format(name, wanted) })
end

local function answer(self, request)
  table.insert(self.log, request.method .. " " .. request.path)
  local broken = self.broken and self.broken(request)
  if broken then return broken end
  if self.original then return self.original.ask(request) end
  if request.path == "/health" then return plain(200, { healthy = true }) end
  if self.authorization and request.headers.authorization ~= self.authorization then
    local refusal = plain(401, { error = "unauthorized" })
    refusal.headers["WWW-Authenticate"] = 'Basic realm="ChartMuseum"'
    return refusal
  end
  local tenant, context = self.tenant or "", self.context or ""
  local path = request.path:sub(1, #context) == context and request.path:sub(#context + 1) or ""
  local prefix = "/api" .. tenant
  if self.api and path:sub(1, #prefix + 1) == prefix .. "/" then return api(self, request, path:sub(#prefix + 1)) end
  if path:sub(1, #tenant) ~= tenant then return plain(404, { error = "not found" }) end
  path = path:sub(#tenant + 1)
  if path == "/index.yaml" then
    return { status = 200, headers = { ["Content-Type"] = "application/x-yaml" }, body = self:index() }
  end
  local file = path:match("^/charts/([^/]+)$")
  if file and self.files[file] then
    return { status = 200, headers = { ["Content-Type"] = "application/x-tar" }, body = self.files[file] }
  end
  return plain(404, { error = "not found" })
end

-- Starts the original, with what an option of the stand-in is to it.
local function start_original(self, program, options)
  local folder, port = base.dir "chartmuseum", base.port()
  assert(fs.mkdir(folder .. (options.tenant or ""), { parents = true }))
  local argv = {
    program, "--port", tostring(port), "--storage", "local", "--storage-local-rootdir", folder,
    "--context-path", options.context or "", "--depth",
    tostring(select(2, (options.tenant or ""):gsub("/", ""))),
  }
  for flag, wanted in pairs { ["--disable-api"] = options.api == false, ["--allow-overwrite"] = options.overwrite } do
    if wanted then argv[#argv + 1] = flag end
  end
  if options.user then
    for _, word in ipairs { "--basic-auth-user", options.user, "--basic-auth-pass", options.password } do
      argv[#argv + 1] = word
    end
  end
  local url = "http://127.0.0.1:" .. port
  local service = base.start { name = "chartmuseum", dir = base.dir "museum-log", argv = argv,
    ready = function() return http.get(url .. (options.context or "") .. "/health", { timeout = 2 }) end }
  check.defer(function() service:stop() end)
  -- What it holds is what is asked for in tests, too: uploads come by it alone.
  local function refresh()
    for path in fs.walk(folder .. (options.tenant or "")) do
      local bytes = path:find("%.tgz$") and not self.files[path] and fs.read(("%s%s/%s"):format(folder,
        options.tenant or "", path))
      local chart = bytes and chart_yaml(bytes)
      if type(chart) == "table" then
        local original = self.original
        self.original = nil
        self:put(chart.name, tostring(chart.version), bytes, { appVersion = chart.appVersion })
        self.original = original
      end
    end
  end
  self.original = { folder = folder, ask = function(request)
    local query = {}
    for key, value in pairs(request.query) do query[#query + 1] = key .. "=" .. http.escape(tostring(value)) end
    local got, err = http.request {
      method = request.method, url = url .. request.path .. (query[1] and "?" .. table.concat(query, "&") or ""),
      headers = { Authorization = request.headers.authorization, ["Content-Type"] = request.headers["content-type"] },
      body = request.body ~= "" and request.body or nil, max_body = 20 << 20,
    }
    if not got then return plain(502, { error = tostring(err) }) end
    if request.method == "POST" then refresh() end
    local headers = { ["Content-Type"] = got.headers["content-type"] }
    headers["WWW-Authenticate"] = got.headers["www-authenticate"]
    return { status = got.status, headers = headers, body = got.body }
  end }
end

---Starts one.
---@param options? {user?: string, password?: string, bearer?: string, context?: string, tenant?: string, api?: boolean,
---  overwrite?: boolean}
---@return StandInMuseum
function M.open(options)
  options = options or {}
  local self = setmetatable({
    charts = {}, files = {}, log = {}, api = options.api ~= false, context = options.context, tenant = options.tenant,
    overwrite = options.overwrite or false,
  }, Museum)
  if options.user then
    self.authorization = "Basic " .. hash.base64(options.user .. ":" .. options.password)
  elseif options.bearer then
    self.authorization = "Bearer " .. options.bearer
  end
  local program = not options.bearer and tools.original "chartmuseum"
  if program then start_original(self, program, options) end
  local server = assert(serve.listen {
    address = "127.0.0.1", port = 0, max_body = 20 << 20, handler = function(request) return answer(self, request) end,
  })
  check.defer(function() server:close() end)
  self.server = server
  self.url = ("http://127.0.0.1:%d%s%s"):format(server.port, self.context or "", self.tenant or "")
  return self
end

return M
