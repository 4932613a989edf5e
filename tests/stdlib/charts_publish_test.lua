-- Charts on their way out: archives that are the same bytes each time, hostile ones, and pushes that come twice.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local archive, charts = require "extensions.charts.archive", require "extensions.charts.repository"
local oci, publish = require "extensions.charts.oci", require "extensions.charts.publish"
local push = require "extensions.charts.push"
local fs, gzip, hash, json, proc, serve, yaml = require "fs", require "gzip", require "hash", require "json",
  require "proc", require "serve", require "yaml"
local chart_museum = require "cluster.chart_museum"
local world = require "engine.world"
local lab = require "lab"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local function files(list)
  local entries = {}
  for _, pair in ipairs(list) do entries[#entries + 1] = { path = pair[1], data = pair[2] } end
  return entries
end

-- A chart as package.lua hands it over.
local function packaged(name, version, values, mtime, more)
  local about = { apiVersion = "v2", name = name, version = version, description = "a chart", appVersion = "sha-abc" }
  for k, v in pairs(more or {}) do about[k] = v end
  local entries = files {
    { name .. "/Chart.yaml", yaml.encode(about) }, { name .. "/values.yaml", values or "a: 1\n" },
    { name .. "/templates/" .. ("deep/"):rep(25) .. "x.yaml", "kind: List\n" },
  }
  return {
    name = name, version = version, entries = entries, bytes = ok(archive.write(entries, mtime or 1700000000)),
    created = mtime or 1700000000, metadata = about,
  }
end

-- ---- archives ----

test("what is written is read again, by the tar program too, and is the same bytes each time", function()
  local entries = files {
    { "web/Chart.yaml", "name: web\n" }, { "web/empty", "" }, { "web/" .. ("long/"):rep(60) .. "name", "x" },
    { "web/" .. ("b"):rep(96), ("y"):rep(512) }, { "web/ünïcode.yaml", ("z"):rep(5000) },
  }
  local packed = ok(archive.write(entries, 1700000000))
  eq(archive.write(entries, 1700000000), packed)
  eq(archive.read(packed), entries)
  local dir <close> = ok(fs.temp_dir())
  ok(fs.write(dir.path .. "/a.tgz", packed))
  ok(proc.check(proc.run { "tar", "-xzf", dir.path .. "/a.tgz", "-C", dir.path }))
  for _, entry in ipairs(entries) do eq(fs.read(dir.path .. "/" .. entry.path), entry.data) end
  eq(ok(fs.stat(dir.path .. "/web/Chart.yaml")).mtime // 1, 1700000000.0)
  -- And the other way round: what tar writes, in both of its ways to write long names.
  for _, format in ipairs { "gnu", "pax", "ustar" } do
    local out = dir.path .. "/" .. format .. ".tgz"
    ok(proc.check(proc.run { "tar", "--format=" .. format, "-czf", out, "-C", dir.path, "web/Chart.yaml", "web/empty",
      "web/" .. ("b"):rep(96), format ~= "ustar" and "web/long" or "web/Chart.yaml" }))
    local found = archive.read(ok(fs.read(out)))
    if format ~= "ustar" then
      eq(archive.contents(found), archive.contents { entries[1], entries[2], entries[3], entries[4] })
    end
  end
  local other = ok(archive.read(ok(archive.write({ entries[2], entries[1] }, 5))))
  eq(archive.contents(other), archive.contents { entries[1], entries[2] })
  eq(archive.file(entries, "Chart.yaml"), "name: web\n")
end)

-- One raw entry of a tar.
local function raw(kind, path, data, link)
  local packed = ok(archive.write(files { { "x/y", data or "" } }, 0))
  local tar = ok(gzip.decode(packed))
  local head = path .. ("\0"):rep(100 - #path) .. tar:sub(101, 156) .. kind .. (link or "")
    .. ("\0"):rep(100 - #(link or "")) .. tar:sub(258, 512)
  return head .. tar:sub(513, #tar - 1024)
end

local function tgz(...) return ok(gzip.encode(table.concat { ... } .. ("\0"):rep(1024))) end

test("archives that want out of their folder, or are no archives, are refused", function()
  for _, path in ipairs {
    "/etc/passwd", "../x", "web/../../x", "web/./x", "web//x", "..", ".", "web\\..\\x", "web/a\nb", "web", "web/..",
  } do
    local entries, err = archive.read(tgz(raw("0", path, "x")))
    eq(entries, nil, path)
    ok(err.code == "denied" or err.code == "invalid", path)
  end
  for _, kind in ipairs { "1", "2", "3", "4", "6", "7", "S", "K" } do
    fails("denied", archive.read(tgz(raw(kind, "web/link", "", "/etc/passwd"))))
  end
  fails("denied", archive.read(tgz(raw("x", "pax", "20 path=/etc/passwd\n"), raw("0", "web/x", "x"))))
  fails("denied", archive.read(tgz(raw("L", "long", "../../x\0"), raw("0", "web/x", "x"))))
  fails("invalid", archive.read(tgz(raw("0", "web/x", "x"), raw("0", "web/x", "y"))))
  eq(#ok(archive.read(tgz(raw("5", "web/folder/"), raw("g", "pax", "14 comment=abc\n"), raw("0", "web/x", "x")))), 1)
  fails("invalid", archive.read("no gzip"))
  fails("invalid", archive.read(ok(gzip.encode("no tar at all"))))
  fails("invalid", archive.read(ok(gzip.encode(raw("0", "web/x", ("x"):rep(2000)):sub(1, 1200)))))
  fails("too_large", archive.read(ok(gzip.encode(("\0"):rep(33 << 20)))))
  fails("too_large", archive.read(("x"):rep((10 << 20) + 1)))
  local many = {}
  for i = 1, 10001 do many[i] = raw("0", "web/" .. i, "") end
  fails("too_large", archive.read(tgz(table.unpack(many, 1, 10001))))
end)

-- ---- ChartMuseum ----

local function open(url, more)
  local config = { url = url }
  for k, v in pairs(more or {}) do config[k] = v end
  return charts.repository(config, world.of { registries = {}, app_list = {}, chart_repositories = {} })
end

test("a chart is pushed once; again it is found, and other contents are told of", function()
  for _, options in ipairs { {}, { context = "/museum" }, { tenant = "/org/repo" } } do
    local where = chart_museum.open(options)
    local repo = open(where.url)
    local chart = packaged("web", "1.2.3")
    local pushed = ok(push.push(repo, chart))
    eq({ pushed.found, pushed.version, pushed.digest }, { false, "1.2.3", "sha256:" .. hash.sha256(chart.bytes) })
    eq(ok(repo:versions("web"))[1].digest, pushed.digest)
    eq(ok(push.push(repo, chart)).found, true)
    eq(ok(push.push(repo, packaged("web", "1.2.3", "a: 1\n", 1234567890))).found, true) -- other times only
    has(tostring(fails("conflict", push.push(repo, packaged("web", "1.2.3", "a: 2\n")))),
      "web 1.2.3 is there already with other contents")
    eq(ok(push.push(repo, packaged("web", "1.2.4", "a: 2\n"))).found, false)
    eq(#where.charts.web, 2)
  end
end)

test("a repository that takes no charts, or not from us, says so", function()
  local where = chart_museum.open { api = false }
  fails("unsupported", push.push(open(where.url), packaged("web", "1.0.0")))
  where = chart_museum.open { user = "dev", password = "secret-word" }
  fails("unauthorized", push.push(open(where.url), packaged("web", "1.0.0")))
  where = chart_museum.open()
  where.broken = function(request)
    return request.method == "POST" and serve.json(507, { error = "repo has reached storage limit" }) or nil
  end
  has(tostring(fails("busy", push.push(open(where.url), packaged("web", "1.0.0")))), "storage limit")
  where.broken = function(request)
    return request.method == "POST" and serve.json(409, { error = "file already exists" }) or nil
  end
  fails("not_found", push.push(open(where.url), packaged("web", "1.0.0"))) -- it is there, and is not
  where:put("web", "1.0.0", "these bytes are no archive")
  has(tostring(fails("conflict", push.push(open(where.url), packaged("web", "1.0.0")))), "cannot be read")
end)

-- ---- OCI ----

test("the real registry takes charts; again they are found, and other contents are told of", function()
  local where = lab.registry { auth = "htpasswd" }
  local cfg = { app_list = {}, chart_repositories = {}, registries = { [where.host] = {
    host = where.host, username = where.user,
    password = require("config.secret").new("file", lab.write(lab.dir("secret") .. "/word", where.password)),
  } } }
  local repo = charts.repository({ url = "oci://" .. where.host .. "/charts" }, world.of(cfg))
  fails("not_found", repo:versions("web"))
  local chart = packaged("web", "1.2.3+build.5")
  local pushed = ok(push.push(repo, chart))
  eq(pushed.found, false)
  local list = ok(repo:versions("web", { max_age = 0 }))
  eq({ list[1].version, list[1].tag }, { "1.2.3+build.5", "1.2.3_build.5" })
  eq(repo:digest("web", list[1]), pushed.digest)
  eq(oci.app_version(repo, "web", list[1]), "sha-abc")
  eq(ok(push.push(repo, chart)).digest, pushed.digest)
  local again = ok(push.push(repo, packaged("web", "1.2.3+build.5", "a: 1\n", 5)))
  eq({ again.found, again.digest }, { true, pushed.digest })
  fails("conflict", push.push(repo, packaged("web", "1.2.3+build.5", "a: 2\n")))
  local manifest = json.decode(ok(oci.registry(repo, "web"):manifest("1.2.3_build.5")).body)
  eq({ manifest.config.mediaType, manifest.layers[1].mediaType }, {
    "application/vnd.cncf.helm.config.v1+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
  })
  eq(manifest.annotations["org.opencontainers.image.version"], "1.2.3+build.5")
  -- The same chart elsewhere has the same digest: nothing in it is of the day.
  local other = charts.repository({ url = "oci://" .. where.host .. "/elsewhere" }, world.of(cfg))
  eq(ok(push.push(other, chart)).digest, pushed.digest)

  -- An image under our tag is no chart.
  local image = lab.image(where, { name = "charts/api", tag = "1.0.0" })
  ok(image)
  fails("conflict", push.push(repo, packaged("api", "1.0.0")))
end)

test("a registry that says 403 of a chart that is not there gets its first one all the same", function()
  local relay = require("fixture.relay").open(lab.registry({}).host)
  relay.hook = function(request, forward)
    local answer = forward(request)
    local asks = request.method == "GET" or request.method == "HEAD"
    if not asks or answer.status ~= 404 or request.path:find("/blobs/", 1, true) then return answer end
    return { status = 403, body = '{"errors":[{"code":"DENIED","message":"access forbidden"}]}' }
  end
  local cfg = { app_list = {}, chart_repositories = {}, registries = {} }
  local repo = charts.repository({ url = "oci://" .. relay.host .. "/charts" }, world.of(cfg))
  fails("denied", repo:versions("web"))
  local function next_version()
    return publish.version {
      app = { publish = { charts = { "charts/web" }, to = { url = repo.url }, version = "0.1.{count}" } }, cfg = {},
      world = { charts = function() return repo end }, commit = "a", app_version = "sha-a",
      repo = {
        count = function() return 1 end,
        read = function(_, _, path) return path == "charts/web/Chart.yaml" and "name: web\nversion: 0.1.0\n" or nil end,
      },
    }
  end
  eq(next_version(), "0.1.1")
  eq(ok(push.push(repo, packaged("web", "0.1.1"))).found, false)
  eq(ok(push.push(repo, packaged("web", "0.1.1"))).found, true)
end)

-- ---- numbers ----

test("the number of a branch's charts grows, whatever the branch does", function()
  local where = chart_museum.open()
  local repo = open(where.url)
  local commits = { a = 1, b = 2, c = 3 }
  local app = { publish = { charts = { "charts/web" }, to = { url = where.url }, version = "0.0.0-staging.{count}" } }
  local function version_of(commit)
    return publish.version {
      app = app, cfg = {}, world = { charts = function() return repo end }, commit = commit,
      app_version = "sha-" .. commit,
      repo = {
        count = function() return commits[commit] end,
        read = function(_, _, path)
          local name = path:match "^charts/(%w+)/Chart.yaml$"
          return name and ("name: %s\nversion: 0.1.0\n"):format(name)
        end,
      },
    }
  end
  local function published(commit)
    local version = ok(version_of(commit))
    where:put("web", version, nil, { appVersion = "sha-" .. commit })
    return version
  end
  eq(published("a"), "0.0.0-staging.1")
  eq(published("a"), "0.0.0-staging.1")
  eq(published("b"), "0.0.0-staging.2")
  eq(published("c"), "0.0.0-staging.3")
  eq(published("a"), "0.0.0-staging.4") -- the branch was reset: it must go out as something new
  eq(published("a"), "0.0.0-staging.4")
  commits.d = 10
  eq(published("d"), "0.0.0-staging.10")
  where:put("web", "1.99.0")
  where:put("web", "0.0.0-staging.99-x")
  where:put("web", "0.0.0-staging.050")
  eq(published("b"), "0.0.0-staging.11")
  app.publish.version = "0.1.0-main.{count}+x"
  eq(published("b"), "0.1.0-main.2+x")
  eq(published("a"), "0.1.0-main.3+x")
  table.insert(app.publish.charts, "charts/jobs")
  eq(version_of "a", "0.1.0-main.3+x") -- of which only the one chart was pushed before something failed
  eq(version_of "b", "0.1.0-main.4+x")
  eq(publish.of_tag("v1.2.0"), "1.2.0")
  fails("invalid", publish.of_tag("staging"))
end)
