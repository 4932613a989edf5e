-- Images of older releases are removed, and nothing else: by the journal, then in the real docker, podman, buildah and
-- registry.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local lab = require "lab"
local builders = require "lab.builders"
local hash, journal, json, registry = require "hash", require "journal", require "json", require "images.registry"
local builds, keep = require "images.removal.builds", require "images.removal.keep"
local listed, reference = require "images.removal.listed", require "images.reference"
local removal, world = require "images.removal.all", require "engine.world"
local test, eq, ok = check.test, check.eq, check.ok

local function digest(text) return "sha256:" .. hash.sha256(text) end
local function commit(text) return hash.sha256(text):sub(1, 40) end

local REPO <const> = "registry.invalid/team/web"

local function open_journal()
  local book = ok(journal.open(lab.dir("state")))
  check.defer(function() book:close() end)
  return book
end

-- Writes a release: "v1 bad", or a table.
local function release(book, text, more)
  local name, state = text:match("^(%S+)%s*(%S*)$")
  local row = {
    app = "web", environment = "staging", version = name, commit = commit(name), digest = digest(name),
    image = ("%s@%s"):format(REPO, digest(name)),
  }
  for key, value in pairs(more or {}) do row[key] = value end
  book:synced("release", function()
    local id = book:add_release(row)
    if state ~= "pending" then book:set_release(id, "live") end
    if state ~= "" and state ~= "pending" then book:set_release(id, state, "because") end
    return id
  end)
end

local function config(images, apps)
  local list = apps or { { name = "web", image = REPO, source = { url = "https://me:secret@git.invalid/web.git" } } }
  local by = {}
  for _, app in ipairs(list) do
    by[app.name] = app
    app.environments = app.environments or {}
  end
  return { apps = by, app_list = list, retention = { images = images }, registries = {}, builder = { kind = "job" } }
end

-- "v3 v5": what of these stays.
local function staying(book, cfg, names)
  local kept, stays = keep.of(book, cfg), {}
  for name in names:gmatch("%S+") do
    local by_digest = kept:has(reference.canonical(REPO), digest(name))
    eq(kept:has(reference.canonical(REPO), nil, commit(name)), by_digest, name)
    if by_digest then stays[#stays + 1] = name end
  end
  return table.concat(stays, " ")
end

test("the last releases of each place stay, what runs, and the good one before it", function()
  for _, case in ipairs {
    { 3, { "v1", "v2", "v3", "v4", "v5" }, "v3 v4 v5" },
    { 1, { "v1", "v2", "v3" }, "v2 v3" }, -- what runs has something to go back to
    { 2, { "v1", "v2", "v3 bad", "v4 failed", "v5 bad" }, "v1 v2 v4 v5" },
    { 1, { "v1", "v2 bad", "v3", "v4 bad", "v5" }, "v3 v5" },
    { 2, { "v1", "v2", "v3", "v1", "v1" }, "v1 v3" }, -- a rollback is a release of the same image
    { 2, { "v1", "v2", "v3", "v4 pending" }, "v2 v3 v4" },
    { 5, {}, "" },
  } do
    local book = open_journal()
    for _, text in ipairs(case[2]) do release(book, text) end
    eq(staying(book, config(case[1]), "v1 v2 v3 v4 v5"), case[3])
  end
end)

test("what runs and what it goes back to stay, however many failed since", function()
  local book = open_journal()
  for _, name in ipairs { "v1", "v2", "v3" } do release(book, name) end
  book:synced("releases", function()
    for i = 1, 450 do
      local id = book:add_release {
        app = "web", environment = "staging", commit = commit("f" .. i), digest = digest("f" .. i),
        image = ("%s@%s"):format(REPO, digest("f" .. i)),
      }
      book:set_release(id, "failed", "because")
    end
    return true
  end)
  eq(staying(book, config(2), "v1 v2 v3 f1 f449 f450"), "v2 v3 f449 f450")
end)

test("what was found running stays, however its image was written", function()
  for _, image in ipairs { REPO .. ":latest", "sha256:" .. ("0"):rep(64), false } do
    local book = open_journal()
    book:adopt { app = "web", environment = "staging", digest = digest "found", image = image or nil, reason = "found" }
    eq(keep.of(book, config(1)):has(reference.canonical(REPO), digest "found"), true)
  end
end)

test("each place keeps its own, and what runs under way may need stays", function()
  local book = open_journal()
  for i = 1, 6 do
    release(book, "v" .. i)
    if i <= 2 then release(book, "v" .. i, { environment = "production" }) end
  end
  eq(staying(book, config(2), "v1 v2 v3 v4 v5 v6"), "v1 v2 v5 v6")
  book:accept {
    app = "web", environment = "staging", policy = "staging", key = "x", title = "x", kind = "change",
    data = { commit = commit "v3" },
  }
  local kept = keep.of(book, config(2))
  eq(kept:has(reference.canonical(REPO), nil, commit "v3"), true)
  eq(kept:has(reference.canonical(REPO), nil, commit "v4"), false)
  release(book, "v4")
  keep.renew(kept, book, config(2))
  eq(kept:has(reference.canonical(REPO), digest "v4", nil), true)
end)

test("an image is ours only when all of its names are, in a repository of ours", function()
  local book = open_journal()
  for i = 1, 4 do release(book, "v" .. i) end
  local kept = keep.of(book, config(2))
  local function removable(tags, digests, labels)
    return listed.removable({ tags = tags or {}, digests = digests or {}, labels = labels or {} }, kept)
  end
  local source = "org.opencontainers.image.source"
  local old, tag = REPO .. "@" .. digest "v1", REPO .. ":sha-" .. commit "v1"
  eq(removable({ tag }), true)
  eq(removable({ tag }, { old }), true)
  eq(removable({}, { old }), true)
  eq(removable({ tag, REPO .. ":latest" }, { old }), false)
  eq(removable({ tag, "other.invalid/web:sha-" .. commit "v1" }), false)
  eq(removable({ "other.invalid/web:sha-" .. commit "v1" }), false)
  eq(removable({ REPO .. ":sha-" .. commit "v4" }), false)
  eq(removable({ tag }, { REPO .. "@" .. digest "v4" }), false)
  eq(removable({}, { REPO .. "@" .. digest "pulled by somebody" }), false)
  eq(removable({}, { REPO .. "@" .. digest "ours" }, { [source] = "https://git.invalid/web.git" }), true)
  eq(removable({ REPO .. ":sha-123" }), false)
  local ours = { [source] = "https://git.invalid/web.git", ["org.opencontainers.image.revision"] = commit "v1" }
  eq(removable({}, {}, ours), true)
  ours[source] = "https://git.invalid/other.git"
  eq(removable({}, {}, ours), false)
  eq(removable({}, {}, {}), false)
end)

test("nothing is removed while somebody builds, and builds wait for removals", function()
  local task, order = require "task", {}
  local building = task.spawn(builds.building, nil, "x", function()
    eq(builds.removing(function() error("removed under a build") end), false)
    order[#order + 1] = "built"
    return true
  end)
  building:join()
  local late
  eq(builds.removing(function()
    late = task.spawn(builds.building, nil, "x", function()
      order[#order + 1] = "built later"
      return true
    end)
    require("time").sleep(0)
    order[#order + 1] = "removed"
  end), true)
  late:join()
  eq(order, { "built", "removed", "built later" })
end)

-- ---- real engines ----

-- A world whose builder is real, with a journal: every release is built, and remembered as released.
local function stage(kind, where, name, images)
  local w = builders.world(kind, where, name)
  w.cfg.state, w.cfg.retention = lab.dir("state"), { images = images }
  w.app.environments = {}
  w.cfg.apps, w.cfg.app_list = { [name] = w.app }, { w.app }
  w.book = open_journal()
  function w.release(text, version)
    local id = w.source:commit(lab.app { version = text, dockerfile = builders.SCRATCH })
    local made = ok(w.ensure(id))
    w.book:synced("release", function()
      return w.book:set_release(w.book:add_release {
        app = name, environment = "staging", version = version, commit = id, digest = made.digest, image = made.image,
      }, "live")
    end)
    return made, id
  end
  function w.remove() eq(removal.run(w.book, world.of(w.cfg)), true) end
  return w
end

test("docker keeps the images of the last releases and their build cache, and what is not ours", function()
  local w = stage("docker", builders.shared(), "old-docker", 3)
  local docker = lab.docker()
  local made, ids = {}, {}
  for i = 1, 8 do made[i], ids[i] = w.release("v" .. i) end
  ok(docker:call("POST", ("/images/%s:sha-%s/tag?repo=%s&tag=mine"):format(w.app.image, ids[2], w.app.image)))
  -- One that a container uses, though it is stopped.
  ok(docker:call("POST", "/containers/create?name=user", { json = {
    Image = ("%s:sha-%s"):format(w.app.image, ids[3]), HostConfig = { NetworkMode = "host" },
  } }))
  check.defer(function() docker:clear() end)
  local function size() return #ok(docker:call("GET", "/system/df")).BuildCache end
  local before = size()
  w.remove()
  local left = {}
  for _, image in ipairs(ok(docker:call("GET", "/images/json"))) do
    for _, tag in ipairs(type(image.RepoTags) == "table" and image.RepoTags or {}) do
      local id = tag:match("^" .. w.app.image:gsub("%p", "%%%0") .. ":sha%-(%x+)$")
      for i = 1, #ids do
        if ids[i] == id then left[i] = true end
      end
    end
  end
  eq(left, { [2] = true, [3] = true, [6] = true, [7] = true, [8] = true })
  ok(size() < before, "no build cache went")
  ok(w.release("v9"))
  w.remove()
  -- What is old is nothing that a release needs: it is in the registry, and pulled again.
  eq(w.registry:digest("sha-" .. ids[1]), made[1].digest)
end, 180)

for _, kind in ipairs { "podman", "buildah" } do
  test(kind .. " keeps the images of the last releases, and loses the layers that only the others had", function()
    local w = stage(kind, builders.shared(), "old-" .. kind, 2)
    local ids = {}
    for i = 1, 4 do _, ids[i] = w.release("v" .. i) end
    ok(w.ensure(ids[4], { force = true })) -- leaves what it replaced without a name, if it differs
    local podman = lab.podman()
    podman:run { "podman", "tag", ("%s:sha-%s"):format(w.app.image, ids[1]), "localhost/mine:1" }
    w.remove()
    local left = {}
    local all = json.decode(podman:run { "podman", "images", "--all", "--format", "json" })
    for _, image in ipairs(all) do
      local source = (image.Labels or {})["org.opencontainers.image.source"]
      if source == w.source.url then
        local revision = image.Labels["org.opencontainers.image.revision"]
        for i = 1, 4 do
          if revision == ids[i] then left[i] = (left[i] or 0) + 1 end
        end
      end
    end
    ok(left[1], "an image with a name of somebody else's went")
    eq(left[2], nil)
    ok(left[3] and left[4], "an image that is kept went")
    podman:run { "podman", "rmi", "-f", "localhost/mine:1" }
  end, 180)
end

test("what podman pulled for its pods goes, too, unless a container uses it", function()
  local why = require("lab.podman").unavailable()
  if why then check.skip(why) end
  local where, podman, book, images = builders.shared(), lab.podman(), open_journal(), {}
  check.defer(function() podman:clear() end)
  for i = 1, 5 do
    images[i] = lab.image(where, { name = "team/pulled", version = "pulled " .. i })
    podman:run { "podman", "pull", "-q", "--tls-verify=false", images[i].image }
    release(book, "v" .. i, { digest = images[i].digest, image = images[i].image })
  end
  podman:run { "podman", "create", images[1].image }
  local cfg = config(2, { {
    name = "web", image = where.host .. "/team/pulled", source = { url = "https://git.invalid/pulled.git" },
    environments = { staging = { target = { kind = "podman", env = podman.env } } },
  } })
  cfg.state = lab.dir("state")
  eq(removal.run(book, world.of(cfg)), true)
  local left = {}
  for i, image in ipairs(images) do
    left[i] = pcall(podman.run, podman, { "podman", "image", "exists", image.image })
  end
  eq(left, { true, false, false, true, true })
end, 120)

test("a registry loses old images only where the configuration says so, and none that has another's tag", function()
  local where = lab.registry {}
  local w = stage("buildah", where, "old-registry", 2)
  local made, ids = {}, {}
  for i = 1, 7 do made[i], ids[i] = w.release("v" .. i, "v1." .. i) end
  local repo = registry.repository(w.app.image, w.cfg)
  for i = 1, 7 do ok(repo:tag(made[i].digest, "v1." .. i)) end -- as the production policy does
  ok(repo:tag(made[2].digest, "customer")) -- somebody else's
  -- Somebody's index with an image of ours, and another with one that only an index in it names.
  local INDEX <const> = "application/vnd.oci.image.index.v1+json"
  local function index_of(of, kind)
    return json.encode { schemaVersion = 2, mediaType = INDEX, manifests = json.array { {
      mediaType = kind, digest = of, size = #ok(repo:manifest(of)).body,
      platform = { os = "linux", architecture = "amd64" },
    } } }
  end
  local index = index_of(made[3].digest, "application/vnd.docker.distribution.manifest.v2+json")
  ok(repo:push_manifest(index, INDEX, "everything"))
  local inner = index_of(made[4].digest, "application/vnd.docker.distribution.manifest.v2+json")
  ok(repo:push_manifest(inner, INDEX, "inner"))
  ok(repo:push_manifest(index_of(digest(inner), INDEX), INDEX, "outer"))
  ok(repo:push_manifest(index, INDEX, "inner")) -- only `outer` names it now
  -- One that this host knows nothing of.
  local foreign = lab.image(where, {
    name = "team/old-registry", tag = "sha-" .. commit "foreign", version = "foreign",
  })
  local function left()
    local there = {}
    for i = 1, 7 do there[i] = repo:digest(made[i].digest) ~= nil and i or nil end
    local list = {}
    for i = 1, 7 do list[#list + 1] = there[i] end
    return list
  end
  w.remove()
  eq(left(), { 1, 2, 3, 4, 5, 6, 7 })
  w.cfg.registries[where.host] = { host = where.host, delete = true }
  w.remove()
  eq(left(), { 2, 3, 4, 6, 7 })
  eq(repo:digest("sha-" .. commit "foreign"), foreign.digest)
  eq(repo:digest("everything"), digest(index))
  for _, tag in ipairs { "customer", "v1.2", "sha-" .. ids[2] } do eq(repo:digest(tag), made[2].digest, tag) end
  check.fails("not_found", repo:digest("v1.1"))
end, 180)

test("a registry that deletes nothing is told of once, and left alone", function()
  local where = lab.registry { delete = false }
  local w = stage("buildah", where, "undeletable", 1)
  for i = 1, 4 do w.release("v" .. i) end
  w.cfg.registries[where.host] = { host = where.host, delete = true }
  w.remove()
  w.remove()
  eq(#ok(registry.repository(w.app.image, w.cfg):tags()), 4)
end, 120)
