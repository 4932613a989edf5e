-- Chart repositories of every kind, against servers that are as they should be and servers that are not.
---@diagnostic disable: inject-field, need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: access-invisible -- sets clocks and counters behind the words, instead of waiting
local check = require "check"
local bundle, charts = require "extensions.charts.bundle", require "extensions.charts.repository"
local index, museum = require "extensions.charts.index", require "extensions.charts.museum"
local version = require "extensions.charts.version"
local hash, json, serve, task, time, yaml = require "hash", require "json", require "serve", require "task",
  require "time", require "yaml"
local chart_museum = require "cluster.chart_museum"
local world = require "engine.world"
local lab = require "lab"
local secret = require "config.secret"
local test, eq, ok, fails, has, raises = check.test, check.eq, check.ok, check.fails, check.has, check.raises

local SUM <const> = ("ab"):rep(32)

-- A configuration that follows these charts in a repository.
local function config(repository, names)
  local app = { name = "shop", charts = {} }
  for _, name in ipairs(names or {}) do app.charts[name] = { chart = name, repository = repository } end
  return { registries = {}, app_list = { app }, chart_repositories = {} }
end

local function open(where, names)
  local repository = type(where) == "string" and { url = where } or where
  return charts.repository(repository, world.of(config(repository, names)))
end

local function names_of(list)
  local names = {}
  for i, entry in ipairs(ok(list)) do names[i] = entry.version end
  return names
end

local now = { max_age = 0 }

-- A server whose answers the test sets.
local function server(answer)
  local self = { log = {}, answer = answer }
  local listening = ok(serve.listen { address = "127.0.0.1", port = 0, handler = function(request)
    table.insert(self.log, request)
    local given = self.answer
    if type(given) == "function" then given = given(request) end
    if type(given) == "string" then given = { status = 200, body = given } end
    return given or { status = 404, body = "nothing here" }
  end })
  check.defer(function() listening:close() end)
  self.url = ("http://127.0.0.1:%d"):format(listening.port)
  return self
end

-- An index as Helm writes it.
local function item(name, v, more)
  local entry = { name = name, version = v, apiVersion = "v2", digest = hash.sha256(name .. v),
    urls = json.array { ("%s-%s.tgz"):format(name, v) }, created = "2026-11-01T10:00:00Z" }
  for k, value in pairs(more or {}) do entry[k] = value end
  return entry
end

local function write_index(entries)
  return "apiVersion: v1\n" .. assert(yaml.encode { entries = entries }) .. 'generated: "2026-11-01T10:00:00Z"\n'
end

local function versions(name, count)
  local list = json.array {}
  for i = count, 1, -1 do table.insert(list, item(name, ("1.%d.0"):format(i))) end
  return list
end

-- An index.yaml server without an API.
local function index_server(text)
  local self = server(nil)
  self.text = text
  self.answer = function(request)
    if request.path ~= "/index.yaml" then return nil end
    return type(self.text) == "function" and self.text(request) or self.text
  end
  return self
end

-- ---- bundles ----

test("a bundle is its text, whatever the order it was made in", function()
  local made = ok(bundle.make {
    { name = "web", version = "2.0.0" }, { name = "api", version = "v1.2.3+b.1", digest = "sha256:" .. SUM },
  })
  eq(made.image, "api=v1.2.3+b.1@sha256:" .. SUM .. " web=2.0.0")
  eq(made.version, "api=v1.2.3+b.1 web=2.0.0")
  eq(made.digest, "sha256:" .. hash.sha256(made.image))
  eq(made.versions, { api = "v1.2.3+b.1", web = "2.0.0" })
  eq(bundle.read(made.image), {
    web = { name = "web", version = "2.0.0" },
    api = { name = "api", version = "v1.2.3+b.1", digest = "sha256:" .. SUM },
  })
  eq(bundle.versions(made.version), made.versions)
  eq(bundle.variable("my-app.x"), "MY_APP_X_VERSION")
  eq(bundle.variable("2fa"), "_2FA_VERSION")
end)

test("what is no bundle is none", function()
  for _, text in ipairs {
    "", " ", "api", "=1.0.0", "api=", "api=x", "api=1.0.0@", "api=1.0.0@sha256:12", "api=1.0.0 api=1.0.1",
    "a/b=1.0.0", "api=1.0.0@" .. SUM, "api=1.0.0@sha256:" .. SUM .. "0", "web@sha256:" .. SUM, ("a=1.0.0 "):rep(10000),
  } do
    fails("invalid", bundle.read(text))
  end
  fails("invalid", bundle.make {})
  fails("invalid", bundle.make { { name = "a b", version = "1.0.0" } })
  fails("invalid", bundle.make { { name = "a", version = "1.0" } })
  fails("invalid", bundle.make { { name = "a", version = "1.0.0" }, { name = "a", version = "1.0.1" } })
end)

-- ---- versions ----

test("versions come newest first, by number, and what is none is told of", function()
  local list = {}
  for _, v in ipairs { "0.0.0-staging.9", "1.10.0", "0.0.0-staging.10", "1.9.0", "staging", "1.2", "v1.11.0", "1.10.0",
    "1.0.0+b", "1.0.0+a", "latest", "999999999999999999999.0.0" } do
    list[#list + 1] = { version = v }
  end
  local ordered, dropped = version.order(list)
  eq(names_of(ordered), { "999999999999999999999.0.0", "v1.11.0", "1.10.0", "1.9.0", "1.0.0+b", "1.0.0+a",
    "0.0.0-staging.10", "0.0.0-staging.9" })
  eq(dropped, { "staging", "1.2", "latest" })
end)

test("rules say what may follow what", function()
  for _, case in ipairs {
    -- rule, current, candidate, allowed
    { "major", "1.2.3", "2.0.0", true }, { "minor", "1.2.3", "2.0.0", false }, { "minor", "1.2.3", "1.3.0", true },
    { "patch", "1.2.3", "1.3.0", false }, { "patch", "1.2.3", "1.2.4", true }, { "major", "1.2.3", "1.2.3", false },
    { "major", "1.2.3", "1.2.2", false }, { "major", "1.2.3", "1.3.0-rc.1", false },
    { "all", "1.2.3", "1.3.0-rc.1", true },
    { "major", nil, "1.0.0", true }, { "major", nil, "1.0.0-rc.1", false }, { "all", nil, "1.0.0-rc.1", true },
    { "staging", nil, "0.0.0-staging.1", true }, { "staging", nil, "1.0.0", false },
    { "staging", "0.0.0-staging.9", "0.0.0-staging.10", true },
    { "staging", "0.0.0-staging.10", "0.0.0-staging.9", false },
    { "staging", "1.4.0", "0.0.0-staging.2", true }, { "staging", "0.0.0-staging.2", "1.4.0", false },
    { "staging", nil, "0.0.0-rc.1", false }, { "staging", nil, "0.0.1-staging.1", false },
    { "range:>=1.2 <2", nil, "1.9.0", true }, { "range:>=1.2 <2", "1.9.0", "2.0.0", false },
    { "range:>=1.2 <2", "1.9.0", "1.8.0", false }, { "range:>=1.2 <2", "2.1.0", "1.8.0", true },
    { "range:^1", "1.2.0", "1.3.0-rc.1", false }, { "range:^1-0", "1.2.0", "1.3.0-rc.1", true },
    { "version:1.2.3", nil, "1.2.3", true }, { "version:1.2.3", "2.0.0", "1.2.3", true },
    { "version:1.2.3", nil, "1.2.4", false }, { "version:0.0.0-staging", "0.0.0-staging", "0.0.0-staging", false },
    { "force", "2.0.0", "1.0.0", true }, { "force", nil, "1.0.0-rc.1", true },
    { "glob:1.*", nil, "1.5.0", true }, { "glob:1.*", nil, "2.0.0", false }, { "regexp:^1\\.", nil, "1.5.0", true },
    { "regexp:^1\\.", "1.0.0", "2.5.0", false }, { "never", nil, "1.0.0", false },
    { "glob:1.*", "1.9.0", "1.10.0", true }, { "glob:1.*", "1.9.0", "1.8.0", false },
    { "glob:1.*", "2.0.0", "1.8.0", true },
    { "regexp:^1\\.", "1.5.0", "1.4.0", false }, { "regexp:^1\\.", "1.5.0", "1.6.0", true },
    { "never", "1.0.0", "1.1.0", false },
    { "major", "v1.2.3", "v1.3.0", true },
  } do
    local allowed, reason = version.allows(ok(version.rule(case[1])), case[2], case[3], true)
    eq(allowed, case[4], ("%s: %s after %s (%s)"):format(case[1], case[3], case[2], reason))
    ok(#reason > 0)
  end
  for _, text in ipairs {
    "sometimes", "range:>=", "range:1 2 x y", "version:1.2", "version:staging", "regexp:(", "latest",
  } do
    local rule, err = version.rule(text)
    eq(rule, nil, text)
    ok(err.message)
  end
end)

-- ---- indexes ----

local function read(text, wanted, size)
  local reader = index.reader(wanted)
  for at = 1, #text, size or 65536 do
    local fed, err = reader:feed(text:sub(at, at + (size or 65536) - 1))
    if not fed then return nil, err end
  end
  return reader:close()
end

local STYLES <const> = {
  -- Helm's own: items at the depth of the names.
  [[
apiVersion: v1
entries:
  api:
  - name: api
    version: 1.0.0
    description: |
      api:
      - of nothing

      entries:
    urls:
    - api-1.0.0.tgz
  web:
  - name: web
    urls: [web-2.0.0.tgz]
    version: 2.0.0
generated: "2026-11-01T10:00:00Z"
]],
  -- Deeper items, other depths, quotes, comments, a foreign order.
  [[
# made by hand
generated: "x"
entries:   # all of them

    "web":
        - {version: 2.0.0, name: web, urls: [web-2.0.0.tgz]}
    # a comment
    'api':
        -
            version: 1.0.0
            name: api
            urls:
                - api-1.0.0.tgz
apiVersion: v1
]],
  '{"apiVersion":"v1","entries":{"web":[{"name":"web","version":"2.0.0","urls":["web-2.0.0.tgz"]}],'
    .. '"api":[{"name":"api","version":"1.0.0","urls":["api-1.0.0.tgz"]}]},"generated":"x"}',
  "apiVersion: v1\nentries: {api: [{version: 1.0.0, urls: [api-1.0.0.tgz]}], "
    .. "web: [{version: 2.0.0, urls: [web-2.0.0.tgz]}]}\ngenerated: x\n",
}

test("an index is read in every style, cut anywhere on its way", function()
  for i, text in ipairs(STYLES) do
    for _, size in ipairs { 1, 2, 3, 7, 64, 65536 } do
      local found = ok(read(text, { api = true, web = true, other = true }, size))
      eq(found.charts, 2, "style " .. i)
      eq(found.ended, true)
      eq({ found.entries.api[1].version, found.entries.web[1].version, found.entries.other }, { "1.0.0", "2.0.0" })
    end
    local found = ok(read(text, { web = true }))
    eq({ found.entries.api, found.entries.web[1].urls[1] }, { nil, "web-2.0.0.tgz" })
  end
  eq(ok(read("apiVersion: v1\nentries: {}\ngenerated: x\n", {})).charts, 0)
  eq(ok(read("apiVersion: v1\nentries:\n", {})).charts, 0)
  eq(ok(read("apiVersion: v1\n", {})).charts, 0)
end)

test("what is no index is an error, and so is one that breaks off", function()
  for _, text in ipairs {
    "", "<html>please log in</html>\n", "[]", "null", "{}", '{"entries":{}}', "entries: [", "just text\n", "- a\n- b\n",
    "apiVersion: v1\nentries:\n  api:\n  - version: [1\n", "apiVersion: v1\nentries:\n  api: text\n",
    "apiVersion: v1\nentries:\n    api:\n    - version: 1.0.0\n  - broken\n",
  } do
    fails("protocol", read(text, { api = true }))
  end
  local whole = STYLES[1]
  local entries_at = whole:find("entries:", 1, true)
  for at = entries_at + 9, #whole - 1 do
    local found, err = read(whole:sub(1, at), { api = true, web = true })
    if found then -- only where a line ends can it seem to be whole
      ok(whole:sub(at, at) == "\n" or found.ended, "cut at " .. at)
    else
      ok(err.code == "mismatch" or err.code == "protocol", tostring(err))
    end
  end
end)

test("bombs and giants stop at the limits", function()
  local bomb = { "apiVersion: v1\nentries:\n  api:\n  - a0: &a0 [x, x, x, x, x, x, x, x, x]\n" }
  for i = 1, 12 do bomb[#bomb + 1] = ("    a%d: &a%d [%s]\n"):format(i, i, ("*a%d, "):format(i - 1):rep(9)) end
  local err = fails("protocol", read(table.concat(bomb), { api = true }))
  eq(err.cause.code, "too_large")
  eq(ok(read(table.concat(bomb), { web = true })).charts, 1) -- nobody follows it: nobody expands it
  fails("protocol", read("apiVersion: v1\nentries:\n  api:\n  - " .. ("["):rep(100000) .. "\n", { api = true }))
  fails("too_large", read("apiVersion: v1\nentries:\n  api:\n" .. ("  - version: 1.0.0\n"):rep(600000), { api = true }))
  fails("too_large", read("apiVersion: v1\nentries:\n  api:\n  - x: " .. ("x"):rep(2 << 20), { web = true }))
  fails("too_large", read('{"apiVersion":"v1","x":"' .. ("x"):rep(9 << 20) .. '"}', {}))
  fails("too_large", read("# " .. ("x\n# "):rep(3 << 20), {}))
  local reader, piece, fed = index.reader {}, ("    - x: y\n"):rep(8192), 0
  ok(reader:feed("apiVersion: v1\nentries:\n  api:\n"))
  repeat
    fed = fed + #piece
    local fine, why = reader:feed(piece)
    if not fine then fails("too_large", fine, why) end
  until not fine
  ok(fed > (49 << 20) and fed < (51 << 20), fed)
end)

test("only what can be installed becomes a version", function()
  local base = "https://charts.example.com/team"
  local entry = ok(index.version(item("web", "1.0.0", { deprecated = true, appVersion = "x\27[2J" .. ("y"):rep(500) }),
    "web", base))
  eq({ entry.url, entry.digest, entry.deprecated },
    { base .. "/web-1.0.0.tgz", "sha256:" .. hash.sha256("web1.0.0"), true })
  ok(#entry.app_version <= 128 and not entry.app_version:find("%c"))
  for _, bad in ipairs {
    5, {}, item("other", "1.0.0"), item("web", 1), item("web", "1.0.0", { removed = true }),
    item("web", "1.0.0", { urls = {} }), item("web", "1.0.0", { urls = "x" }),
    item("web", "1.0.0", { urls = { "file:///etc/passwd" } }), item("web", "1.0.0", { urls = { "javascript:x" } }),
    item("web", "1.0.0", { urls = { "a b", 5, "" } }),
  } do
    eq(index.version(bad, "web", base), nil)
  end
  for url, want in pairs {
    ["a.tgz"] = base .. "/a.tgz", ["/a.tgz"] = "https://charts.example.com/a.tgz",
    ["//cdn.example.com/a.tgz"] = "https://cdn.example.com/a.tgz", ["http://x/a.tgz"] = "http://x/a.tgz",
  } do
    eq(index.resolve(base .. "/", url), want)
  end
  local loud = ok(index.version(item("web", "1.0.0", { digest = "sha256:" .. SUM:upper() }), "web", base))
  eq(loud.digest, "sha256:" .. SUM)
  eq(ok(index.version(item("web", "1.0.0", { digest = "md5" }), "web", base)).digest, nil)
end)

-- ---- plain repositories ----

test("a plain repository: versions, digests, notes, a chart that is not there", function()
  local where = index_server(write_index {
    api = json.array { item("api", "1.0.0"), item("api", "staging"), item("api", "1.10.0", { deprecated = true }),
      item("api", "1.9.0"), item("api", "2.0.0", { removed = true }) },
    web = versions("web", 3),
  })
  local repo = open(where.url .. "/", { "api", "web" })
  local list = ok(repo:versions("api"))
  eq(names_of(list), { "1.10.0", "1.9.0", "1.0.0" })
  eq(list[1].digest, "sha256:" .. hash.sha256("api1.10.0"))
  eq(list.dropped, { "2.0.0 was removed", "staging is no version" })
  eq(repo:digest("api", list[1]), list[1].digest)
  eq(#ok(repo:versions("web")), 3)
  fails("not_found", repo:versions("none"))
  eq({ repo.kind, #where.log }, { "auto", 3 }) -- the API (404), the index, and the index once more for `none`
  raises("usage", repo.versions, repo, "../x")
  raises("usage", repo.versions, repo, ".hidden")
end)

test("one poll for each repository and interval, shared by all who ask", function()
  local where = index_server(function()
    time.sleep(0.05)
    return write_index { api = versions("api", 3), web = versions("web", 2) }
  end)
  local repo = open({ url = where.url, kind = "index" }, { "api", "web" })
  local asks = {}
  for i = 1, 20 do
    asks[i] = function() return #ok(repo:versions(i % 2 == 0 and "api" or "web", { interval = 60 })) end
  end
  task.all(asks)
  eq(#where.log, 1)
  ok(repo:versions("api", { interval = 60 }))
  eq(#where.log, 1)
  ok(repo:versions("api", now))
  eq(#where.log, 2)
  eq(open({ url = where.url, kind = "index" }, { "api" }), repo)
  repo:expire()
  ok(repo:versions("api"))
  eq(#where.log, 3)
end)

test("a leader that is cancelled leaves the question to those who wait", function()
  local where = index_server(function()
    time.sleep(0.2)
    return write_index { api = versions("api", 3) }
  end)
  local repo = open({ url = where.url, kind = "index" }, { "api" })
  local leader = task.spawn(function() repo:versions("api") end)
  time.sleep(0.05)
  local other = task.spawn(function() return #ok(repo:versions("api")) end)
  time.sleep(0.05)
  leader:cancel()
  eq(other:join(), 3)
end)

test("an index that did not change is not sent again", function()
  for header, condition in pairs { ETag = "if-none-match", ["Last-Modified"] = "if-modified-since" } do
    local value = header == "ETag" and '"one"' or "Mon, 02 Nov 2026 10:00:00 GMT"
    local where = index_server(nil)
    local sent = 0
    where.text = function(request)
      if request.headers[condition] == value then return { status = 304 } end
      sent = sent + 1
      return { status = 200, headers = { [header] = value }, body = write_index {
        api = versions("api", 2), late = versions("late", 1) } }
    end
    local repo = open({ url = where.url, kind = "index" }, { "api" })
    local first = ok(repo:versions("api", now))
    eq(rawequal(ok(repo:versions("api", now)), first), true)
    eq({ #where.log, sent }, { 2, 1 })
    eq(#ok(repo:versions("late", now)), 1) -- nobody asked for it before: the index must come again
    ok(repo:versions("api", now))
    eq(sent, 2)
  end
end)

test("a new date alone is no news", function()
  local where, day = index_server(nil), 0
  where.text = function()
    day = day + 1
    return (write_index { api = versions("api", 2) }:gsub("generated.*$", ("generated: day %d\n"):format(day)))
  end
  local repo = open({ url = where.url, kind = "index" }, { "api" })
  local first = ok(repo:versions("api", now))
  local again = ok(repo:versions("api", now))
  eq(again, first)
  eq(#where.log, 2)
end)

test("half an index is an error, not news, wherever it breaks off", function()
  local whole = write_index { api = versions("api", 8), big = versions("big", 40), web = versions("web", 8),
    xyz = versions("xyz", 1), zed = versions("zed", 4) }
  local where = index_server(whole)
  local repo = open({ url = where.url, kind = "index" }, { "api", "web", "xyz" })
  for _, name in ipairs { "api", "web", "xyz" } do ok(repo:versions(name)) end
  for at = 1, #whole - 40, 997 do
    where.text = whole:sub(1, at)
    for _, name in ipairs { "api", "web", "xyz" } do
      local list, err = repo:versions(name, now)
      eq(list, nil, ("%s with %d of %d bytes"):format(name, at, #whole))
      ok(err.code == "mismatch" or err.code == "protocol", tostring(err))
    end
  end
  where.text = whole
  eq(#ok(repo:versions("web", now)), 8)
end)

test("what is missing from a list that lost half of itself stays for a while; the rest of it is news", function()
  local where = index_server(write_index { api = versions("api", 8), web = versions("web", 8) })
  local repo = open({ url = where.url, kind = "index" }, { "api", "web" })
  local function api()
    local names, list = {}, ok(repo:versions("api", now))
    for i, entry in ipairs(list) do names[i] = entry.version end
    return table.concat(names, " "), list.held
  end
  local all = api()
  local some = versions("api", 4)
  where.text = write_index { api = some, web = versions("web", 8) }
  local kept, held = api()
  eq(kept, all)
  eq({ held.complaint, held.count, #held.names }, { "4 of 8 versions of api are gone", 4, 4 })
  ok(held.till > held.since)
  some[#some + 1] = item("api", "99.0.0")
  where.text = write_index { api = some, web = versions("web", 8) }
  eq(api(), "99.0.0 " .. all)
  eq(#ok(repo:versions("web")), 8)
  where.text = write_index { web = versions("web", 8) } -- nothing at all is never believed
  repo.shrinks.api.since = repo.shrinks.api.since - 601
  for _ = 1, 3 do
    kept, held = api()
    eq({ kept, held.complaint, held.till }, { "99.0.0 " .. all, "all 9 versions of api are gone" })
  end
  where.text = write_index { api = versions("api", 6), web = versions("web", 8) } -- it lost a little
  eq({ #ok(repo:versions("api", now)), (select(2, api())) }, { 6 })
  -- What stays so for ten minutes is accepted; we do not wait here, the batch is made old.
  where.text = write_index { api = versions("api", 2), web = versions("web", 8) }
  for _ = 1, 3 do ok(select(2, api())) end
  repo.shrinks.api.since = repo.shrinks.api.since - 601
  where.text = write_index { api = versions("api", 3), web = versions("web", 8) } -- another list, as short as before
  eq({ #ok(repo:versions("api", now)), (select(2, api())) }, { 3 })
end)

test("a connection that breaks off, a server that streams for ever, and one that is gone are errors", function()
  local whole = write_index { api = versions("api", 2000) }
  local where = index_server(function()
    return { status = 200, headers = {}, body = function(write)
      write(whole:sub(1, #whole // 2))
      error("cable cut")
    end }
  end)
  local repo = open({ url = where.url, kind = "index" }, { "api" })
  local _, err = repo:versions("api", now)
  ok(err and err.code ~= "internal", tostring(err))

  local sent = 0
  where.text = function()
    return { status = 200, headers = {}, body = function(write)
      write("apiVersion: v1\nentries:\n  other:\n")
      local piece = ("  - version: 1.0.0\n"):rep(5000)
      while true do
        write(piece)
        sent = sent + #piece
      end
    end }
  end
  has(tostring(fails("too_large", repo:versions("api", now))), "50 MiB")
  ok(sent < 60 << 20, sent)
  where.text = function() return { status = 503, headers = { ["Retry-After"] = "7" }, body = "busy" } end
  eq(fails("busy", repo:versions("api", now)).retry_after, 7)
  local asked = #where.log
  ok(select(2, repo:versions("api", now)).retry_after > 5) -- it wants to be left alone, and is
  eq(#where.log, asked)
  fails("refused", open({ url = "http://127.0.0.1:" .. lab.port(), kind = "index" }, { "api" }):versions("api"))
end)

-- ---- ChartMuseum ----

test("ChartMuseum's API is found with a context path and with tenants, and asked for one chart at a time", function()
  for _, options in ipairs {
    {}, { context = "/museum" }, { tenant = "/org/repo" }, { context = "/m", tenant = "/org" },
  } do
    local where = chart_museum.open(options)
    where:put("api", "1.0.0")
    where:put("api", "1.10.0")
    where:put("api", "0.0.0-staging.10")
    where:put("web", "2.0.0")
    local repo = open(where.url, { "api", "web" })
    eq(names_of(repo:versions("api")), { "1.10.0", "1.0.0", "0.0.0-staging.10" })
    eq(ok(repo:versions("api"))[1].url, where.url .. "/charts/api-1.10.0.tgz")
    fails("not_found", repo:versions("none"))
    local before = #where.log
    ok(repo:versions("web", now))
    ok(repo:versions("api", now))
    local base = ("%s/api%s"):format(options.context or "", options.tenant or "")
    eq({ where.log[before + 1], where.log[before + 2], #where.log - before },
      { "GET " .. base .. "/charts/web", "GET " .. base .. "/charts/api", 2 })
  end
  eq(museum.bases("https://h/a/b"), { "https://h/api/a/b", "https://h/a/api/b", "https://h/a/b/api" })
end)

test("without its API the index is read instead, and when that fails too both are tried again", function()
  local where = chart_museum.open { api = false }
  where:put("api", "1.0.0")
  local repo = open({ url = where.url, kind = "museum" }, { "api" })
  eq(names_of(repo:versions("api")), { "1.0.0" })
  eq(where.log, { "GET /api/charts/api", "GET /index.yaml" })
  ok(repo:versions("api", now))
  eq(where.log[3], "GET /index.yaml")
  where.broken = function() return { status = 500, body = "no" } end
  fails("busy", repo:versions("api", now))
  where.broken, where.api = nil, true
  ok(repo:versions("api", now))
  eq(where.log[#where.log], "GET /api/charts/api")
end)

test("a store of files that forbids what it does not have, or fails at it, is a plain repository", function()
  for _, status in ipairs { 401, 403, 405, 500, 503, 200 } do
    local where = server(function(request)
      if request.path == "/team/index.yaml" then return write_index { api = versions("api", 3) } end
      return { status = status, body = "<html>no</html>" }
    end)
    local repo = open(where.url .. "/team", { "api" })
    eq(#ok(repo:versions("api")), 3, status)
    eq(#where.log, 3)
    ok(repo:versions("api", now))
    -- Who was not sure whether there is an API looks again.
    eq(#where.log, status >= 500 and 6 or 4, status)
  end
  local where = chart_museum.open()
  where:put("api", "1.0.0")
  local repo = open(where.url, { "api" })
  ok(repo:versions("api"))
  where.broken = function(request) return request.path:find("^/api") and { status = 502, body = "" } or nil end
  fails("busy", repo:versions("api", now)) -- it has an API: its index is not asked for
  where.broken = nil
  ok(repo:versions("api", now))
end)

test("credentials: Basic, Bearer, wrong ones, none; never to another host", function()
  local function word(text) return secret.new("file", lab.write(lab.dir("secret") .. "/word", text)) end
  local where = chart_museum.open { user = "dev", password = "chart-word" }
  where:put("api", "1.0.0")
  eq(#ok(open { url = where.url, username = "dev", password = word "chart-word" }:versions("api")), 1)
  fails("unauthorized", open { url = where.url, username = "dev", password = word "other-word" }:versions("api"))
  fails("unauthorized", open { url = where.url }:versions("api"))
  local bearer = chart_museum.open { bearer = "token-word" }
  bearer:put("api", "1.0.0")
  eq(#ok(open { url = bearer.url, token = word "token-word" }:versions("api")), 1)

  local seen
  local thief = server(function(request)
    seen = request.headers.authorization or "nothing"
    return write_index { api = versions("api", 1) }
  end)
  local sender = server(function(request)
    return { status = 302, headers = { Location = thief.url .. request.path } }
  end)
  local repo = open { url = sender.url, kind = "index", username = "dev", password = word "chart-word" }
  eq(#ok(repo:versions("api")), 1)
  eq(seen, "nothing")
end)

test("a repository is found by its name, its address, and gives that one's credentials", function()
  local known = { url = "https://charts.example.com/", name = "main" }
  local cfg = { chart_repositories = { main = known }, registries = {}, app_list = {} }
  eq(charts.config("main", cfg), known)
  eq(charts.config("https://charts.example.com", cfg), known)
  eq(charts.config("https://other.example.com/", cfg), { url = "https://other.example.com" })
  eq(charts.repository("main", world.of(cfg)).url, "https://charts.example.com")
  eq(charts.repository("oci://127.0.0.1:1/charts", world.of(cfg)).kind, "oci")
end)

-- ---- OCI ----

test("a registry's tags are versions, with + for _, and digests are asked for by HEAD", function()
  local digest = "sha256:" .. SUM
  local where = server(function(request)
    if request.path == "/v2/charts/api/tags/list" then
      return { status = 200, body = { tags = {
        "1.0.0", "latest", "1.10.0", "1.9.0_build.5", "sha-abc", "0.0.0-staging.3",
      } } }
    elseif request.path == "/v2/charts/api/manifests/1.9.0_build.5" then
      return { status = 200, headers = { ["Docker-Content-Digest"] = digest }, body = "" }
    end
  end)
  local repo = open("oci://" .. where.url:gsub("^http://", "") .. "/charts", { "api" })
  local list = ok(repo:versions("api"))
  eq(names_of(list), { "1.10.0", "1.9.0+build.5", "1.0.0", "0.0.0-staging.3" })
  eq({ list[2].tag, list[2].digest, list.dropped }, { "1.9.0_build.5", nil, {} })
  eq(repo:digest("api", list[2]), digest)
  eq(where.log[#where.log].method, "HEAD")
  local before = #where.log
  eq(repo:digest("api", list[2]), digest)
  eq(#where.log, before)
  fails("not_found", repo:digest("api", list[1]))
  fails("not_found", repo:versions("web"))
end)
