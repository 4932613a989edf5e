-- Templates of a configuration: texts with {place} and {branch}, in each kind of file.
---@diagnostic disable: need-check-nil -- a nil fails the test
local check = require "check"
local load, previews = require "config.load", require "config.previews"
local test, eq, ok = check.test, check.eq, check.ok

local function config(text, file)
  local value, line = load.parse(text, file)
  return load.check(ok(value, line), { file = file, line = line })
end

local function faults_of(text)
  local none, faults = config(text, "x.lua")
  ok(not none)
  local lines = {}
  for i, fault in ipairs(faults --[[@as Fault[] ]]) do lines[i] = load.describe(fault) end
  return table.concat(lines, "\n")
end

local SAME <const> = {
  ["x.json"] = [[{ "state": "/x", "apps": { "web": { "source": "https://a.test/b.git", "image": "r.test/web",
    "environments": { "preview": { "branches": "f/*", "host": "{branch}.test", "target": { "kind": "command",
      "apply": ["/a", "{place}"], "destroy": ["/b"],
      "env": { "N": "{branch}-{branch}", "S": { "env": "PATH" } } } } } } } }]],
  ["x.yaml"] = [[
state: /x
apps:
  web:
    source: https://a.test/b.git
    image: r.test/web
    environments:
      preview:
        branches: f/*
        host: "{branch}.test"
        target:
          kind: command
          apply: [/a, "{place}"]
          destroy: [/b]
          env: { N: "{branch}-{branch}", S: { env: PATH } }
]],
  ["x.lua"] = [[return { state = "/x", apps = { web = { source = "https://a.test/b.git", image = "r.test/web",
    environments = { preview = { branches = { "f/*" }, host = "{branch}.test", target = { kind = "command",
      apply = { "/a", "{place}" }, destroy = { "/b" },
      env = { N = "{branch}-{branch}", S = { env = "PATH" } } } } } } } }]],
}

test("the place of a branch is the template with its names, whatever the configuration is written in", function()
  for file, text in pairs(SAME) do
    local read, faults = config(text, file)
    ok(read, faults and load.describe(faults[1]))
    local template = read.apps.web.templates[1]
    eq({ #read.apps.web.environment_list, template.template, template.branches }, { 0, "preview", { "f/*" } }, file)
    local place = previews.place(template, "x", "f/X")
    eq({ place.name, place.app, place.branch, place.host }, { "preview-x", "web", "f/X", "x.test" }, file)
    eq({ place.target.apply[2], place.target.env.N }, { "preview-x", "x-x" }, file)
    eq(rawequal(place.target.env.S, template.target.env.S), true, "a secret stays what it is")
    eq(place.at_most, 20)
  end
end)

test("a template that holds itself, or much twice, is a fault and no hang", function()
  faults_of [[
    local t = { branches = "f/*" } t.target = t
    return { state = "/x", apps = { web = { source = "https://a.test/b.git", image = "r.test/w",
      environments = { preview = t } } } }]]
  faults_of [[
    local t = { "x" } for _ = 1, 60 do t = { t, t } end
    return { state = "/x", apps = { web = { source = "https://a.test/b.git", image = "r.test/w",
      environments = { preview = { branches = "f/*", target = t } } } } }]]
end)

test("labels are safe names of their branch", function()
  for branch, label in pairs {
    ["feature/Login_Form"] = "feature-login-form", ["-x-"] = "x", ["a//b"] = "a-b",
    [("ab-"):rep(20)] = "ab-ab-ab-ab-ab-ab-ab-ab-ab-ab",
  } do
    eq(previews.label(branch), label)
  end
  ok(previews.label "äöü":find "^%x%x%x%x%x%x%x$")
  ok(previews.other_label "feature/x":find "^feature%-x%-%x%x%x%x%x%x%x$")
  ok(#previews.other_label(("long"):rep(50)) <= previews.LONGEST)
end)
