-- The lab's registries: every way to sign in, TLS by an own authority, storage that survives a restart.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local lab = require "lab"
local hash, http, json = require "hash", require "http", require "json"
local test, eq, ok, fails = check.test, check.eq, check.ok, check.fails

-- Puts a blob and a manifest that names it, by hand: the lab must not depend on the words that it will test.
local function push(registry, name, tag, headers)
  local function call(method, path, options)
    options = registry:options(options)
    options.method, options.url = method, path:find("^http") and path or registry.url .. path
    options.headers = options.headers or {}
    for k, v in pairs(headers or {}) do options.headers[k] = v end
    if headers then options.auth = nil end
    return ok(http.request(options))
  end
  local blob = "{}"
  local digest = "sha256:" .. hash.sha256(blob)
  local started = call("POST", "/v2/" .. name .. "/blobs/uploads/")
  eq(started.status, 202, started.body)
  local location = started.headers.location
  local join = location:find("?", 1, true) and "&" or "?"
  eq(call("PUT", location .. join .. "digest=" .. digest, {
    body = blob, headers = { ["Content-Type"] = "application/octet-stream" },
  }).status, 201)
  local media = "application/vnd.docker.distribution.manifest.v2+json"
  local manifest = json.encode {
    schemaVersion = 2, mediaType = media,
    config = { mediaType = "application/vnd.docker.container.image.v1+json", size = #blob, digest = digest },
    layers = json.array {},
  }
  local put = call("PUT", "/v2/" .. name .. "/manifests/" .. tag, {
    body = manifest, headers = { ["Content-Type"] = media },
  })
  eq(put.status, 201, put.body)
  return put.headers["docker-content-digest"], media
end

test("a plain registry takes, gives and deletes", function()
  local registry = lab.registry {}
  local digest, media = push(registry, "team/app", "one")
  local list = json.decode(ok(http.get(registry.url .. "/v2/team/app/tags/list")).body)
  eq(list.tags, { "one" })
  local url = registry.url .. "/v2/team/app/manifests/" .. digest
  eq(ok(http.delete(url, { headers = { Accept = media } })).status, 202)
  eq(ok(http.get(url, { headers = { Accept = media } })).status, 404)
end)

test("deletion can be forbidden", function()
  local registry = lab.registry { delete = false }
  local digest = push(registry, "team/app", "one")
  eq(ok(http.delete(registry.url .. "/v2/team/app/manifests/" .. digest)).status, 405)
end)

test("htpasswd asks for Basic credentials", function()
  local registry = lab.registry { auth = "htpasswd" }
  local url = registry.url .. "/v2/"
  local answer = ok(http.get(url))
  eq(answer.status, 401)
  check.has(answer.headers["www-authenticate"], "Basic realm")
  eq(ok(http.get(url, { auth = { user = registry.user, password = "wrong-word" } })).status, 401)
  eq(ok(http.get(url, registry:options())).status, 200)
  push(registry, "team/app", "one")
end)

test("TLS is trusted only through the lab's own authority", function()
  local registry = lab.registry { tls = true, auth = "htpasswd" }
  fails("tls", http.get(registry.url .. "/v2/"))
  eq(ok(http.get(registry.url .. "/v2/", { ca = registry.ca })).status, 401)
  push(registry, "team/app", "one")
end)

test("token auth: the dance of public registries", function()
  local registry = lab.registry { auth = "token" }
  local denied = ok(http.get(registry.url .. "/v2/team/app/tags/list"))
  eq(denied.status, 401)
  local challenge = denied.headers["www-authenticate"]
  eq(challenge:match('^Bearer realm="([^"]+)"'), registry.tokens.url)
  eq(challenge:match('scope="([^"]+)"'), "repository:team/app:pull")
  local ask = registry.tokens.url .. "?service=lab-registry&scope=repository%3Ateam%2Fapp%3Apull%2Cpush"
  eq(ok(http.get(ask, { auth = { user = registry.user, password = "wrong-word" } })).status, 401)

  local answer = ok(http.get(ask, { auth = { user = registry.user, password = registry.password } }))
  eq(answer.status, 200)
  push(registry, "team/app", "one", { Authorization = "Bearer " .. json.decode(answer.body).token })

  local nobody = json.decode(ok(http.get(ask)).body).token
  local url = registry.url .. "/v2/team/app/tags/list"
  eq(ok(http.get(url, { headers = { Authorization = "Bearer " .. nobody } })).status, 401)
  eq(registry.tokens.log[#registry.tokens.log].scopes, { "repository:team/app:pull,push" })
end)

test("storage survives a restart, and garbage is collected", function()
  local registry = lab.registry {}
  local digest, media = push(registry, "team/app", "one")
  registry:stop()
  fails("refused", http.get(registry.url .. "/v2/", { timeout = 2 }))
  registry:start()
  local url = registry.url .. "/v2/team/app/manifests/" .. digest
  eq(ok(http.get(url, { headers = { Accept = media } })).status, 200)
  eq(ok(http.delete(url)).status, 202)
  registry:stop()
  check.has(registry:collect_garbage(), "eligible for deletion")
end)
