-- What hosts may rely on of a chart repository: proved of the simulated one and of ChartMuseum's API and an index.yaml,
-- as the stand-in (or the original behind it) has them.
--
-- On purpose the simulated one keeps no answers: each question asks it. Charts are published there without helm, and
-- nothing can be fetched from it.
---@diagnostic disable: need-check-nil, undefined-field -- a nil fails the test
local check = require "check"
local chart_museum, kit = require "cluster.chart_museum", require "contract.kit"
local errors = require "errors"
local eq, ok, fails = check.eq, check.ok, check.fails

---@class ChartsPart
---@field put fun(version: string, about?: {text?: string, removed?: boolean, deprecated?: boolean}) Of the chart web.
---@field withdraw fun(version: string)
---@field down fun()
---@field up fun()
---@field open fun(): ChartRepository As a host that knows nothing opens it.

---@return ChartsPart
local function simulated()
  local world, open = kit.simulated()
  local url = "https://charts.test"
  return {
    put = function(version, about) world:chart(url, "web", version, about) end,
    withdraw = function(version) world:withdraw(url, "web", version) end,
    down = function() world:down(url) end, up = function() world:up(url) end,
    open = function() return open().charts(url) end,
  }
end

---@param options? table Of the stand-in.
---@return fun(): ChartsPart
local function real(options)
  return function()
    local museum = chart_museum.open(options)
    return {
      put = function(version, about)
        about = about or {}
        museum:put("web", version, about.text, { removed = about.removed, deprecated = about.deprecated })
      end,
      withdraw = function(version) museum:remove("web", version) end,
      down = function() museum.broken = function() return { status = 503, body = "" } end end,
      up = function() museum.broken = nil end,
      open = function() return kit.real({}, { web = { environments = { staging = {} } } }).charts(museum.url) end,
    }
  end
end

local each = kit.each { simulated = simulated, museum = real(), index = real { api = false } }

local function now(repo) return repo:versions("web", { max_age = 0 }) end

local function texts(list)
  local found = {}
  for i, entry in ipairs(ok(list)) do found[i] = entry.version end
  return found
end

each("versions come newest first, each with its digest, its time and its address", function(charts)
  for _, version in ipairs { "1.9.0", "1.10.0", "2.0.0-rc.1", "0.0.0-staging.2", "0.0.0-staging.10" } do
    charts.put(version)
  end
  local list = ok(now(charts.open()))
  eq(texts(list), { "2.0.0-rc.1", "1.10.0", "1.9.0", "0.0.0-staging.10", "0.0.0-staging.2" })
  for _, entry in ipairs(list) do
    ok(entry.digest:find "^sha256:%x+$")
    ok(entry.created:find "^%d%d%d%d%-%d%d%-%d%dT")
    ok(entry.url:find("/charts/web-" .. entry.version .. ".tgz", 1, true))
  end
end)

each("a version that is written over has another digest, and the same one when it holds the same", function(charts)
  charts.put("1.0.0", { text = "one" })
  local repo = charts.open()
  local first = ok(now(repo))[1]
  eq(ok(repo:digest("web", first)), first.digest)
  charts.put("1.0.0", { text = "two" })
  repo:expire()
  local second = ok(now(repo))[1]
  ok(second.digest ~= first.digest)
  charts.put("1.0.0", { text = "one" })
  repo:expire()
  eq(ok(now(repo))[1].digest, first.digest)
end)

each("what is withdrawn, removed or no version is not listed", function(charts)
  for _, version in ipairs { "1.0.0", "1.1.0", "latest" } do charts.put(version) end
  charts.put("1.2.0", { removed = true })
  charts.put("1.3.0", { deprecated = true })
  local repo = charts.open()
  local list = ok(now(repo))
  eq(texts(list), { "1.3.0", "1.1.0", "1.0.0" })
  eq({ list[1].deprecated, #list.dropped }, { true, 2 })
  charts.withdraw "1.1.0"
  repo:expire()
  eq(texts(now(repo)), { "1.3.0", "1.0.0" })
end)

each("a chart that was never there is not found", function(charts)
  fails("not_found", now(charts.open()))
end)

each("what lost half of its versions keeps them for now", function(charts)
  for i = 1, 6 do charts.put(("1.%d.0"):format(i)) end
  local repo = charts.open()
  eq(#ok(now(repo)), 6)
  for i = 4, 6 do charts.withdraw(("1.%d.0"):format(i)) end
  repo:expire()
  local list = ok(now(repo))
  eq({ #list, list[1].missing, list.held.count }, { 6, true, 3 })
end)

each("while it is down that is an error that may pass, and then it answers again", function(charts)
  charts.put "1.0.0"
  local repo = charts.open()
  charts.down()
  local list, err = now(repo)
  eq({ list, errors.passing(err) }, { nil, true })
  charts.up()
  eq(texts(now(charts.open())), { "1.0.0" })
end)
