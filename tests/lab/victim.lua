-- Labs that get killed, for base_test and cage_test: moontide exec tests/one.lua tests/lab/victim.lua plain|cage|sweep
--
-- Each says in one line of JSON what it opened, then waits for its end.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local lab = require "lab"
local json, time = require "json", require "time"

check.test("plain", function()
  local dir = lab.dir("victim")
  local service = lab.start { name = "sleeper", dir = dir, argv = { "sleep", "1000" } }
  print(json.encode { dir = dir, pid = service.pid })
  time.sleep(1000)
end, 1000)

check.test("cage", function()
  local docker = lab.docker()
  local podman = lab.podman()
  local dir = lab.dir("image")
  lab.write(dir .. "/busybox", assert(require("fs").read("/bin/busybox", { max = 16 << 20 })), 493)
  lab.write(dir .. "/Dockerfile", "FROM scratch\nCOPY busybox /\nENTRYPOINT [\"/busybox\", \"sleep\", \"1000\"]\n")
  podman:run { "buildah", "build", "-q", "-t", "localhost/sleeper:1", dir }
  podman:run { "podman", "run", "-d", "localhost/sleeper:1" }
  lab.run { "docker", "build", "-q", "-t", "sleeper:1", dir, env = docker.env }
  lab.run { "docker", "run", "-d", "--network", "host", "sleeper:1", env = docker.env }
  print(json.encode { dir = docker.cage.dir, pid = docker.cage.pid, cgroup = docker.cage.cgroup })
  time.sleep(1000)
end, 1000)

check.test("sweep", function()
  lab.dir("sweeper")
  lab.close()
end)
