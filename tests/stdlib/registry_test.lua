-- The registry's words against the real registry, in every way to sign in, and against servers that lie.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: inject-field, missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-parameter -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local base, lab = require "lab.base", require "lab"
local fs, hash, json, registry, serve, task, time = require "fs", require "hash", require "json",
  require "images.registry", require "serve", require "task", require "time"
local reference, secret = require "images.reference", require "config.secret"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local IMAGE <const> = "application/vnd.docker.distribution.manifest.v2+json"
local INDEX <const> = "application/vnd.oci.image.index.v1+json"
local NOBODY <const> = "sha256:" .. ("0"):rep(64)

local function digest_of(text) return "sha256:" .. hash.sha256(text) end

-- A configuration that knows one registry.
local function config(where, password)
  local known = { host = where.host, ca = where.ca, realm = where.tokens and where.tokens.url }
  if where.user then
    known.username = where.user
    known.password = secret.new("file", lab.write(lab.dir("secret") .. "/word", password or where.password))
  end
  return { registries = { [where.host] = known } }
end

local function open(where, name, password)
  return registry.repository(where.host .. "/" .. name, config(where, password))
end

-- Uploads a blob through the words' own door, which signs in as the registry asks.
local function upload(repo, text)
  local started = ok(repo:call("POST", ("/v2/%s/blobs/uploads/"):format(repo.path), { body = "" }))
  eq(started.status, 202, started.body)
  local path = started.headers.location:gsub("^%a+://[^/]+", "")
  local ended = ok(repo:call("PUT", path .. "&digest=" .. digest_of(text), {
    body = text, headers = { ["Content-Type"] = "application/octet-stream" },
  }))
  eq(ended.status, 201, ended.body)
  return { mediaType = "application/octet-stream", size = #text, digest = digest_of(text) }
end

local function put(repo, ref, media, manifest)
  local text = json.encode(manifest)
  local answer = ok(repo:call("PUT", ("/v2/%s/manifests/%s"):format(repo.path, ref or digest_of(text)), {
    body = text, headers = { ["Content-Type"] = media },
  }))
  eq(answer.status, 201, answer.body)
  return digest_of(text), #text
end

-- A whole image with these labels.
local function push(repo, tag, labels, word)
  local settings = upload(repo, json.encode {
    architecture = "amd64", os = "linux", config = { Labels = labels }, word = word or tag,
  })
  return put(repo, tag, IMAGE, {
    schemaVersion = 2, mediaType = IMAGE, config = settings,
    layers = json.array { upload(repo, "layer of " .. (word or tag or "?")) },
  })
end

-- ---- the real registry ----

local WAYS = {
  plain = {}, htpasswd = { auth = "htpasswd" }, token = { auth = "token" }, tls = { auth = "htpasswd",
    tls = true },
}
for _, way in ipairs { "plain", "htpasswd", "token", "tls" } do
  test("the real registry, " .. way .. ": tags, digests, labels, promotion, copies, deletion", function()
    local where = lab.registry(WAYS[way])
    local repo = open(where, "team/app")
    fails("not_found", repo:tags())
    fails("not_found", repo:digest("one"))
    fails("not_found", repo:manifest("one"))
    local one = push(repo, "one", { key = "value", number = 5 })
    eq(repo:digest("one"), one)
    eq(repo:digest(one), one)
    fails("not_found", repo:digest(NOBODY))
    local manifest = ok(repo:manifest("one"))
    eq({ manifest.digest, manifest.media_type, digest_of(manifest.body) }, { one, IMAGE, one })
    eq(repo:labels(one), { key = "value" })

    eq(repo:tag(one, "staging"), true)
    eq(repo:tag(one, "staging"), true)
    local two = push(repo, "two", {})
    eq(repo:tag(two, "staging"), true)
    eq(repo:digest("staging"), two)
    fails("not_found", repo:tag(NOBODY, "staging"))
    local tags = ok(repo:tags())
    table.sort(tags)
    eq(tags, { "one", "staging", "two" })

    local other = open(where, "prod/app")
    eq(other:copy_from(repo, one, "v1"), true)
    eq(other:copy_from(repo, one, "v1"), true)
    eq(other:labels(one), { key = "value" })
    fails("not_found", other:copy_from(repo, NOBODY, "v2"))

    eq(repo:delete(two), true)
    fails("not_found", repo:delete(two))
    fails("not_found", repo:digest("staging"))
    eq(repo:digest("one"), one)
  end)
end

test("an index is promoted as a whole, judged by its linux image, and copied children first", function()
  local where = lab.registry {}
  local repo = open(where, "team/many")
  local list = json.array {}
  for _, arch in ipairs { "arm64", "amd64" } do
    local digest, size = push(repo, "only-" .. arch, { arch = arch }, arch)
    table.insert(list, {
      mediaType = IMAGE, digest = digest, size = size, platform = { os = "linux", architecture = arch },
    })
  end
  local index = put(repo, "both", INDEX, { schemaVersion = 2, mediaType = INDEX, manifests = list })
  eq(repo:digest("both"), index)
  eq(repo:labels(index), { arch = "amd64" })
  eq(repo:tag(index, "v1"), true)
  eq(ok(repo:manifest("v1")).media_type, INDEX)
  local other = open(where, "prod/many")
  eq(other:copy_from(repo, index, "v1"), true)
  eq(other:labels(index), { arch = "amd64" })
  eq(other:digest(list[1].digest), list[1].digest)
end)

test("what is in a repository besides images is told from them, and said", function()
  local repo = open(lab.registry {}, "team/zoo")
  local OCI, OCI_CONFIG = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json"
  local count = 0
  local function blob(media)
    count = count + 1
    local item = upload(repo, json.encode { architecture = "amd64", os = "linux", count = count })
    item.mediaType = media
    return item
  end
  local function artifact(fields, settings, ...)
    local manifest = { schemaVersion = 2, mediaType = OCI, config = blob(settings), layers = json.array {} }
    for i, media in ipairs { ... } do manifest.layers[i] = blob(media) end
    for key, value in pairs(fields) do manifest[key] = value end
    return put(repo, nil, OCI, manifest)
  end
  local function index(fields, ...)
    local manifest = { schemaVersion = 2, mediaType = INDEX, manifests = json.array {} }
    for i, child in ipairs { ... } do manifest.manifests[i] = child end
    for key, value in pairs(fields) do manifest[key] = value end
    return put(repo, nil, INDEX, manifest)
  end
  local layer = "application/vnd.oci.image.layer.v1.tar+gzip"
  local image = artifact({}, OCI_CONFIG, layer)
  local chart = artifact({}, "application/vnd.cncf.helm.config.v1+json",
    "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
  local function child(digest, more)
    local item = { mediaType = OCI, digest = digest, size = 1, platform = { os = "linux", architecture = "arm64" } }
    for key, value in pairs(more or {}) do item[key] = value end
    return item
  end
  local attestation = child(artifact({}, OCI_CONFIG, "application/vnd.in-toto+json"), {
    annotations = { ["vnd.docker.reference.type"] = "attestation-manifest" },
    platform = { os = "unknown", architecture = "unknown" },
  })
  local odd = child(attestation.digest, { annotations = attestation.annotations })
  local bare = child(attestation.digest, { platform = attestation.platform })
  local amd64, arm64 = { os = "linux", architecture = "amd64" }, { os = "linux", architecture = "arm64" }
  for _, case in ipairs {
    { image, { amd64 } }, { artifact({}, OCI_CONFIG), { amd64 } },
    { artifact({}, OCI_CONFIG, layer, "application/x-extra"), { amd64 } },
    { index({}, child(image), attestation), { arm64 } }, { index({}, attestation, child(image)), { arm64 } },
    { index({}, child(image), odd), { arm64 } },
    { chart, "a Helm chart" }, { artifact({ artifactType = "application/spdx+json" },
      "application/vnd.oci.empty.v1+json", "application/spdx+json"), "an SBOM (application/spdx+json)" },
    { artifact({}, "application/vnd.oci.empty.v1+json", "application/vnd.cyclonedx+json"), "an artifact" },
    { artifact({}, OCI_CONFIG, "application/vnd.dev.cosign.simplesigning.v1+json"), "a signature" },
    { artifact({}, OCI_CONFIG, "application/vnd.in-toto+json"), "an attestation" },
    { artifact({ artifactType = "application/vnd.example\27[31m" }, OCI_CONFIG, layer), "an artifact" },
    { artifact({}, "application/vnd.docker.plugin.v1+json", layer), "a" },
    { index({}, child(image), bare), { arm64 } }, { index({}, bare), "an attestation" },
    { index({}, attestation), "an attestation" }, { index({}), "an index without images" },
    { index({ artifactType = "application/vnd.example" }, child(image)), "an artifact (application/vnd.example)" },
    { index({}, child(chart, { artifactType = "application/vnd.cncf.helm.config.v1+json" })), "a Helm chart" },
  } do
    local platforms, err = repo:platforms(case[1])
    if type(case[2]) == "table" then
      eq(platforms, case[2], case[1])
    else
      eq(err and err.code, "unsupported", case[2])
      has(err.message, "it is " .. case[2])
      ok(not err.message:find("%c"), err.message)
    end
  end
  local of_tag = require("images.registry.content").of_tag
  local hex = ("0123456789abcdef"):rep(4)
  for suffix, what in pairs { [".sig"] = "a signature", [".att"] = "an attestation", [".sbom"] = "an SBOM",
    [""] = "a list", [".other"] = "something" } do
    has(of_tag("sha256-" .. hex .. suffix), "it is " .. what)
  end
  for _, tag in ipairs { "sha256-abc.sig", "1.0.0", "sha-" .. hex, "sha256-" .. hex .. "a" } do
    eq(of_tag(tag), nil, tag)
  end
end)

test("wrong credentials, none, and a user who may not are told apart from missing images", function()
  local where = lab.registry { auth = "htpasswd" }
  fails("unauthorized", open(where, "team/app", "wrong-word"):tags())
  local nobody = registry.repository(where.host .. "/team/app", { registries = {} })
  has(tostring(fails("unauthorized", nobody:tags())), "configuration has none")

  where = lab.registry { auth = "token" }
  has(tostring(fails("unauthorized", open(where, "team/app", "wrong-word"):tags())), "token service refused")
  local repo = open(where, "team/app")
  local one = push(repo, "one", {})
  where.tokens.anonymous = true
  nobody = registry.repository(where.host .. "/team/app", { registries = {} })
  eq(nobody:digest("one"), one)
  fails("unauthorized", nobody:tag(one, "two"))
end)

test("who only knows a user's name does not get the token of who knew the password", function()
  local where = lab.registry { auth = "token" }
  push(open(where, "team/app"), "one", {})
  ok(open(where, "team/app"):tags())
  fails("unauthorized", open(where, "team/app", "wrong-word"):tags())
  ok(open(where, "team/app"):tags())
end)

test("tokens are asked for once for each set of scopes, and again when they are over", function()
  local where = lab.registry { auth = "token" }
  local repo = open(where, "team/app")
  local one = push(repo, "one", {})
  local before = #where.tokens.log
  for i = 1, 5 do ok(repo:tag(one, "t" .. i)) end
  ok(repo:tags())
  eq(#where.tokens.log, before + 1) -- pull; pull,push is known from the push
  local seen = {}
  for _, entry in ipairs(where.tokens.log) do seen[table.concat(entry.scopes, " ")] = true end
  eq(seen, { ["repository:team/app:pull,push"] = true, ["repository:team/app:pull"] = true })
  ok(repo:delete(one))
  eq(where.tokens.log[#where.tokens.log].scopes, { "repository:team/app:pull,push,delete" })

  -- One that lives a second only. The registry allows a minute of leeway, so only our own clock can tell.
  where.tokens.expires = 1
  local fresh = open(where, "team/short")
  ok(push(fresh, "one", {}))
  before = #where.tokens.log
  time.sleep(4.2)
  ok(push(fresh, "two", {}))
  ok(#where.tokens.log > before, "no new token was asked for")
end)

test("TLS is not trusted without its authority, and no password is sent", function()
  local where = lab.registry { auth = "htpasswd", tls = true }
  local cfg = config(where)
  cfg.registries[where.host].ca = lab.write(lab.dir("other") .. "/ca.pem",
    ok(fs.read(require("lab.pki").issue(lab.dir("other-pki"), "someone else", {}).ca)))
  fails("tls", registry.repository(where.host .. "/team/app", cfg):tags())
end)

test("a registry that restarts is waited for, and one that is gone is told of", function()
  local where = lab.registry {}
  local repo = open(where, "team/app")
  local one = push(repo, "one", {})
  where:stop()
  local handle = task.spawn(function()
    time.sleep(0.4)
    where:start()
  end)
  eq(repo:digest("one"), one)
  handle:join()
  where:stop()
  fails("refused", repo:digest("one"))
end)

test("deletion that is forbidden is told as such", function()
  local repo = open(lab.registry { delete = false }, "team/app")
  fails("unsupported", repo:delete(push(repo, "one", {})))
end)

-- ---- names ----

test("names are split as container engines do, and only real loopback addresses speak plain http", function()
  for name, want in pairs {
    ["alpine"] = { "registry-1.docker.io", "library/alpine" }, ["team/app"] = { "registry-1.docker.io",
    "team/app" },
    ["docker.io/alpine"] = { "registry-1.docker.io", "library/alpine" },
    ["index.docker.io/team/app"] = { "registry-1.docker.io", "team/app" },
    ["ghcr.io/team/app"] = { "ghcr.io", "team/app" }, ["localhost/app"] = { "localhost", "app" },
    ["host:5000/app"] = { "host:5000", "app" }, ["[::1]:5000/app"] = { "[::1]:5000", "app" },
  } do
    eq({ reference.split(name) }, want, name)
  end
  local cfg = { registries = { ["docker.io"] = { username = "hub" } } }
  eq(registry.repository("team/app", cfg).config.username, "hub")
  for host, plain in pairs {
    ["127.0.0.1:5000"] = true, ["127.1.2.3"] = true, ["localhost:1"] = true, ["[::1]:5000"] = true,
    ["ghcr.io"] = false, ["127.evil.example"] = false, ["127.0.0.1.evil.example"] = false,
    ["localhost.evil.example:80"] = false,
  } do
    eq(registry.repository(host .. "/app", cfg).plain, plain, host)
  end
end)

test("references that are neither tag nor digest go nowhere", function()
  local repo = registry.repository("127.0.0.1:1/team/app", { registries = {} })
  for _, ref in ipairs {
    "", "a/b", "../../x", "a b", "a?b", "a\r\nb", ("x"):rep(129), "sha256:abc", "sha256:" .. ("Z"):rep(64),
    "SHA256:" .. ("a"):rep(64), "sha256:" .. ("A"):rep(64), ".a", "-a", "a+b",
  } do
    local err = select(2, repo:digest(ref))
    ok(err.code == "invalid" or err.code == "unsupported", ref .. ": " .. tostring(err))
  end
  local strong = "sha512:" .. ("a"):rep(128)
  has(tostring(fails("unsupported", repo:manifest(strong))), "sha256")
  fails("unsupported", repo:tag(strong, "x"))
  fails("invalid", repo:tag("one", "two"))
  fails("invalid", repo:tag(NOBODY, "a+b"))
  fails("unsupported", repo:copy_from(registry.repository("127.0.0.1:2/a/b", { registries = {} }), NOBODY,
    "x"))
  check.raises("usage", repo.delete, repo, "one")
  fails("invalid", registry.repository("host:port/team/app", { registries = {} }):tags())
end)

-- ---- servers that lie ----

-- A server that answers as told: answers[path] or answers[1] is a response or a function of the request.
local function liar(answers)
  local self = { log = {} }
  local server = ok(serve.listen { address = "127.0.0.1", port = 0, handler = function(request)
    self.log[#self.log + 1] = request
    local answer = answers[request.method .. " " .. request.path] or answers[request.path] or answers[1]
    if type(answer) == "function" then answer = answer(request, self) end
    return answer or { status = 404 }
  end })
  check.defer(function() server:close() end)
  self.host, self.url = "127.0.0.1:" .. server.port, "http://127.0.0.1:" .. server.port
  self.repo = registry.repository(self.host .. "/team/app", { registries = {} })
  return self
end

local MANIFEST <const> = json.encode { schemaVersion = 2, mediaType = IMAGE, layers = json.array {} }

local function answer(body, headers, status)
  headers = headers or {}
  headers["Content-Type"] = headers["Content-Type"] or IMAGE
  return { status = status or 200, headers = headers, body = body }
end

-- A registry that gives tokens at its own address, and wants one.
local function with_tokens(realm, token, more)
  local server
  local answers = {
    ["/token"] = token,
    function(request)
      if request.headers.authorization == "Bearer good" then return answer '{"tags":["a"]}' end
      local challenge = ('Bearer realm="%s"%s'):format(realm:gsub("URL", server.url), more or ',service="s"')
      return { status = 401, headers = { ["WWW-Authenticate"] = challenge } }
    end,
  }
  server = liar(answers)
  server.answers = answers
  server.user, server.password = "dev", "lab-secret-word"
  return server
end

test("bytes that are not those of the digest are refused, whatever the header says", function()
  local repo = liar {
    ["HEAD /v2/team/app/manifests/production"] = { status = 404 },
    answer(MANIFEST, { ["Docker-Content-Digest"] = NOBODY }),
  }.repo
  has(tostring(fails("mismatch", repo:manifest(NOBODY))), "asked for")
  fails("mismatch", repo:tag(NOBODY, "production"))
  fails("mismatch", repo:labels(NOBODY))
  eq(ok(repo:manifest("one")).digest, digest_of(MANIFEST))
end)

test("a tag that does not stay where it was put is an error", function()
  local digest = digest_of(MANIFEST)
  local repo = liar {
    ["PUT /v2/team/app/manifests/one"] = { status = 201 },
    ["/v2/team/app/manifests/one"] = answer("", { ["Docker-Content-Digest"] = NOBODY }),
    answer(MANIFEST),
  }.repo
  has(tostring(fails("mismatch", repo:tag(digest, "one"))), "after it was moved")
end)

test("a missing or strange digest header means hashing the bytes", function()
  for _, header in ipairs { "none", "sha512:" .. ("a"):rep(128), "sha256:xyz", "md5:1" } do
    eq(liar { answer(MANIFEST, { ["Docker-Content-Digest"] = header }) }.repo:digest("one"),
      digest_of(MANIFEST))
  end
end)

test("answers that are no manifests are no manifests", function()
  for _, body in ipairs {
    "<html>please log in</html>", "", "[]", "null", "{}", '{"schemaVersion":1}',
    '{"schemaVersion":2,"layers":{"a":1}}',
    '{"schemaVersion":2,"mediaType":"text/html\\r\\nX: y"}',
      '{"schemaVersion":2,"manifests":[{"digest":"../../x"}]}',
    '{"schemaVersion":2,"config":{"digest":"sha256:short"}}', ("["):rep(100000),
    '{"schemaVersion":2,"manifests":[' .. ("{},"):rep(500) .. "{}]}",
  } do
    local repo = liar { answer(body, { ["Content-Type"] = "text/html" }) }.repo
    fails("protocol", repo:manifest("one"))
    fails("protocol", repo:digest("one"))
  end
  fails("too_large", liar { answer((" "):rep((4 << 20) + 1)) }.repo:manifest("one"))
  fails("protocol", liar { answer('{"schemaVersion":2}') }.repo:labels(digest_of('{"schemaVersion":2}')))
end)

test("a configuration with other bytes than its digest, or of nonsense, gives no labels", function()
  local manifest = json.encode { schemaVersion = 2, mediaType = IMAGE, config = { digest = digest_of("[") } }
  local path = "/v2/team/app/manifests/" .. digest_of(manifest)
  fails("mismatch", liar { [path] = answer(manifest), answer("{}") }.repo:labels(digest_of(manifest)))
  fails("protocol", liar { [path] = answer(manifest), answer("[") }.repo:labels(digest_of(manifest)))
  local loop = json.encode { schemaVersion = 2, mediaType = INDEX,
    manifests = json.array { { digest = NOBODY } } }
  fails("unsupported", liar { answer(loop) }.repo:labels(digest_of(loop)))
end)

test("an answer that breaks off is an error", function()
  local server = liar { function()
    return { status = 200, body = function(write)
      write(MANIFEST:sub(1, 20))
      error("cut", 0)
    end }
  end }
  local got, err = server.repo:manifest("one")
  eq(got, nil)
  ok(err.code == "reset" or err.code == "protocol", tostring(err))
end)

test("lists of tags that never end, turn in circles or lead away do end", function()
  local pages = 0
  local function page(request)
    pages = pages + 1
    return answer('{"tags":["t"]}', {
      Link = ('</v2/team/app/tags/list?n=1&last=%d>; rel="next"'):format(pages),
        ["Content-Type"] = "application/json",
    }), request
  end
  fails("too_large", liar { page }.repo:tags())
  eq(pages, 1000)
  local function link(to) return answer('{"tags":["t"]}', { Link = ('<%s>; rel="next"'):format(to) }) end
  fails("protocol", liar { link "/v2/team/app/tags/list?n=1000" }.repo:tags())
  fails("redirect", liar { link "http://127.0.0.1:1/v2/team/app/tags/list?n=1" }.repo:tags())
  fails("redirect", liar { link "//elsewhere.example/v2/" }.repo:tags())
  fails("protocol", liar { answer "<html>" }.repo:tags())
  fails("protocol", liar { answer '{"tags":"all"}' }.repo:tags())
  eq(liar { answer '{"tags":null}' }.repo:tags(), {})
  eq(liar { answer '{"tags":["a","b/c","\\u0000",5,null,"-x","d"]}' }.repo:tags(), { "a", "d" })
  local round = liar { function(request)
    if request.query.next_page then return answer('{"tags":["b"]}') end
    return answer('{"tags":["a"]}', { Link = '<list?next_page=opaque%3D>; rel=next' })
  end }
  eq(round.repo:tags(), { "a", "b" })
  eq(round.log[2].path, "/v2/team/app/tags/list")
end)

-- A list of two pages whose first has this Link header.
local function two_pages(header)
  return liar { function(request, self)
    if request.query.last then return answer '{"tags":["b"]}' end
    return answer('{"tags":["a"]}', { Link = header:gsub("URL", self.url) .. "" })
  end }
end

test("a Link header is read as registries write it, and an unknown one is never the last page", function()
  for _, header in ipairs {
    '</v2/team/app/tags/list?last=a&n=1>; rel="next"', '</v2/team/app/tags/list?last=a&n=1>; rel=next',
    '</v2/team/app/tags/list?last=a>;rel="next"', '</v2/team/app/tags/list?last=a> ; REL = "Next"',
    "</v2/team/app/tags/list?last=a>; rel='next'", '</v2/team/app/tags/list?last=a>; title="a, b; c"; rel="last next"',
    '/v2/team/app/tags/list?last=a; rel="next"', 'URL/v2/team/app/tags/list?last=a; rel=next',
    '<URL/v2/team/app/tags/list?last=a,b;c>; rel="next"', "<list?last=a>; rel=next",
    '</v2/team/app/tags/list>; rel="first", </v2/team/app/tags/list?last=a>; rel="next"',
    '</v2/team/app/tags/list?last=a>; rel="next", </v2/team/app/tags/list>; rel="prev"',
    '/v2/team/app/tags/list; rel=prev, /v2/team/app/tags/list?last=a; rel=next',
    '<?last=a>; rel="next"', '</v2/team/app/tags/list?last=a>; type="x\\"y"; rel="next"',
  } do
    eq(two_pages(header).repo:tags(), { "a", "b" }, header)
  end
  for _, header in ipairs {
    '</v2/team/app/tags/list?last=a>; rel="prev"', "<https://x.example/style.css>; rel=preload; as=style",
    '<a>; rel="first", <b>; rel="last"', '<x>; rel="https://x.example/own-relation"',
  } do
    eq(two_pages(header).repo:tags(), { "a" }, header)
  end
  for _, header in ipairs {
    '</v2/team/app/tags/list?last=a>', '</v2/team/app/tags/list?last=a>; rel="more"', "next",
    '</v2/team/app/tags/list?last=a; rel="next"', '</v2/team/app/tags/list?last=a>; rel="next', "a, b; rel=next",
    '</v2/team/app/tags/list?last=a>; rel=""', '"/v2/x"; rel="next"',
  } do
    has(tostring(fails("protocol", two_pages(header).repo:tags())), "more tags", header)
  end
end)

test("a registry behind a TLS proxy names itself with http, and is asked with https all the same", function()
  local repo = registry.repository("registry.example:5000/team/app", { registries = {} })
  local function at(location, url)
    return repo:path_of(location, { url = url or "https://registry.example:5000/v2/x" })
  end
  eq(at "http://registry.example:5000/v2/y?a=b", "/v2/y?a=b")
  eq(at "http://REGISTRY.example/v2/y", "/v2/y")
  eq(at "https://registry.example:5000/v2/y", "/v2/y")
  for _, elsewhere in ipairs { "http://registry.example:8080/v2/y", "https://registry.example/v2/y", "//x.example/v2/",
    "https://dev@registry.example:5000/v2/y", "ftp://registry.example:5000/", "http://other.example:5000/v2/y" } do
    eq(at(elsewhere), nil, elsewhere)
  end
  eq(at("/v2/y", "https://cdn.example/v2/x"), nil)
end)

test("a registry that finds a page too long is asked for less, and that is remembered", function()
  for _, case in ipairs { { 100, { "1000", "100", "100" } }, { 0, { "1000", "100", "none", "none" } } } do
    local server
    server = liar { function(request)
      local n = request.query.n
      if n and tonumber(n) > case[1] then
        return answer('{"errors":[{"code":"PAGINATION_NUMBER_INVALID","message":"too many"}]}', nil, 400)
      end
      return answer '{"tags":["a"]}'
    end }
    eq(server.repo:tags(), { "a" })
    eq(server.repo:tags(), { "a" })
    local asked = {}
    for i, request in ipairs(server.log) do asked[i] = request.query.n or "none" end
    eq(asked, case[2])
  end
  fails("invalid", liar { answer("{}", nil, 400) }.repo:tags())
end)

test("what HEAD does not find, GET may", function()
  for _, status in ipairs { 400, 401, 403, 404, 405, 501 } do
    local repo = liar {
      ["HEAD /v2/team/app/manifests/one"] = { status = status }, ["/v2/team/app/manifests/one"] = answer(MANIFEST),
    }.repo
    eq(repo:digest("one"), digest_of(MANIFEST), status)
  end
  has(tostring(fails("not_found", liar { { status = 404 } }.repo:digest("one"))), "there is no one")
end)

test("401 and 403 of a tag that is not there do not stop its first push", function()
  for _, status in ipairs { 401, 403, 404 } do
    local there = false
    local digest = digest_of(MANIFEST)
    local repo = liar {
      ["/v2/team/app/manifests/" .. digest] = answer(MANIFEST),
      ["PUT /v2/team/app/manifests/staging"] = function()
        there = true
        return { status = 201 }
      end,
      ["/v2/team/app/manifests/staging"] = function()
        return there and answer(MANIFEST) or answer('{"errors":[{"code":"DENIED","message":"no"}]}', nil, status)
      end,
    }.repo
    local _, err = repo:digest("staging")
    eq(registry.may_be_missing(err), true)
    eq(repo:tag(digest, "staging"), true, status)
  end
  -- With a password that is good elsewhere in the registry, too; a wrong one is told at once.
  for _, status in ipairs { 200, 401 } do
    local basic = { ["WWW-Authenticate"] = 'Basic realm="x"' }
    local server = liar { ["/v2/"] = { status = status, headers = basic }, { status = 401, headers = basic } }
    server.user, server.password = "dev", "lab-secret-word"
    local err = fails("unauthorized", open(server, "team/app"):digest("sha-1"))
    eq(registry.may_be_missing(err), status == 200)
  end
  -- A token service that gives no token for what is not there, or none for a wrong password.
  for _, status in ipairs { 403, 401 } do
    local err = fails("unauthorized", open(with_tokens("/token", { status = status }), "team/app"):digest("sha-1"))
    eq(registry.may_be_missing(err), status == 403)
  end
  -- Who may not write is told so when it comes to writing.
  fails("denied", liar {
    ["/v2/team/app/manifests/" .. digest_of(MANIFEST)] = answer(MANIFEST), { status = 403 },
  }.repo:tag(digest_of(MANIFEST), "staging"))
end)

test("a registry that asks for patience gets it, within limits", function()
  local calls = 0
  local function after(status, times, headers)
    calls = 0
    return liar { function()
      calls = calls + 1
      if calls <= times then return { status = status, headers = headers } end
      return answer(MANIFEST)
    end }.repo
  end
  for _, status in ipairs { 429, 500, 502, 503, 504 } do
    eq(ok(after(status, 1):manifest("one")).digest, digest_of(MANIFEST))
    eq(calls, 2)
  end
  local started = time.monotonic()
  ok(after(429, 1, { ["Retry-After"] = "2" }):manifest("one"))
  ok(time.monotonic() - started >= 2, "it came back too early")
  local err = fails("rate_limited", after(429, 9, { ["Retry-After"] = "3600" }):manifest("one"))
  eq({ calls, err.retry_after }, { 1, 3600 })
  for _, status in ipairs { 400, 403, 404, 405, 409, 412 } do
    eq(after(status, 9):manifest("one"), nil)
    eq(calls, 1, status)
  end
end)

test("silence that a registry asked for is kept by all who ask it, until it is over", function()
  local date = base.run { "date", "-u", "-d", "+3000 seconds", "+%a, %d %b %Y %H:%M:%S GMT", env = { LC_ALL = "C" } }
  for _, wait in ipairs { "3600", (date:gsub("%s+$", "")) } do
    local server = liar { { status = 429, headers = { ["Retry-After"] = wait } } }
    fails("rate_limited", server.repo:manifest("one"))
    eq(#server.log, 1)
    for _, repo in ipairs { server.repo, registry.repository(server.host .. "/team/other", { registries = {} }) } do
      local err = fails("rate_limited", repo:digest("one"))
      ok(err.retry_after > 2900, tostring(err.retry_after))
      fails("rate_limited", repo:tags())
    end
    eq(#server.log, 1, "it was asked all the same")
  end
  -- A short one is waited for.
  local busy = true
  local server = liar { function()
    if busy then
      busy = false
      return { status = 429, headers = { ["Retry-After"] = "1" } }
    end
    return answer(MANIFEST)
  end }
  ok(server.repo:manifest("one"))
  eq(#server.log, 2)
  -- One that does not say for how long is asked less and less.
  server = liar { { status = 429 } }
  fails("rate_limited", server.repo:manifest("one"))
  eq(#server.log, 4)
  fails("rate_limited", registry.repository(server.host .. "/team/other", { registries = {} }):manifest("one"))
  ok(#server.log < 8, "it was asked as before")
end)

test("a failure is told in the registry's words, cleaned and cut", function()
  local body = json.encode { errors = { { code = "DENIED", message = "no\27[31m\nway" .. ("!"):rep(5000) } } }
  local err = fails("denied", liar { answer(body, nil, 403) }.repo:manifest("one"))
  has(err.message, "DENIED no [31m way!!!")
  ok(#err.message < 400 and not err.message:find("%c"), err.message)
  for _, odd in ipairs { "", "x", "[]", '{"errors":5}', '{"errors":[5]}', '{"errors":[{}]}',
    '{"errors":{}}' } do
    fails("conflict", liar { answer(odd, nil, 409) }.repo:manifest("one"))
  end
end)

test("what a registry does not do is final, and what is gone is not there", function()
  for status, code in pairs { [410] = "not_found", [501] = "status", [505] = "status" } do
    for _, method in ipairs { "tags", "manifest", "digest" } do
      local repo = liar { { status = status } }.repo
      eq(require("errors").passing(fails(code, repo[method](repo, "one"))), false, status)
    end
  end
end)

test("a realm that fishes for passwords gets none", function()
  local function thief_log(realm_of, expected)
    local thief = liar { answer '{"token":"word-from-the-thief"}' }
    local port = thief.host:match("%d+$")
    local server = liar { function()
      return { status = 401, headers = { ["WWW-Authenticate"] = realm_of(port) } }
    end }
    server.user, server.password = "dev", "lab-secret-word"
    local repo = open(server, "team/app")
    fails(expected or "denied", repo:tags())
    return thief.log
  end
  local function bearer(text)
    return function(port) return ('Bearer realm="%s",service="s"'):format((text:gsub("PORT", port))) end
  end
  for _, realm in ipairs {
    "http://localhost:PORT/token", "http://127.0.0.2:PORT/token", "http://127.0.0.1@localhost:PORT/",
    "//x/token", "//127.0.0.1:PORT/token", "https://127.0.0.1:PORT/token",
    "file:///etc/passwd", "ftp://127.0.0.1:PORT/", "http://127.0.0.1\\@localhost:PORT/", "",
    "http://", "http://127.0.0.1:PORT/token",
    "http://127.0.0.1:PORT/#x", "http://dev:x@127.0.0.1:PORT/",
  } do
    eq(#thief_log(bearer(realm)), 0, realm)
  end
  fails("denied", open(liar { function()
    return { status = 401, headers = { ["WWW-Authenticate"] = "Bearer" } }
  end }, "team/app"):tags())
end)

local BASIC <const> = "Basic " .. hash.base64 "dev:lab-secret-word"

test("a realm at the registry's own address, whole or relative, gets the password", function()
  for realm, path in pairs {
    ["URL/token?x=1"] = "/token", ["/token?x=1"] = "/token", ["token?x=1"] = "/v2/team/app/tags/token",
  } do
    local server = with_tokens(realm, answer '{"token":"good"}')
    server.answers["/v2/team/app/tags/token"] = answer '{"token":"good"}'
    eq(open(server, "team/app"):tags(), { "a" }, realm)
    local asked = server.log[2]
    eq({ asked.path, asked.query, asked.headers.authorization },
      { path, { x = "1", service = "s", scope = "repository:team/app:pull" }, BASIC }, realm)
  end
end)

test("a plain registry's token service elsewhere is named by the configuration, or gets no password", function()
  local service = liar { answer '{"token":"good"}' }
  local server = with_tokens(service.url .. "/token", { status = 404 })
  local words = tostring(fails("denied", open(server, "team/app"):tags()))
  has(words, service.url)
  has(words, "`realm` of " .. server.host)
  eq(#service.log, 0)
  -- Somebody without a password has none to lose.
  eq(registry.repository(server.host .. "/team/app", { registries = {} }):tags(), { "a" })
  eq(service.log[1].headers.authorization, nil)
  server.tokens = { url = service.url .. "/token" }
  eq(open(server, "team/app"):tags(), { "a" })
  eq(service.log[2].headers.authorization, BASIC)
end)

test("tokens come under either name, with or without a service, and after a redirect", function()
  for _, body in ipairs {
    '{"token":null,"access_token":"good"}', '{"access_token":"good"}', '{"token":"","access_token":"good"}',
    '{"token":"good","access_token":null}', '{"token":"good","expires_in":"300"}', '{"token":"good","expires_in":null}',
  } do
    eq(open(with_tokens("/token", answer(body)), "team/app"):tags(), { "a" }, body)
  end
  local server = with_tokens("/token", answer '{"token":"good"}', "")
  eq(open(server, "team/app"):tags(), { "a" })
  eq(server.log[2].query, { scope = "repository:team/app:pull" })
  for _, status in ipairs { 301, 302, 307, 308 } do
    server = with_tokens("/token", function(request)
      return { status = status, headers = { Location = "/other" .. request.target:match("%?.*$") } }
    end)
    server.answers["/other"] = answer '{"token":"good"}'
    eq(open(server, "team/app"):tags(), { "a" }, status)
    eq(server.log[3].headers.authorization, BASIC)
  end
end)

test("a registry whose tokens come from elsewhere now, or that wants a password instead, is asked how again", function()
  for _, challenge in ipairs { 'Bearer realm="/new"', 'Basic realm="x"' } do
    local server = with_tokens("/token", answer '{"token":"good","expires_in":0}')
    server.answers["/new"] = answer '{"token":"good"}'
    eq(open(server, "team/app"):tags(), { "a" })
    server.answers["/token"] = { status = 404 }
    server.answers[1] = function(request)
      local word = request.headers.authorization
      if word == BASIC or word == "Bearer good" then return answer '{"tags":["b"]}' end
      return { status = 401, headers = { ["WWW-Authenticate"] = challenge } }
    end
    fails("not_found", open(server, "team/other"):tags())
    eq(open(server, "team/other"):tags(), { "b" }, challenge)
  end
end)

test("a token service that redirects elsewhere takes no password there, and one that refuses is told", function()
  local thief = liar { { status = 401, headers = { ["WWW-Authenticate"] = 'Basic realm="x"' } } }
  local away = { status = 307, headers = { Location = thief.url .. "/" } }
  local words = tostring(fails("unauthorized", open(with_tokens("/token", away), "team/app"):tags()))
  has(words, thief.url)
  eq(#thief.log, 1)
  eq(thief.log[1].headers.authorization, nil)
  for _, case in ipairs {
    { { status = 403 }, "unauthorized" }, { { status = 404 }, "not_found" },
    { answer '{"token":5}', "protocol" }, { answer '{"token":"a\\r\\nX: y"}', "protocol" },
    { answer "[]", "protocol" }, { answer '{"token":null}', "protocol" },
    { answer "<html>", "protocol" }, { answer((" "):rep(2 << 20)), "too_large" },
  } do
    fails(case[2], open(with_tokens("/token", case[1]), "team/app"):tags())
  end
end)

test("a challenge belongs to the server that sent it", function()
  local port = base.port()
  for _, scheme in ipairs { "http", "https" } do
    for _, challenge in ipairs { 'Basic realm="x"', 'Bearer realm="THIEF/token",service="s"',
      'Bearer realm="/token",service="s"' } do
      for _, method in ipairs { "tags", "digest", "manifest" } do
        local thief, server
        thief = liar { function()
          local text = challenge:gsub("THIEF", thief.url)
          return { status = 401, headers = { ["WWW-Authenticate"] = text } }
        end }
        local to = scheme == "http" and thief.url or "https://127.0.0.1:" .. port
        server = liar { { status = 307, headers = { Location = to .. "/v2/x" } } }
        server.user, server.password = "dev", "lab-secret-word"
        local _, err = open(server, "team/app")[method](open(server, "team/app"), "one")
        ok(err, challenge)
        if scheme == "http" then
          eq(err.code, "denied")
          has(err.message, thief.url)
        end
        for _, request in ipairs(thief.log) do
          eq(request.headers.authorization, nil)
          ok(request.path ~= "/token", "it was asked for a token")
        end
      end
    end
  end
  -- Known ways are no exception: whoever was signed in at the registry is not signed in where it leads to.
  local other = liar { { status = 401, headers = { ["WWW-Authenticate"] = 'Basic realm="x"' } } }
  local server = liar { function(request)
    if request.headers.authorization ~= BASIC then
      return { status = 401, headers = { ["WWW-Authenticate"] = 'Basic realm="x"' } }
    end
    if request.path:find("tags") then return answer '{"tags":["a"]}' end
    return { status = 307, headers = { Location = other.url .. "/blob" } }
  end }
  server.user, server.password = "dev", "lab-secret-word"
  local repo = open(server, "team/app")
  eq(repo:tags(), { "a" })
  fails("denied", repo:manifest("one"))
  eq({ #other.log, other.log[1].headers.authorization }, { 1 })
end)

test("a redirect to another host carries no credentials", function()
  local other = liar { answer(MANIFEST) }
  local server = liar { function(request)
    if not request.headers.authorization then
      return { status = 401, headers = { ["WWW-Authenticate"] = 'Basic realm="x"' } }
    end
    return { status = 307, headers = { Location = other.url .. "/blob" } }
  end }
  server.user, server.password = "dev", "lab-secret-word"
  ok(open(server, "team/app"):manifest("one"))
  eq(#other.log, 1)
  eq(other.log[1].headers.authorization, nil)
end)

test("challenges are read in all their forms", function()
  local read = require("images.registry.token").challenge
  eq(read 'Bearer realm="https://a/t",service="s",scope="repository:a:pull,push"',
    { scheme = "bearer", realm = "https://a/t", service = "s", scope = "repository:a:pull,push" })
  eq(read 'bearer  realm = "https://a/t" , service=s', { scheme = "bearer", realm = "https://a/t",
    service = "s" })
  eq(read 'Basic realm="lab"', { scheme = "basic", realm = "lab" })
  eq(read 'Basic realm="lab", Bearer realm="https://a/t"', { scheme = "bearer", realm = "https://a/t" })
  eq(read 'Negotiate, Basic realm="x"', { scheme = "basic", realm = "x" })
  eq(read "", nil)
  eq(read "Digest qop=auth", nil)
  eq(read "Basic", { scheme = "basic" })
  eq(read 'Negotiate YII+/x-1==, Bearer realm="https://a/t"', { scheme = "bearer", realm = "https://a/t" })
  eq(read 'SCRAM-SHA-256 realm="a, Basic b", NTLM abc, Basic realm="x\\"y"', { scheme = "basic", realm = 'x"y' })
  eq(read 'Basic realm="a, Bearer realm=b"', { scheme = "basic", realm = "a, Bearer realm=b" })
  eq(read 'Basic realm="a", Bearer realm="b', { scheme = "basic", realm = "a" })
  eq(read 'Bearer realm="https://a/t",error="invalid_token", error_description="the token, it is over"', {
    scheme = "bearer", realm = "https://a/t", error = "invalid_token", error_description = "the token, it is over",
  })
end)

test("a blob that cannot be mounted is told, and its upload session is ended", function()
  local manifest = json.encode {
    schemaVersion = 2, mediaType = IMAGE, config = { digest = NOBODY }, layers = json.array {},
  }
  local server = liar {
    ["/v2/from/app/manifests/" .. digest_of(manifest)] = answer(manifest),
    ["POST /v2/team/app/blobs/uploads/"] = {
      status = 202, headers = { Location = "/v2/team/app/blobs/uploads/session?state=x" },
    },
  }
  local from = registry.repository(server.host .. "/from/app", { registries = {} })
  fails("unsupported", server.repo:copy_from(from, digest_of(manifest), "v1"))
  local last = server.log[#server.log]
  eq({ last.method, last.path, last.query.state }, { "DELETE", "/v2/team/app/blobs/uploads/session", "x" })
end)

test("the engine's credentials hold what the engine needs and are known to the log's filter", function()
  local where = { host = "127.0.0.1:1", user = "dev", password = "lab-secret-word" }
  local value = ok(open(where, "team/app"):engine_auth())
  eq(json.decode(hash.unbase64(value)),
    { username = "dev", password = "lab-secret-word", serveraddress = "127.0.0.1:1" })
  ok(not require("log").redact("x " .. value):find(value, 1, true), "not redacted")
  eq(json.decode(hash.unbase64(ok(registry.repository("127.0.0.1:1/a/b",
    { registries = {} }):engine_auth()))),
    { auth = "" })
end)
