-- Our requests to GitHub, and the answers of the stand-in that the other tests trust, against GitHub's own published
-- API description: every exchange passes a validating proxy, which turns a violation into an error.
--
-- The description and the proxy are npm packages, installed once into build/cache. Skipped where npm or its packages
-- cannot be had.
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fixture = require "fixture.github"
local fs = require "fs"
local github = require "sources.github"
local http = require "http"
local lab = require "lab"
local proc = require "proc"
local sys = require "base.sys"
local test, eq, ok = check.test, check.eq, check.ok

local SPEC, PROXY = "@octokit/openapi@23.0.2", "@stoplight/prism-cli@5.14.2"
local CACHE = sys.cwd() .. "/build/cache/github-api"
local A, B, C = ("a"):rep(40), ("b"):rep(40), ("c"):rep(40)

-- Installs the packages; keeps the proxy, and of the description (475 MB) only the part in use.
local function install()
  local ready = CACHE .. "/cut-" .. SPEC:match "[%d.]+$" .. ".json"
  if fs.exists(ready) then return ready end
  if not (lab.exists "node" and lab.exists "npm") then check.skip "node and npm are not installed" end
  ok(fs.mkdir(CACHE, { parents = true }))
  ok(fs.write(CACHE .. "/package.json", '{"private":true}\n'))
  local result = ok(proc.run { "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save",
    SPEC, PROXY, cwd = CACHE, inherit = { "HOME", "PATH" }, timeout = 300 })
  if not result.ok then check.skip("npm cannot install the packages: " .. result.stderr:sub(1, 200)) end
  local generated = CACHE .. "/node_modules/@octokit/openapi/generated"
  local whole, part = generated .. "/api.github.com.json", ready .. ".part"
  lab.run { "node", sys.cwd() .. "/tests/fixture/openapi_cut.js", whole, part }
  ok(fs.remove(generated, { recursive = true }))
  ok(fs.rename(part, ready))
  return ready
end

-- Opened here and not in a test: a server ends with the task that opened it.
local hub = fixture.open { owner = "team", name = "web", token = "t" }
local gh, proxy

local function open()
  if gh then return end
  local description = install()
  local port = lab.port()
  proxy = "http://127.0.0.1:" .. port
  lab.start {
    name = "prism", dir = lab.dir "prism",
    argv = { "node", CACHE .. "/node_modules/@stoplight/prism-cli/dist/index.js", "proxy", "--errors", "-h",
      "127.0.0.1", "-p", tostring(port), description, hub.api },
    ready = function() return http.get(proxy .. "/", { timeout = 5 }) end, within = 60,
  }
  hub:drain()
  gh = github.repository { owner = "team", name = "web", api = proxy, token = "t" }
end

test("the proxy refuses what GitHub would not send or take", function()
  open()
  hub.intercept = function() return { status = 200, body = { { id = 7 } } } end
  local answer = ok(http.get(proxy .. "/repos/team/web/events"))
  eq(answer.status, 500)
  check.has(answer.body, "VIOLATIONS")
  hub.intercept = nil
  answer = ok(http.post(proxy .. "/repos/team/web/statuses/" .. A, { state = "great" }))
  eq(answer.status, 422)
  hub:drain()
end, 400)

test("events", function()
  open()
  hub:push("refs/heads/main", A, B)
  hub:create("tag", "v1.0.0")
  hub:create("branch", "feature")
  hub:delete("branch", "feature")
  eq(ok(gh:events()), {})
  eq(#gh.feed.events, 4)
  eq(gh:pushed("refs/heads/main", B).actor, "ada")
end)

test("compare, in every direction", function()
  open()
  hub.comparisons = { [A .. "..." .. B] = { ahead = 2, behind = 0 }, [B .. "..." .. A] = { ahead = 0, behind = 2 },
    [A .. "..." .. C] = { ahead = 1, behind = 1 } }
  eq(ok(gh:compare(A, B)).kind, "push")
  eq(ok(gh:compare(B, A)).kind, "reset")
  eq(ok(gh:compare(A, C)).kind, "force")
  eq(ok(gh:compare(C, A)).missing, true)
end)

test("commit statuses", function()
  open()
  ok(gh:set_status(A, { state = "pending", context = "moontide/staging", description = "waits" }))
  ok(gh:set_status(A, { state = "success", url = "https://web.example.com/" }))
  eq(#hub.statuses[A], 2)
end)

test("deployments and their statuses", function()
  open()
  local id = ok(gh:deploy(A, { environment = "staging", key = "run-1", description = "d" }))
  eq(ok(gh:deploy(A, { environment = "staging", key = "run-1" })), id)
  ok(gh:deploy(B, { environment = "production", production = true }))
  for _, state in ipairs { "queued", "in_progress", "success", "failure", "error", "inactive", "pending" } do
    ok(gh:set_deployment_status(id, { state = state, description = "d", log_url = "https://moontide.example.com/1",
      environment_url = "https://web.example.com/" }))
  end
end)

test("every path that was asked for is one that GitHub describes", function()
  open()
  ok(#hub.requests >= 15, #hub.requests)
  for _, request in ipairs(hub.requests) do
    eq(request.headers["x-github-api-version"], "2022-11-28")
    ok(request.headers["user-agent"])
  end
end)
