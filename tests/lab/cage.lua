-- A process and mount namespace for container engines, one for each test process.
--
-- Engines leave things behind when they are killed: shims and containers in sessions of their own, mounts, state
-- below /run and /var/lib. In here all of that ends with process 1 of the namespace, whoever kills it and how,
-- and the system's own /run, /var/lib, /opt and engine configuration are hidden behind empty file systems.
-- Only control groups are outside; their empty folders are removed by name.
---@diagnostic disable: discard-returns -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: inject-field -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local base = require "lab.base"
local fs, proc = require "fs", require "proc"

local M = {}

---@class Cage
---@field dir string its scratch folder, the same inside and outside
---@field pid integer its process 1, as seen from outside
---@field cgroup string name of the control group that its docker engine uses

local HIDDEN = { "/run", "/var/lib", "/opt", "/etc/docker", "/etc/containers/registries.d", "/etc/containerd" }

local opened ---@type Cage?
local insecure = {} ---@type string[]

---The command that runs argv inside.
---@param cage Cage
---@param argv string[]
---@param cwd? string
---@return string[]
function M.enter(cage, argv, cwd)
  local command = { "nsenter", "-t", tostring(cage.pid), "-m", "-p", "--wd=" .. (cwd or cage.dir), "--" }
  for k, v in pairs(argv) do
    if type(k) ~= "number" then command[k] = v end
  end
  return table.move(argv, 1, #argv, #command + 1, command)
end

local function only_child(pid)
  local text = fs.read(("/proc/%d/task/%d/children"):format(pid, pid), { max = 4096 })
  return text and tonumber(text:match("%d+"))
end

-- Removes the empty control groups at and below `path`, deepest first.
local function remove_groups(path)
  if not fs.exists(path) then return end
  local dirs = { path }
  for below, kind in fs.walk(path) do
    if kind == "dir" then table.insert(dirs, 1, path .. "/" .. below) end -- parents come first: turn it round
  end
  proc.run { "rmdir", table.unpack(dirs) }
end

local function folders(path)
  local names, types = fs.list(path)
  local list = {}
  for _, name in ipairs(names or {}) do
    if types[name] == "dir" then list[#list + 1] = name end
  end
  return list
end

-- containerd and the kubelet make a folder for each controller that the kernel has, also where none is mounted: plain
-- folders of a tmpfs. podman then takes them for control groups, fills them with files and cannot remove them again.
local function remove_strays()
  local root = fs.stat "/sys/fs/cgroup"
  for _, name in ipairs(folders "/sys/fs/cgroup") do
    local path = "/sys/fs/cgroup/" .. name
    local stat = fs.stat(path)
    if root and stat and stat.device == root.device and not fs.exists(path .. "/cgroup.procs") then
      fs.remove(path, { recursive = true })
    end
  end
end

local function hierarchies()
  local roots = { "/sys/fs/cgroup" }
  for _, name in ipairs(folders "/sys/fs/cgroup") do roots[#roots + 1] = "/sys/fs/cgroup/" .. name end
  return roots
end

---Removes the control groups of a cage whose scratch folder is `dir`: docker's by the name it was given; podman's,
---which takes no name, by the ids of the containers in its store, or because they are empty and not of this moment.
---A group with processes cannot be removed, and a stopped pod's is made again when it starts.
---@async
---@param dir string The lab's scratch folder.
function M.sweep(dir)
  local name = "moontide-lab-" .. (dir:match("([^/]+)$"))
  local ids, old = {}, require("time").now() - 3
  for _, cage in ipairs(folders(dir)) do
    for _, id in ipairs(folders(dir .. "/" .. cage .. "/store/overlay-containers")) do
      ids["libpod-" .. id], ids["libpod-conmon-" .. id] = true, true
    end
  end
  for _, root in ipairs(hierarchies()) do
    remove_groups(root .. "/" .. name)
    local parent = root .. "/libpod_parent"
    for _, pod in ipairs(folders(parent)) do
      local path = parent .. "/" .. pod
      local stat = fs.stat(path)
      local dead = ids[pod] or (stat and stat.mtime < old)
      for _, group in ipairs(folders(path)) do dead = dead or ids[group] end
      if dead then remove_groups(path) end
    end
    if #folders(parent) == 0 then remove_groups(parent) end
  end
end

---Why there can be no cage here, nil when there can.
---@return string?
function M.unavailable()
  if not base.is_root() then return "container engines need root" end
  for _, program in ipairs { "unshare", "nsenter", "catatonit" } do
    if not base.exists(program) then return program .. " is not installed" end
  end
end

---The cage of this process, made at the first call. Raises when there can be none.
---@async
---@return Cage
function M.open()
  if opened then return opened end
  local why = M.unavailable()
  if why then error(why, 2) end
  local dir = base.dir("cage")
  local service = base.start {
    name = "cage", dir = dir,
    argv = { "unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "--", "catatonit", "-P" },
  }
  local cage = { dir = dir, service = service, cgroup = "moontide-lab-" .. dir:match("([^/]+)/[^/]+$") }
  cage.pid = base.eventually("the namespace has a process", 60, function()
    if service.ended then error("no namespaces here: " .. service:output(), 0) end
    -- Between fork and exec the child still is unshare itself, and /proc is not mounted yet.
    local pid = only_child(service.pid)
    return pid and (fs.read(("/proc/%d/cmdline"):format(pid), { max = 4096 }) or ""):find("^catatonit") and pid
  end)
  remove_strays()
  for _, path in ipairs(HIDDEN) do
    if fs.exists(path) then base.run(M.enter(cage, { "mount", "-t", "tmpfs", "lab", path }, "/")) end
  end
  base.on_close(function()
    opened = nil
    service:stop() -- its process 1 goes at once, and the kernel ends the others
    M.sweep(dir:match("^(.*)/"))
  end)
  opened = cage
  M.insecure()
  return cage
end

---Notes a registry that speaks plain HTTP, for podman and buildah, which ask to be told.
---@param host? string
function M.insecure(host)
  if host then insecure[#insecure + 1] = host end
  if not opened then return end
  local lines = { "unqualified-search-registries = []" }
  for _, name in ipairs(insecure) do
    lines[#lines + 1] = ('[[registry]]\nlocation = "%s"\ninsecure = true'):format(name)
  end
  base.write(opened.dir .. "/registries.conf", table.concat(lines, "\n") .. "\n")
end

return M
