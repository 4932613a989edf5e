-- The page for minikube says what works: its commands are run against a real API server, minikube's own and those that
-- speak to GitHub left out, and its files are applied as Moontide would, with the rights that its values give.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check, cluster, lab = require "check", require "cluster.lab", require "lab"
local fs, json, yaml = require "fs", require "json", require "yaml"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local PAGE <const> = "config/minikube.md"

-- The commands of the page, in their order, and the files that they write.
local function read_page()
  local commands, files = {}, {}
  for block in ok(fs.read(PAGE)):gmatch("\n```sh\n(.-)\n```") do
    block = block:gsub("\ncat > (%S+) <<'END'\n(.-\n)END", function(path, text)
      files[path] = text
      return ""
    end)
    for line in block:gsub("\\\n%s*", ""):gmatch("[^\n]+") do commands[#commands + 1] = line end
  end
  return commands, files
end

-- Words of a command line as the page writes them.
local function words(line)
  local list, rest = {}, line
  while rest ~= "" do
    local word
    if rest:find("^%S*[\"']") then
      local head, mark = rest:match("^([^%s\"']*)([\"'])")
      local text, after = rest:sub(#head + 2):match("^(.-)" .. mark .. "()")
      word, rest = head .. text, rest:sub(#head + 1 + after)
    else
      word, rest = rest:match("^(%S+)(.*)$")
    end
    list[#list + 1] = word
    rest = rest:gsub("^%s+", "")
  end
  return list
end

local NAMESPACES <const> = { "moontide", "hello-staging", "hello-production", "moontide-builds", "registry" }

local function gone(c)
  for _, ns in ipairs(NAMESPACES) do c:try_kubectl { "delete", "ns", ns, "--ignore-not-found", "--wait" } end
end

-- What only a real pod can answer: its words are checked instead.
local function only_form(c, argv)
  for _, verb in ipairs { "exec", "logs", "port-forward" } do
    for i, word in ipairs(argv) do
      if word == verb then
        has(c:kubectl { verb, "--help" }, "Usage:")
        ok(c:kubectl { "get", "-n", argv[2], argv[i + 1]:find("/") and argv[i + 1] or "svc" })
        local inner = table.concat(argv, " "):match("%-%- moontide (%S+)")
        if inner then ok(require("people.cli.commands").load(inner), inner) end
        return true
      end
    end
  end
end

test("the page's commands work, one after the other, from nothing to nothing", function()
  local c = cluster.open()
  gone(c)
  check.defer(function() gone(c) end)
  local commands, files = read_page()
  local dir, ran = lab.dir("hello"), 0
  for path, text in pairs(files) do lab.write(dir .. "/" .. path, text) end
  -- The fixed address is of minikube's service network; here another one is in use.
  local around = lab.write(dir .. "/cluster.yaml",
    (ok(fs.read("config/minikube/cluster.yaml")):gsub("\n  clusterIP: 10%.96%.0%.50", "")))
  for _, line in ipairs(commands) do
    local argv = words(line)
    local program = table.remove(argv, 1)
    for i, word in ipairs(argv) do
      argv[i] = word:gsub("%$%b()", "somebody"):gsub("^config/minikube/cluster.yaml$", around)
    end
    if program == "helm" then
      if argv[1] == "install" then
        table.move({ "--set", "nodeSelector.lab\\.moontide/node=kwok", "--set", "persistence.enabled=false" }, 1, 4,
          #argv + 1, argv)
      end
      argv.timeout = 200
      c:helm(argv)
      ran = ran + 1
      if argv[1] == "install" then
        -- What Moontide does with the app's manifests, in its place.
        for _, ns in ipairs { "hello-staging", "hello-production" } do
          c:kubectl { "apply", "--server-side", "--field-manager=moontide", "-n", ns, "-f", dir .. "/hello/deploy",
            "--as=system:serviceaccount:moontide:moontide" }
        end
      end
    elseif program == "kubectl" then
      if not only_form(c, argv) then c:kubectl(argv) end
      ran = ran + 1
    else
      ok(({ minikube = 1, git = 1, gh = 1, mkdir = 1, echo = 1, cat = 1 })[program], line)
    end
  end
  eq(ran, 14)
end, 400)

test("the configuration of the page is one that Moontide takes", function()
  local c = cluster.open()
  local text = c:helm { "template", "moontide", "config/chart", "--namespace", "moontide", "--values",
    "config/minikube/values.yaml", "--set-string", "config.apps.hello.source=https://github.com/somebody/hello.git" }
  local found
  for _, object in ipairs(ok(yaml.decode_all(text))) do
    if object.kind == "ConfigMap" and object.data["moontide.json"] then found = object.data["moontide.json"] end
  end
  local file = lab.write(lab.dir("config") .. "/moontide.json", ok(found))
  lab.run { require("base.sys").exe(), "check", "--config", file }
  local config = ok(json.decode(found))
  eq(config.apps.hello.source, "https://github.com/somebody/hello.git")
  eq(config.state, "/var/lib/moontide/state")
end)
