-- The rule of the seam, on small trees: every way in which a file may open the world, and what is none.
local check = require "check"
local seam = require "lint.seam"
local test, eq = check.test, check.eq

local function faults(path, ...) return seam.faults { [path] = { ... } } end

local function found(path, line, door)
  return { { path, line, "opens the world past engine/world.lua: " .. door } }
end

test("a door is found by the name that its module has in the file, wherever it stands in the list", function()
  eq(faults("checks/job.lua", 'local log, kubernetes = require "log",', '  require "kubernetes"', "",
    "  local client = kubernetes.open(cluster, cfg)"), found("checks/job.lua", 4, "kubernetes.open"))
  eq(faults("targets/docker.lua", 'local registries = require("images.registry")', "registries.repository(name, cfg)"),
    found("targets/docker.lua", 2, "images.registry.repository"))
end)

test("a door is found where its module is required on the way", function()
  eq(faults("tell/reporter.lua", 'return require("sources.github").repository { owner = owner }'),
    found("tell/reporter.lua", 1, "sources.github.repository"))
end)

test("the world may open everything, a module's own folder its own, and what opens nothing is no door", function()
  eq(faults("engine/world.lua", 'return require("kubernetes").open(name, cfg)'), {})
  eq(faults("sources/git/configured.lua", 'local git = require "sources.git"', "return git.repository {}"), {})
  eq(faults("extensions/keel/secrets.lua", 'local registry = require "images.registry"', "registry.split(name)"), {})
  eq(faults("policy/run.lua", "self.world.repository(app)", "other.open(x)"), {})
  eq(faults("hosts/leader.lua", 'local split = require("images.registry").split', "local open = 1"), {})
end)
