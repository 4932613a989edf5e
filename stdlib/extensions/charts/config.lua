-- Charts in the configuration: repositories, the charts that an app follows, and those that it publishes.
local names = require "config.names"
local s = require "base.schema"
local secret = require "config.secret"
local shapes = require "config.shapes"
local tables = require "base.tables"

local M = {}

---@class ChartConfig
---@field name string
---@field chart string its name in the repository
---@field repository ChartRepositoryConfig
---@field accept? string|table<string, string> of its own, for all environments or by their names

---@class PublishConfig
---@field charts string[] folders in the checkout
---@field to ChartRepositoryConfig
---@field version string with {count}
---@field command string[] helm
---@field timeout Seconds

---@class (partial) AppConfig
---@field charts? table<string, ChartConfig> what an app follows that follows charts; its source is their addresses
---@field publish? PublishConfig

---@class (partial) Config
---@field chart_repositories table<string, ChartRepositoryConfig>

local command, file, inside, is, plain, text = shapes.command, shapes.file, shapes.inside, shapes.is, shapes.plain,
  shapes.text

local function login(value, at)
  if (value.username == nil) ~= (value.password == nil) then
    local missing = value.username and "password" or "username"
    return at:fault(("has no %s"):format(missing), 'username = "...", password = { env = "NAME" }')
  end
  if value.token and value.username then return at:fault("has a token and a username: one of them counts") end
  if value.token and value.url and value.url:find("^oci://") then
    return at:fault("has a token, but a registry takes a username and a password")
  end
  return value
end

-- Checks the address of a chart repository: http(s), or oci://REGISTRY/PATH. What is wrong
-- never repeats it: it may hold a secret.
local function chart_url(url)
  local name = url:match("^oci://(.*)$")
  if not name then
    if url:find("[?#]") then return "must not have a query" end
    return names.http_url(url)
  end
  if not name:find("/", 1, true) then return "names a registry but no path in it", 'for example "oci://host/charts"' end
  return names.image((name:gsub("/+$", "")))
end

local repository = s.record({
  { "url", text("Its address: https://..., or oci://REGISTRY/PATH.", {
    required = true, what = "the address of a chart repository", verify = shapes.with(chart_url) }) },
  { "kind", s.choice({ "museum", "index", "oci" },
    { doc = "Default: by the address; ChartMuseum's API is looked for, and index.yaml read when there is none." }) },
  { "username", text("Who we are there. Left out: anonymous, or the login in `registries` for oci.") },
  { "password", secret.shape { doc = "Password of that user." } },
  { "token", secret.shape { doc = "Sent as a bearer token." } },
  { "ca", file "CA certificate (PEM) of a repository with its own authority." },
  { "plain_http", s.boolean { doc = "With oci: speak http instead of https.", default = false } },
}, { plural = "chart repositories", verify = login })

local accept = s.text { what = "a version policy", plural = "version policies", verify = shapes.with(names.accept) }

-- An address, or a name of chart_repositories: cross.lua knows which.
local function where(doc)
  return text(doc, { required = true, what = "a chart repository", example = '"https://charts.example.com"' })
end

M.repositories = s.map(plain, repository, {
  doc = "Chart repositories, with their logins.", default = {}, name = "NAME",
})

M.charts = s.map(plain, s.record({
  { "repository", where "Where it is: an address, or a name in `chart_repositories`." },
  { "chart", text("Its name there. Default: the name here.", { verify = function(value, at)
    if not require("extensions.charts.version").is_name(value) then return at:fault("is not the name of a chart") end
    return value
  end }) },
  { "accept", s.either({
    { is "string", accept }, { is "table", s.map(plain, accept, { name = "ENV" }) },
  }, { doc = "Its own version policy, for all environments or by their names. Default: the environment's." }) },
}, { plural = "charts" }), {
  doc = "Charts that are released together, instead of source and image.", name = "CHART", max = 100,
})

M.publish = s.record({
  { "charts", s.list(inside "Folder of a chart.", { doc = "Folders of charts in the checkout.", required = true,
    min = 1, example = '{ "charts/web" }' }) },
  { "to", where "Where they go: an address, or a name in `chart_repositories`." },
  { "version", text("Version of the branch's charts; {count} is a number that grows with each commit. Those of a tag"
    .. " have its version.", { default = "0.0.0-staging.{count}", verify = function(value, at)
    local tried = value:gsub("{count}", "1", 1)
    if tried == value then return at:fault("must hold {count}", '"0.0.0-staging.{count}"') end
    if not require("semver").parse(tried) then return at:fault("makes no version: " .. s.quote(tried)) end
    return value
  end }) },
  { "command", command("Helm.", { default = { "helm" }, example = '{ "helm" }' }) },
  { "timeout", s.duration { doc = "Time to package and push one chart.", default = "5m", min = 1 } },
}, { doc = "Charts in the repository that are packaged and pushed with each release." })

-- The repository that a text means; records a fault when it means none.
local function resolve(config, value, at)
  local named = config.chart_repositories or {}
  if named[value] then return named[value] end
  if not value:find("://", 1, true) then
    local known = tables.keys(named)
    return at:fault(("there is no chart repository %s"):format(s.quote(value)), s.meant(value, known)
      or "name it in `chart_repositories`, or write its address")
  end
  local wrong, suggestion = chart_url(value)
  if wrong then return at:fault(wrong, suggestion) end
  return require("extensions.charts.repository").config(value, config)
end

local function check_chart(chart, app, config, at)
  chart.chart = chart.chart or chart.name
  chart.repository = resolve(config, chart.repository, at:child("repository"))
  for name in pairs(type(chart.accept) == "table" and chart.accept or {}) do
    if not (app.environments or {})[name] then
      at:child("accept"):child(name):fault(("there is no environment %s"):format(s.quote(name)))
    end
  end
end

-- The addresses of the repositories of an app's charts.
local function addresses_of(app, config, at)
  local addresses, seen = {}, {}
  for name, chart in pairs(app.charts) do
    chart.name = name
    if chart.repository then check_chart(chart, app, config, at:child(name)) end
    local url = chart.repository and chart.repository.url
    if url and not seen[url] then seen[url], addresses[#addresses + 1] = true, url end
  end
  table.sort(addresses)
  return table.concat(addresses, " ")
end

---Finds the repository that an app's charts are published to.
---@param app table
---@param config table
---@param at Cursor The app's.
function M.cross_publish(app, config, at)
  if app.follows == "charts" then return at:child("publish"):fault("does not belong to an app that follows charts") end
  if app.publish.to then app.publish.to = resolve(config, app.publish.to, at:child("publish"):child("to")) end
end

---Fills in what an app's charts inherit, and finds their repositories.
---@param app table
---@param config table
---@param at Cursor The app's.
function M.cross(app, config, at)
  if next(app.charts) == nil then at:child("charts"):fault("is empty: nothing would ever be released") end
  app.source = { url = addresses_of(app, config, at:child("charts")) }
end

return M
