-- The README's first ten minutes work as typed: its commands are run, as they are written, on a machine of their own.
--
-- That machine is this one's files under overlays, with a network and processes of its own: what the commands write to
-- /etc, /var, /srv, /root and /usr/local goes to scratch, and its ports are its own. Played are only:
--   apt-get           the packages that it names must be here; the registry starts, as Debian starts what it installs
--   service docker    dockerd runs by itself: the init script raises limits, which not every container may
--   systemctl         the unit's command is run as the unit's user with its groups, its state folder handed over
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local base = require "lab.base"
local cage = require "lab.cage"
local fs, proc, sys = require "fs", require "proc", require "base.sys"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local WRITTEN <const> = { "/etc", "/var", "/srv", "/root", "/usr/local" }

local ENV <const> = {
  PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME = "/root", LANG = "C.UTF-8",
  DOCKER_CONFIG = "/root/.docker",
}

-- The commands of a section in their order; a here-document belongs to its command.
local function read_commands(title)
  local section = ok(ok(fs.read("README.md")):match("\n## " .. title .. "\n(.-)\n## "), title)
  local list = {}
  for block in section:gmatch("\n```sh\n(.-)\n```") do
    local rest = block .. "\n"
    while rest ~= "" do
      local line, after = rest:match("^([^\n]*)\n(.*)$")
      if line:find("<<'END'$") then
        local body, behind = after:match("^(.-\nEND\n)(.*)$")
        line, after = line .. "\n" .. ok(body, line), behind
      end
      list[#list + 1], rest = line, after
    end
  end
  return list
end

---@class Machine
local Machine = {}
Machine.__index = Machine

local function inside(self, script)
  return {
    "nsenter", "-t", tostring(self.pid), "-m", "-p", "-n", "--", "sh", "-c", ("cd %s\n%s"):format(self.cwd, script),
    env = ENV,
  }
end

-- Runs a command line on the machine. Gives what it printed and whether it went well.
function Machine:try(script)
  local argv = inside(self, script)
  argv.stderr, argv.timeout = "stdout", 550
  local result = assert(proc.run(argv))
  return result.stdout, result.ok
end

function Machine:sh(script)
  local output, well = self:try(script)
  if not well then error(("$ %s\n%s\n%s"):format(script, output, self.host and self:log() or ""), 0) end
  return output
end

-- Starts a program that serves; gives its id on the machine.
function Machine:serve(name, script)
  local argv = inside(self, ("echo $$ >/run/%s.id; %s"):format(name, script))
  argv.stdin, argv.stderr, argv.stdout = false, "stdout", { file = ("%s/%s.log"):format(self.dir, name), append = true }
  self.children[#self.children + 1] = assert(proc.spawn(argv)) -- what nobody holds is ended
end

function Machine:log() return fs.read(self.dir .. "/host.log", { max = 16 << 20 }) or "" end

-- The addresses that somebody listens on at a port, as the kernel writes them.
function Machine:listening(port)
  local list = {}
  for address, at in self:sh("cat /proc/net/tcp /proc/net/tcp6"):gmatch("%d+: (%x+):(%x+) %x+:%x+ 0A ") do
    if tonumber(at, 16) == port then list[#list + 1] = address end
  end
  return list
end

local function boot()
  local dir = base.dir("machine")
  local self = setmetatable({ dir = dir, cwd = "/", children = {} }, Machine)
  local service = base.start {
    name = "machine", dir = dir,
    argv = {
      "unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc", "--", "catatonit", "-P",
    },
  }
  self.pid = base.eventually("the namespace has a process", 30, function()
    if service.ended then error("no namespaces here: " .. service:output(), 0) end
    local text = fs.read(("/proc/%d/task/%d/children"):format(service.pid, service.pid), { max = 4096 })
    local pid = text and tonumber(text:match("%d+"))
    local command = pid and fs.read(("/proc/%d/cmdline"):format(pid), { max = 4096 })
    return command and command:find("^catatonit") and pid
  end)
  base.on_close(function()
    service:stop()
    cage.sweep(dir:match("^(.*)/"))
  end)
  local script = { "set -e", "mkdir " .. dir .. "/over", "mount -t tmpfs lab " .. dir .. "/over" }
  for _, path in ipairs(WRITTEN) do
    local over = dir .. "/over" .. path
    script[#script + 1] = ("mkdir -p %s/upper %s/work"):format(over, over)
    script[#script + 1] = ("mount -t overlay lab -o lowerdir=%s,upperdir=%s/upper,workdir=%s/work %s"):format(
      path, over, over, path)
  end
  table.move({
    "mkdir -p /var/lib/docker; mount -t tmpfs lab /var/lib/docker", "mount -t tmpfs lab /run", "mkdir /run/lock",
    "rm -rf /var/lib/moontide /etc/moontide /root/web /srv/git /root/.gitconfig", "ip link set lo up",
  }, 1, 5, #script + 1, script)
  self:sh(table.concat(script, "\n"))
  self.cwd = sys.cwd()
  return self
end

local function apt_get(m, words)
  if words:find("^update") then return end
  for package in words:gsub("^install", ""):gmatch("%f[%S][%w.-]+") do
    if package:sub(1, 1) ~= "-" then
      eq(m:sh("dpkg-query -W -f='${db:Status-Status}' " .. package), "installed", package)
    end
  end
  m:sh("service docker-registry start")
  base.eventually("Debian's registry listens", 60, function() return #m:listening(5000) > 0 end)
end

local function start_docker(m)
  local group = "moontide-lab-" .. m.dir:match("([^/]+)/[^/]+$")
  m:serve("docker", "exec dockerd --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent=/" .. group)
  local socket = ("/proc/%d/root/run/docker.sock"):format(m.pid)
  base.eventually("docker answers", 120, function() return fs.exists(socket) end)
end

-- What systemd does with the unit: its user, the groups of its drop-in, its state folder, its command.
local function start_service(m)
  local file = "/usr/local/lib/systemd/system/moontide.service"
  local unit, drop_in = m:sh("cat " .. file), m:sh("cat " .. file .. ".d/docker.conf")
  local user, command = ok(unit:match("\nUser=(%S+)")), ok(unit:match("\nExecStart=([^\n]+)"))
  eq(unit:match("\nStateDirectory=(%S+)"), "moontide")
  local group = ok(drop_in:match("\nSupplementaryGroups=(%S+)"))
  m:sh(("chown -R %s: /var/lib/moontide"):format(user))
  m.host = true
  m:serve("host", ("exec setpriv --reuid %s --regid %s --groups %s --no-new-privs -- %s"):format(
    user, user, group, command))
end

local function type_line(m, line)
  local program, words = line:match("^(%S+) ?(.*)$")
  local command, answer = line:match("^(.-)%s+# (.*)$")
  if program == "apt-get" then
    apt_get(m, words)
  elseif line == "service docker start" then
    start_docker(m)
  elseif program == "cd" then
    m.cwd = words
  elseif line == "make deps-build" then
    has(m:sh(line), "are here")
  elseif program == "systemctl" then
    has(words, "enable --now docker docker-registry moontide")
    start_service(m)
  elseif line == "moontide run" then
    m.host = true
    m:serve("host", "exec " .. line)
  elseif answer then
    local said
    local arrived, why = pcall(base.eventually, line, 120, function()
      said = m:try(command)
      return said == answer .. "\n"
    end)
    if not arrived then error(("%s\nlast: %s\n%s"):format(why, said, m:log():sub(-3000)), 0) end
  else
    m:sh(line)
  end
end

test("the first ten minutes of the README work as typed: push, tag, rollback, service", function()
  local why = require("lab.docker").unavailable()
  if why then check.skip(why) end
  local m = boot()
  local commands = read_commands("From nothing to your own app, in ten minutes")
  for _, line in ipairs(commands) do
    if line:find("^chown") then -- "End the first host with Ctrl-C, then:"
      m:sh("kill -INT $(cat /run/host.id)")
      base.eventually("the host ends", 120, function() return not select(2, m:try("kill -0 $(cat /run/host.id)")) end)
    end
    type_line(m, line)
  end
  eq(m:listening(5000), { "0100007F" }, "the registry listens on loopback only")

  -- The service goes on with what the first host did, and follows the repository.
  base.eventually("the service answers", 120, function() return select(2, m:try("moontide status")) end)
  has(m:sh("moontide history"), "v1.1.0")
  type_line(m, 'echo "hello three" > ~/web/index.html')
  type_line(m, 'git -C ~/web commit -q -a -m "Once more" && git -C ~/web push -q origin HEAD:main')
  type_line(m, "busybox wget -qO- http://127.0.0.1:8081/    # hello three")
  type_line(m, "busybox wget -qO- http://127.0.0.1:8080/    # hello one")
end, 580)
