-- B8's own side: moontide exec tests/large_host.lua GIT_TAGS REGISTRY_TAGS. Prints, as JSON, the longest time in
-- milliseconds of processor time that the loop was kept in each part, and how many seconds the part took.
--
-- A real bare repository with that many tags, asked through the git program; a simulated target. Beside the host a task
-- gets a turn each time the loop comes round, and looks how much processor time has gone since its last one.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: return-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local fs, git, json, lab = require "fs", require "sources.git", require "json", require "lab"
local proc, sim = require "proc", require "sim"
local sys, task, time = require "base.sys", require "task", require "time"
local git_tags, registry_tags = tonumber((...)), tonumber((select(2, ...)))

local dir = assert(fs.temp_dir())
local bare = dir.path .. "/web.git"

local function run(argv)
  argv.env = lab.env {
    GIT_AUTHOR_NAME = "bench", GIT_AUTHOR_EMAIL = "bench@localhost", GIT_COMMITTER_NAME = "bench",
    GIT_COMMITTER_EMAIL = "bench@localhost",
  }
  return assert(proc.check(proc.run(argv))).stdout
end

-- Tags in the one file that git keeps many of them in.
local function publish(head, count, extra)
  local names, lines = {}, { "# pack-refs with: peeled fully-peeled sorted", head .. " refs/heads/main" }
  for i = 1, count do names[i] = ("refs/tags/v%d.%d.%d"):format(1 + i // 10000, i // 100 % 100, i % 100) end
  names[#names + 1] = extra
  table.sort(names)
  for _, name in ipairs(names) do lines[#lines + 1] = head .. " " .. name end
  assert(fs.write(bare .. "/packed-refs", table.concat(lines, "\n") .. "\n"))
end

run { "git", "init", "-q", "--bare", "-b", "main", bare }
local tree = run({ "git", "--git-dir", bare, "hash-object", "-t", "tree", "-w", "/dev/null" }):match "%x+"
local head = run({ "git", "--git-dir", bare, "commit-tree", "-m", "bench", tree }):match "%x+"
publish(head, git_tags)

local longest, stop = 0, false
task.spawn(function()
  local last = sys.cpu()
  while not stop do
    time.sleep(0)
    local now = sys.cpu()
    longest, last = math.max(longest, now - last), now
  end
end)

local figures = {}
local function part(name, fn)
  time.sleep(0.01)
  longest = 0
  local began = time.monotonic()
  fn()
  local took = time.monotonic() - began
  time.sleep(0.01)
  figures[#figures + 1] = { name = name, turn = longest * 1000, seconds = took }
end

local world = sim.open(dir.path .. "/world")
local parts = world:world()
local repository = git.repository { url = "file://" .. bare, interval = 3600, timeout = 120 }
parts.repository = function() return repository end
local config = sim.config(dir.path .. "/state")
local function open()
  return assert(require("engine").open { config = config, world = parts, load = function() return config end })
end

local host = open()
part("first sight", function() assert(host:poll()) end)
part("nothing new", function() assert(host:poll()) end)
publish(head, git_tags, "refs/tags/v99.0.0")
part("one tag more", function() assert(host:poll()) end)
host:close()
host = open()
part("after a restart", function() assert(host:poll()) end)
publish(head, 50)
part("nearly all gone", function() assert(host:poll()) end)
host:close()

local tags = {}
for i = 1, registry_tags do tags[i] = ("%d.%d.%d"):format(i // 1000, i // 10 % 100, i % 10) end
part("registry tags", function()
  local candidates = require "extensions.keel.candidates"
  local settings = { policy = require("semver").policy "minor", match_prerelease = true }
  candidates.judge(settings, "1.0.0", tags)
end)
stop = true
dir:close()
print(json.encode(figures))
