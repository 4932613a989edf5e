-- What Moontide's image holds: moontide exec config/image.lua [--with FILE]... FOLDER
--
-- Writes FOLDER/root, the image's files, and FOLDER/empty, for the folders that belong to its user. Programs and data
-- come from this machine's Debian packages; which shared libraries they need is what the loader itself says. Each
-- package that something came from leaves its licence below /usr/share/doc and a line in the list of packages there.
-- --with adds a program that has to be called from inside, such as buildctl.
local fs, hash, json, proc, sys = require "fs", require "hash", require "json", require "proc", require "base.sys"

-- git works on mirrors and unpacks commits; over https and http Moontide speaks to servers itself, so git's own
-- helpers for that, and with them a second TLS library, stay out. ssh is for git@host:path sources.
local PROGRAMS <const> = { "/usr/bin/git", "/usr/bin/ssh" }
-- The authorities of the package, without those that this machine trusts besides.
local AUTHORITIES <const>, BUNDLE <const> = "/usr/share/ca-certificates/mozilla", "etc/ssl/certs/ca-certificates.crt"
-- Time zones, as files and as the list that suggestions come from; without those of other time scales.
local ZONES <const> = "/usr/share/zoneinfo"
-- Linked into the program.
local STATIC <const> = { "liblua5.4-dev", "lua-cjson-dev" }

local USER <const> = 65534
local TEXTS <const> = {
  ["etc/passwd"] = "root:x:0:0:root:/:/nonexistent\n"
    .. ("moontide:x:%d:%d:Moontide:/home/moontide:/nonexistent\n"):format(USER, USER),
  ["etc/group"] = ("root:x:0:\nmoontide:x:%d:\n"):format(USER),
  ["etc/nsswitch.conf"] = "passwd: files\ngroup: files\nhosts: files dns\n",
}
local FOLDERS <const> = { "etc/moontide", "proc", "sys", "dev", "run", "usr/lib64", "var/lib", "home" }

local packages = {} -- name -> true

local function die(text, ...) error(text:format(...), 0) end

local function run(argv)
  argv.timeout, argv.max_output, argv.env = 60, 16 << 20, { PATH = "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL = "C" }
  local result, err = proc.run(argv)
  if not result then die("%s: %s", argv[1], tostring(err)) end
  result = assert(result)
  if not result.ok then die("%s: %s", table.concat(argv, " "), result.stderr) end
  return result.stdout
end

-- The program interpreter that an ELF file names (ELF-64, little endian); nil for static programs and other files.
local function loader_of(path)
  local head = assert(fs.read(path, { length = 64 }))
  if head:sub(1, 6) ~= "\127ELF\2\1" then return nil end
  ---@type integer, integer, integer
  local at, size, count = ("<I8"):unpack(head, 33), ("<I2"):unpack(head, 55), ("<I2"):unpack(head, 57)
  local table_of = assert(fs.read(path, { offset = at, length = size * count }))
  for i = 0, count - 1 do
    local kind, _, offset, _, _, length = ("<I4I4I8I8I8I8"):unpack(table_of, i * size + 1)
    if kind == 3 then -- PT_INTERP
      return (assert(fs.read(path, { offset = offset, length = length })):match("^[^\0]*"))
    end
  end
end

-- All shared objects that the loader would map for a program, the loader itself included.
local function libraries(path)
  local loader, list = loader_of(path), {}
  if not loader then return list end
  for line in run({ loader, "--list", path }):gmatch("[^\n]+") do
    local file = line:match("=> (/%S+)") or line:match("^%s*(/%S+)")
    if file then
      list[#list + 1] = file
    elseif not line:find("linux-vdso", 1, true) then
      die("%s needs what is not here: %s", path, line)
    end
  end
  list[#list + 1] = loader
  return list
end

-- /lib and /usr/lib are one folder in the image, as they are in Debian.
local function inside(path)
  return (path:gsub("^/lib(%d*)/", "/usr/lib%1/"):gsub("^/bin/", "/usr/bin/"):sub(2))
end

local function note_package(path)
  for _, name in ipairs { path, (path:gsub("^/usr/lib", "/lib")), "/" .. inside(path) } do
    local result = proc.run { "dpkg-query", "-S", name, timeout = 60 }
    local owner = result and result.ok and result.stdout:match("^([^:,]+)")
    if owner then
      packages[owner] = true
      return
    end
  end
  die("no package owns %s: its licence is unknown", path)
end

local function copy(root, from, to, mode)
  run { "install", "-D", "-m", mode or "644", from, root .. "/" .. to }
end

local function add_program(root, path, to, seen, own)
  copy(root, path, to, "755")
  for _, library in ipairs(libraries(path)) do
    if not seen[library] then
      seen[library] = true
      copy(root, library, inside(library), "755")
      note_package(library)
    end
  end
  if own then
    run { "strip", "--strip-unneeded", root .. "/" .. to }
  end
end

local function write_authorities(root)
  local names, parts = assert(fs.list(AUTHORITIES)), {}
  table.sort(names)
  for _, name in ipairs(names) do
    local text = assert(fs.read(AUTHORITIES .. "/" .. name))
    if not text:find("^%-%-%-%-%-BEGIN CERTIFICATE") then die("%s is no certificate", name) end
    parts[#parts + 1] = text
  end
  assert(fs.mkdir(root .. "/" .. BUNDLE:match("^(.*)/"), { parents = true }))
  assert(fs.write(root .. "/" .. BUNDLE, table.concat(parts), { mode = 420 })) -- 0644
  packages["ca-certificates"] = true
end

local function write_zones(root)
  run { "install", "-d", root .. "/usr/share" }
  run { "cp", "-rL", "--no-preserve=ownership", ZONES, root .. "/usr/share/zoneinfo" }
  for _, name in ipairs { "right", "posix", "localtime" } do -- the last one is this machine's
    fs.remove(root .. ZONES .. "/" .. name, { recursive = true })
  end
  packages["tzdata"] = true
end

-- The licences, and what came from where, as SPDX 2.3.
local function write_papers(root)
  local names, list = {}, {}
  for name in pairs(packages) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    copy(root, ("/usr/share/doc/%s/copyright"):format(name), ("usr/share/doc/%s/copyright"):format(name))
    local told = run { "dpkg-query", "-W", "-f", "${Version} ${source:Package}\n", name }
    local version, source = told:match("(%S+) (%S*)")
    list[#list + 1] = {
      SPDXID = "SPDXRef-" .. name:gsub("[^%w.-]", "-"), name = name, versionInfo = version,
      downloadLocation = "NOASSERTION", filesAnalyzed = false, licenseConcluded = "NOASSERTION",
      supplier = "Organization: Debian", sourceInfo = "Debian source package " .. source,
      externalRefs = json.array { {
        referenceCategory = "PACKAGE-MANAGER", referenceType = "purl",
        referenceLocator = ("pkg:deb/debian/%s@%s"):format(name, version),
      } },
    }
  end
  local text = json.encode({
    spdxVersion = "SPDX-2.3", dataLicense = "CC0-1.0", SPDXID = "SPDXRef-DOCUMENT", name = "moontide " .. sys.version,
    documentNamespace = "urn:moontide:image:" .. hash.sha256(sys.version .. table.concat(names, " ")),
    creationInfo = { created = "1970-01-01T00:00:00Z", creators = json.array { "Tool: moontide config/image.lua" } },
    packages = json.array(list),
  }, { pretty = true })
  assert(fs.mkdir(root .. "/usr/share/doc/moontide", { parents = true }))
  assert(fs.write(root .. "/usr/share/doc/moontide/packages.spdx.json", text .. "\n"))
  copy(root, "LICENSE", "usr/share/doc/moontide/LICENSE")
end

local function main(...)
  local extra, folder = {}, nil
  local words = { ... }
  local i = 1
  while i <= #words do
    if words[i] == "--with" then
      extra[#extra + 1] = words[i + 1]
      i = i + 1
    else
      folder = words[i]
    end
    i = i + 1
  end
  if not folder then die("usage: moontide exec config/image.lua [--with FILE]... FOLDER") end
  local root, seen = folder .. "/root", {}
  if fs.exists(assert(folder)) then assert(fs.remove(folder --[[@as string]], { recursive = true })) end
  for _, name in ipairs(FOLDERS) do assert(fs.mkdir(root .. "/" .. name, { parents = true })) end
  assert(fs.mkdir(folder .. "/empty"))
  run { "install", "-d", "-m", "1777", root .. "/tmp" }
  run { "ln", "-s", "usr/lib", root .. "/lib" }
  run { "ln", "-s", "usr/lib64", root .. "/lib64" }
  run { "ln", "-s", "usr/bin", root .. "/bin" }
  add_program(root, sys.exe(), "usr/bin/moontide", seen, true)
  for _, path in ipairs(PROGRAMS) do
    add_program(root, path, inside(path), seen)
    note_package(path)
  end
  for _, path in ipairs(extra) do add_program(root, path, "usr/bin/" .. path:match("[^/]+$"), seen) end
  for _, name in ipairs(STATIC) do packages[name] = true end
  write_authorities(root)
  write_zones(root)
  for path, text in pairs(TEXTS) do assert(fs.write(root .. "/" .. path, text, { mode = 420 })) end -- 0644
  write_papers(root)
  return 0
end

return main(...)
