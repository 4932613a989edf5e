-- Makes an image archive without any engine:
-- moontide exec tests/image/archive.lua FOLDER NAME:TAG REVISION VERSION EPOCH
--
-- FOLDER is what config/image.lua wrote; the last stage of config/Dockerfile says what becomes of it. The archive,
-- FOLDER/image.tar, is an OCI image layout that docker, podman, buildah, skopeo and ctr load: docker's older manifest
-- is in it too. Same files, same bytes: names are sorted, times are the commit's, owners are numbers.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local fs, hash, json, proc, time = require "fs", require "hash", require "json", require "proc", require "time"

local folder, name, revision, version, epoch = ...
local MACHINES <const> = { x86_64 = "amd64", aarch64 = "arm64" }

local function run(argv)
  argv.timeout, argv.env = 120, { PATH = "/usr/bin:/bin", LC_ALL = "C", TZ = "UTC" }
  local result = assert(proc.run(argv))
  if not result.ok then error(table.concat(argv, " ") .. ": " .. result.stderr, 0) end
  return result.stdout
end

local function words_or_list(rest)
  local list = rest:find("^%[") and json.decode(rest)
  return list and json.array(list)
end

-- Reads the last stage of the Dockerfile: the instructions that it uses, and no others.
local function stage()
  local text = assert(fs.read("config/Dockerfile"))
  local s = { copies = {}, config = { Env = json.array {}, Labels = {}, ExposedPorts = {} } }
  for line in text:match("\nFROM scratch\n(.*)$"):gmatch("[^\n]+") do
    local word, rest = line:match("^(%u+) +(.*)$")
    local c = s.config
    if word == "COPY" then
      local owner, from, to = rest:match("^%-%-from=build %-%-chown=(%d+:%d+) /image/(%S+) (%S+)$")
      if not owner then from, to = rest:match("^%-%-from=build /image/(%S+) (%S+)$") end
      s.copies[#s.copies + 1] = { owner = owner or "0:0", from = assert(from, line), to = to }
    elseif word == "LABEL" then
      local key, value = rest:match('^([%w.]+)="(.*)"$')
      c.Labels[assert(key, line)] = value
    elseif word == "ENV" then
      c.Env[#c.Env + 1] = rest
    elseif word == "EXPOSE" then
      c.ExposedPorts[rest .. "/tcp"] = {}
    elseif word == "USER" then
      c.User = rest
    elseif word == "WORKDIR" then
      c.WorkingDir = rest
    elseif word == "ENTRYPOINT" then
      c.Entrypoint = words_or_list(rest)
    elseif word == "CMD" then
      c.Cmd = words_or_list(rest)
    elseif not line:find("^#") then
      error("config/Dockerfile: not understood here: " .. line, 0)
    end
  end
  return s
end

-- The one layer, as a tar: the Dockerfile's copies in their order.
local function layer(s, work)
  local tar = work .. "/layer.tar"
  for i, copy in ipairs(s.copies) do
    local from, at = folder .. "/" .. copy.from, copy.to:gsub("^/+", ""):gsub("/+$", "")
    local argv = {
      "tar", "--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime", "--sort=name",
      "--numeric-owner", "--owner=" .. copy.owner:match("^%d+"), "--group=" .. copy.owner:match("%d+$"),
      "--mtime=@" .. epoch, "-C", from, i == 1 and "-cf" or "-rf", tar,
    }
    if at == "" then
      for _, entry in ipairs((function(l) table.sort(l) return l end)(assert(fs.list(from)))) do
        argv[#argv + 1] = entry
      end
    else
      table.insert(argv, 2, "--transform=s,^\\.," .. at .. ",")
      argv[#argv + 1] = "."
    end
    run(argv)
  end
  return tar
end

local function store(layout, path)
  local digest = assert(hash.sha256_file(path))
  local size = assert(fs.stat(path)).size
  run { "mv", path, layout .. "/blobs/sha256/" .. digest }
  return { digest = "sha256:" .. digest, size = size, path = "blobs/sha256/" .. digest }
end

local function store_text(layout, text)
  local path = layout .. "/blob"
  assert(fs.write(path, text, { mode = 420 }))
  return store(layout, path)
end

local s = stage()
local work <close> = assert(fs.temp_dir { dir = folder, prefix = "archive-" })
local layout = work.path .. "/layout"
assert(fs.mkdir(layout .. "/blobs/sha256", { parents = true }))

local tar = layer(s, work.path)
local diff_id, unpacked = "sha256:" .. assert(hash.sha256_file(tar)), assert(fs.stat(tar)).size
run { "gzip", "-n", "-9", tar }
local blob = store(layout, tar .. ".gz")

local machine = run({ "uname", "-m" }):match("%S+")
s.config.Labels["org.opencontainers.image.revision"] = revision
s.config.Labels["org.opencontainers.image.version"] = version
local created = time.iso(assert(tonumber(epoch), "EPOCH must be a number"))
local config = store_text(layout, json.encode {
  architecture = MACHINES[machine] or machine, os = "linux", created = created, config = s.config,
  rootfs = { type = "layers", diff_ids = json.array { diff_id } },
  history = json.array { { created = created, created_by = "config/image.lua" } },
})
local OCI <const> = "application/vnd.oci.image."
local manifest = store_text(layout, json.encode {
  schemaVersion = 2, mediaType = OCI .. "manifest.v1+json",
  config = { mediaType = OCI .. "config.v1+json", digest = config.digest, size = config.size },
  layers = json.array { { mediaType = OCI .. "layer.v1.tar+gzip", digest = blob.digest, size = blob.size } },
})
local tag = name:match(":([^:/]+)$") or "latest"
assert(fs.write(layout .. "/oci-layout", json.encode { imageLayoutVersion = "1.0.0" }, { mode = 420 }))
assert(fs.write(layout .. "/index.json", json.encode {
  schemaVersion = 2, mediaType = OCI .. "index.v1+json", manifests = json.array { {
    mediaType = OCI .. "manifest.v1+json", digest = manifest.digest, size = manifest.size,
    annotations = { ["org.opencontainers.image.ref.name"] = tag, ["io.containerd.image.name"] = name },
  } },
}, { mode = 420 }))
assert(fs.write(layout .. "/manifest.json", json.encode(json.array { {
  Config = config.path, RepoTags = json.array { name }, Layers = json.array { blob.path },
} }), { mode = 420 }))
run { "tar", "--format=ustar", "--sort=name", "--numeric-owner", "--owner=0", "--group=0", "--mtime=@" .. epoch, "-C",
  layout, "-cf", folder .. "/image.tar", "blobs", "index.json", "manifest.json", "oci-layout" }

print(("%s: %.1f MB, %.1f MB compressed, %s"):format(name, unpacked / 1e6, blob.size / 1e6, manifest.digest))
return 0
