-- Image references: the grammar of the distribution project, and names that mean the same repository.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local names, reference = require "config.names", require "images.reference"
local test, eq, ok = check.test, check.eq, check.ok

local HUB <const> = "registry-1.docker.io/"
local D <const> = "sha256:" .. ("0123456789abcdef"):rep(4)

-- name, repository, tag, digest
local GOOD <const> = {
  ["nginx"] = { "nginx", HUB .. "library/nginx", "latest" },
  ["nginx:1.25"] = { "nginx", HUB .. "library/nginx", "1.25" },
  ["team/web:1.2.3"] = { "team/web", HUB .. "team/web", "1.2.3" },
  ["docker.io/library/nginx:1"] = { "docker.io/library/nginx", HUB .. "library/nginx", "1" },
  ["docker.io/nginx"] = { "docker.io/nginx", HUB .. "library/nginx", "latest" },
  ["index.docker.io/a/b"] = { "index.docker.io/a/b", HUB .. "a/b", "latest" },
  ["127.0.0.1:5000/team/web"] = { "127.0.0.1:5000/team/web", "127.0.0.1:5000/team/web", "latest" },
  ["ghcr.io/team/web:1@" .. D] = { "ghcr.io/team/web", "ghcr.io/team/web", "1", D },
  ["ghcr.io/team/web@" .. D] = { "ghcr.io/team/web", "ghcr.io/team/web", nil, D },
  ["localhost/app"] = { "localhost/app", "localhost/app", "latest" },
  ["localhost:5000/app:v1"] = { "localhost:5000/app", "localhost:5000/app", "v1" },
  ["[::1]:5000/app"] = { "[::1]:5000/app", "[::1]:5000/app", "latest" },
  ["[2001:db8::1]/app:x"] = { "[2001:db8::1]/app", "[2001:db8::1]/app", "x" },
  ["test.com:8080/repo/a/b/c:tag_1"] = { "test.com:8080/repo/a/b/c", "test.com:8080/repo/a/b/c", "tag_1" },
  ["xn--n3h.com/myimage:xn--n3h.com"] = { "xn--n3h.com/myimage", "xn--n3h.com/myimage", "xn--n3h.com" },
  ["lower.case/a__b/c.d/e---f"] = { "lower.case/a__b/c.d/e---f", "lower.case/a__b/c.d/e---f", "latest" },
  ["UPPER.case/lower:Tag"] = { "UPPER.case/lower", "UPPER.case/lower", "Tag" },
  ["validname:" .. ("t"):rep(128)] = { "validname", HUB .. "library/validname", ("t"):rep(128) },
  ["a.b/" .. ("a/"):rep(127) .. "a"] = { "a.b/" .. ("a/"):rep(127) .. "a", "a.b/" .. ("a/"):rep(127) .. "a", "latest" },
  ["web@sha512:" .. ("a"):rep(128)] = { "web", HUB .. "library/web", nil, "sha512:" .. ("a"):rep(128) },
}

local BAD <const> = {
  "", " ", "a b", "a\n", "http://x/y", ":tag", "@" .. D, "web@", "web@sha256:xyz", "a@b@c", "a@" .. D .. "@" .. D,
  "web@sha256:" .. ("f"):rep(34), "web@sha256:" .. ("F"):rep(64), "web@unknown:ffff", "Uppercase", "team/Web:lower",
  "host:5000/", "host//web", "/web", "web/", "a///b", "a..b", "a___b", "-web", "web-", "web.", "_web", "a/-b/c",
  "web:", "web:-tag", "web:.tag", "web:" .. ("t"):rep(129), "-host.com/web", "host-.com/web", "ho..st/web",
  "host:port/web", "[::1/web", "[fe80::1%eth0]:5000/app", "[]/app", "aa/asdf$$^/aa", ("x"):rep(2000),
  "a.b/" .. ("a/"):rep(128) .. "a", ("0123456789abcdef"):rep(4), "nginx:1:2",
}

test("references are taken apart as the distribution project does, and put together again", function()
  for text, want in pairs(GOOD) do
    local found = ok(reference.parse(text), text)
    eq({ found.name, found.repository, found.tag, found.digest }, want, text)
    local again = reference.format(found.name, found.tag, found.digest)
    eq(again == text or again == text .. ":latest", true, text)
    eq(reference.parse(again), found)
    eq(reference.canonical(found.name), found.repository)
    eq(names.image(found.name), nil, found.name)
  end
end)

test("what is no reference is none", function()
  for _, text in ipairs(BAD) do eq({ text, reference.parse(text) }, { text }) end
  for _, value in ipairs { 1, true, {}, print } do eq(reference.parse(value), nil) end
  eq(reference.parse(nil), nil)
end)

test("what was damaged is refused, or read as what it says now", function()
  local signs = { "/", ":", "@", ".", "-", "_", "A", "a", "0", "[", "]", "\0", " ", "%", "é" }
  for text in pairs(GOOD) do
    for _ = 1, 200 do
      local at, sign = math.random(0, #text), signs[math.random(#signs)]
      local other = text:sub(1, at) .. sign .. text:sub(at + math.random(1, 2))
      local found = reference.parse(other)
      if found then
        local again = reference.format(found.name, found.tag, found.digest)
        ok(again == other or again == other .. ":latest", other)
        eq(reference.parse(again), found, other)
      end
      local name, tag, digest = reference.parts(other)
      if not (digest == "" or tag == "") then eq(reference.format(name, tag, digest), other) end
    end
  end
end)

test("names that mean the same repository have one canonical name", function()
  for _, name in ipairs { "nginx", "library/nginx", "docker.io/nginx", "docker.io/library/nginx",
    "index.docker.io/library/nginx", "registry-1.docker.io/library/nginx" } do
    eq(reference.canonical(name), HUB .. "library/nginx", name)
  end
  eq({ reference.host_and_path "team/web" }, { nil, "team/web" })
  eq({ reference.host_and_path "localhost/web" }, { "localhost", "web" })
  ok(reference.is_hub "docker.io")
  ok(not reference.is_hub "ghcr.io")
end)

test("what engines call an image is divided as it stands; a digest that cannot be checked is none", function()
  eq({ reference.parts("host:5000/web:1@" .. D) }, { "host:5000/web", "1", D })
  eq({ reference.parts "host:5000/web" }, { "host:5000/web" })
  eq({ reference.parts "web@odd" }, { "web", nil, "odd" })
  eq(reference.digest("docker-pullable://team/web@" .. D), D)
  eq(reference.digest("docker.io/team/web@" .. D), D)
  for _, other in ipairs { D, "web@sha256:abc", "web@" .. D .. "0", "web", "" } do
    eq(reference.digest(other), nil, other)
  end
  eq(reference.digest(nil), nil)
end)
