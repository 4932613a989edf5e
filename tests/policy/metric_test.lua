-- Metrics: numbers of Prometheus and of JSON addresses, sampled over a time, in runs and as checks of releases.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields, inject-field -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local errors, fs, json, metric, sim = require "errors", require "fs", require "json", require "checks.metric",
  require "sim"
local record = require "journal.record"
local base = require "lab.base"
local test, eq, has = check.test, check.eq, check.has

-- Answers of Prometheus 2.42, as it gave them.
local function vector(...)
  local list = {}
  for i, value in ipairs { ... } do
    list[i] = ('{"metric":{"instance":"%d"},"value":[1795957250.606,"%s"]}'):format(i, value)
  end
  return ('{"status":"success","data":{"resultType":"vector","result":[%s]}}'):format(table.concat(list, ","))
end
local SCALAR <const> = '{"status":"success","data":{"resultType":"scalar","result":[1795957240.232,"2"]}}'
local MATRIX <const> = '{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up"},'
  .. '"values":[[1795957247.917,"0"],[1795957248.917,"0"]]}]}}'
local BAD_QUERY <const> = '{"status":"error","errorType":"bad_data","error":"invalid parameter \\"query\\": 1:5: parse '
  .. 'error: unclosed left parenthesis"}'
local MANY_TO_MANY <const> = '{"status":"error","errorType":"execution","error":"found duplicate series"}'
local TIMED_OUT <const> = '{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}'
local PARTIAL <const> = '{"status":"success","warnings":["store down"],"data":{"resultType":"vector","result":'
  .. '[{"metric":{},"value":[1,"0.5"]}]}}'

-- An HTTP module whose answers are given in turn: bodies, { status, body }, or errors.
local function answering(list)
  local http = { asked = {} }
  function http.get(url, options)
    http.asked[#http.asked + 1] = { url = url, options = options }
    local answer = list[math.min(#http.asked, #list)]
    if errors.is(answer) then return nil, answer end
    if type(answer) == "table" then return { status = answer[1], body = answer[2] } end
    return { status = 200, body = answer }
  end
  return http
end

local function m(more)
  local options = { prometheus = "http://127.0.0.1:9/", query = "errors > 0", below = 1, over = 0.3, every = 0.1 }
  for key, value in pairs(more or {}) do options[key] = value or nil end
  return (metric.given(options, { app_config = {}, world = { config = { dir = "/" } } }))
end

-- What comes of answers, one a sample.
local function outcome(more, ...)
  local http, config, readings, list = answering { ... }, m(more), { began = 0 }, { ... }
  for i = 1, #list do
    local result = metric.sample(config, http, readings, i == #list)
    if result then return result.outcome, result.summary, result, http end
  end
end

test("each answer of Prometheus has one meaning", function()
  eq(outcome(nil, vector "0.5"), "passed")
  eq(outcome(nil, SCALAR), "failed")
  eq(outcome(nil, vector("0.5", "0.25")), "passed")
  eq(outcome(nil, vector("0.5", "3", "0.5")), "failed") -- each of them must be in bounds
  eq(outcome(nil, vector "+Inf"), "failed")
  eq(outcome({ below = false, above = 1 }, vector "+Inf"), "passed")
  eq(outcome(nil, vector "NaN"), "inconclusive")
  eq(outcome(nil, vector()), "inconclusive")
  eq(outcome({ empty = 0 }, vector "NaN"), "passed")
  eq(outcome({ empty = 2 }, vector()), "failed")
  eq(outcome(nil, PARTIAL), "inconclusive")
  eq(outcome({ partial = true }, PARTIAL), "passed")
  for _, transient in ipairs { { 503, TIMED_OUT }, { 502, "<html>" }, { 429, "" }, "no JSON",
    errors.new("refused", "nobody listens there") } do
    eq(outcome(nil, transient), "inconclusive")
    eq(outcome({ samples = 1 }, transient, vector "0.5"), "passed")
  end
  for _, wrong in ipairs { { { 400, BAD_QUERY }, "invalid", "unclosed left parenthesis" }, { MATRIX, "invalid",
    "gives a matrix" }, { { 422, MANY_TO_MANY }, "invalid", "duplicate series" }, { { 401, "" }, "denied", "HTTP 401" },
    { { 302, "" }, "protocol", "HTTP 302" }, { { 404, "" }, "protocol", "HTTP 404" } } do
    local ok, err = pcall(outcome, nil, wrong[1])
    eq({ ok, err.code }, { false, wrong[2] })
    has(err.message, wrong[3])
  end
  local _, _, _, http = outcome(nil, vector "0.5")
  eq(http.asked[1].url, "http://127.0.0.1:9/api/v1/query?query=errors%20%3E%200")
end)

test("a number of a JSON answer is found by its path", function()
  local body = json.encode { errors = { rate = 0.5, text = "0.25" }, list = { { v = 7 } }, null = json.null }
  local function at(path)
    return outcome({ prometheus = false, query = false, url = "http://x/", json = path }, body)
  end
  eq({ (at "errors.rate"), (at "errors.text"), (at "list.1.v") }, { "passed", "passed", "failed" })
  local how, said = at "errors.none"
  eq(how, "inconclusive")
  has(said, "the answer has no number at errors.none")
  eq({ (at "null"), (at "errors.rate.deep"), (at "list.2.v") }, { "inconclusive", "inconclusive", "inconclusive" })
end)

test("so many samples may be out of bounds, so many must be there, and what is missing proves nothing", function()
  local good, bad, away = vector "0.5", vector "2", { 503, "" }
  local how, said = outcome(nil, good, bad)
  eq(how, "failed")
  has(said, "0.5 to 2, mean 1.25 in 2 samples, must be below 1; 1 out of bounds, 0 allowed")
  eq(outcome({ failures = 1 }, good, bad, good), "passed")
  eq(outcome({ failures = 1 }, bad, good, bad), "failed")
  eq(outcome({ samples = 3 }, good, away, good), "inconclusive")
  how, said = outcome({ samples = 2 }, good, away, good)
  eq(how, "passed")
  has(said, "1 sample missing (HTTP 503)")
  local config = m { samples = 3 }
  local result = select(3, outcome({ samples = 3 }, good, away))
  eq({ metric.verdict(config, result) }, { false, "metric inconclusive: errors > 0: 0.5 in 1 sample, must be below 1; "
    .. "1 sample missing (HTTP 503); it takes 3 samples to tell" })
  eq(metric.verdict(m { inconclusive = "pass" }, result), true)
  local passes, words = metric.verdict(m { dry_run = true }, result)
  eq(passes, true)
  has(words, "dry run, it would have failed: metric inconclusive")
end)

test("bounds are what they say, and wrong options are told", function()
  for value, fine in pairs { ["1"] = true, ["2"] = true, ["0.99"] = false, ["2.01"] = false } do
    eq({ value, (outcome({ below = false, within = { 1, 2 } }, vector(value))) },
      { value, fine and "passed" or "failed" })
  end
  eq({ (outcome({ below = 1 }, vector "1")), (outcome({ below = false, above = 1 }, vector "1")) },
    { "failed", "failed" })
  for text, options in pairs {
    ["needs either prometheus or url"] = { prometheus = false }, ["has no query"] = { query = false },
    ["has no bound"] = { below = false }, ["the lower one first"] = { within = { 2, 1 } },
    ["at most 2000 samples"] = { over = "1d", every = "1s" }, ["unknown key"] = { belwo = 1 },
    ["more than the time has room for"] = { samples = 9 },
    ["is a secret written in plain sight"] = { token = "abcdef" },
  } do
    check.raises(text, m, options)
  end
  for _, token in ipairs { { env = "PATH" }, { file = "/etc/hostname" }, { file = "/etc/hostname", env = "PATH" } } do
    local ok, err = pcall(m, { token = token })
    eq({ ok, err.code }, { false, "denied" })
  end
end)

test("what follows the question mark of an address is in no name and no error", function()
  local config = m { prometheus = false, query = false, url = "http://x/numbers?key=hidden", json = "a" }
  eq(config.name, "http://x/numbers")
  local _, err = pcall(metric.ask, config, answering { { 401, "" } })
  check.ok(not require("json").encode(errors.plain(err)):find("hidden", 1, true))
end)

test("a token goes to the server and nowhere else", function()
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  assert(fs.write(dir.path .. "/token", "secret-of-the-metrics\n"))
  local at = require("config.load").cursor_of_file("a check", "/")
  local config = require("config.metric").shape():check(
    { url = "http://x/", json = "a", below = 1, token = { file = dir.path .. "/token" } }, at)
  local http = answering { '{"a":0.5}' }
  metric.sample(config, http, { began = 0 }, true)
  eq(http.asked[1].options.auth, { bearer = "secret-of-the-metrics" })
  http = answering { { 401, "no: secret-of-the-metrics" } }
  local _, err = pcall(metric.sample, config, http, { began = 0 }, true)
  check.ok(not tostring(err):find("secret-of-the", 1, true))
end)

-- ---- in runs ----

local NOTHING <const> = "return policy { watch = function() return nil, 'not in this test' end, run = function() end }"

local function stage(answers, options, body)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local s = { world = sim.open(dir.path .. "/world"), http = answering(answers) }
  local world, scripts = s.world.world, dir.path .. "/scripts"
  function s.world.world(self)
    local openers = world(self)
    local real = require("engine.world").real().module
    function openers.module(name, ...) return name == "http" and s.http or real(name, ...) end
    return openers
  end
  assert(fs.mkdir(scripts))
  assert(fs.write(scripts .. "/production.lua", NOTHING))
  assert(fs.write(scripts .. "/staging.lua", ([[return policy {
    watch = function(place) return place:head() end,
    run = function(run, head) %s end }]]):format(body)))
  options.scripts = scripts
  function s.open() s.host = sim.host(s.world, dir.path .. "/state", options) return s.host end
  check.defer(function() if s.host then pcall(s.host.close, s.host) end end)
  s.world:push("main", "a")
  function s.log(run)
    local lines = {}
    for _, entry in ipairs(assert(s.host:run_log(run, 0)).entries) do lines[#lines + 1] = entry.text end
    return table.concat(lines, "\n")
  end
  return s
end

local MEASURE <const> = [[run:metric { name = "error rate", prometheus = "http://prometheus.invalid", query = "rate",
  below = 0.1, over = "300ms", every = "100ms" }]]

test("a run goes on when its metric stayed in bounds, and its log and why say what was seen", function()
  local s = stage({ vector "0.01", vector "0.03" }, {}, MEASURE .. " run:release(run:image(head.commit))")
  s.open()
  sim.settle(s.host)
  eq({ #s.http.asked, s.world:running("staging").commit }, { 4, sim.commit "a" })
  local words = "metric passed: error rate: 0.01 to 0.03, mean 0.025 in 4 samples, must be below 0.1"
  has(s.log(1), words)
  eq(s.host:history({ app = "web" }).runs[1].metrics, { words })
end)

test("a metric out of bounds ends the run, or the canary of it, and rolls it back", function()
  local options = { parts = { "eu", "us" } }
  local s = stage({ vector "0.01", vector "0.5" }, options, ([[
    local image = run:image(head.commit)
    run:release(image, { part = "eu" })
    if head.commit == "%s" then %s end
    run:release(image)]]):format(sim.commit "b", MEASURE))
  assert(fs.write(options.scripts .. "/rollback.lua", fs.read "scripts/rollback.lua"))
  s.open()
  sim.settle(s.host)
  s.world:push("main", "b")
  sim.settle(s.host)
  eq({ s.world:running("staging:eu").commit, s.world:running("staging:us").commit }, { sim.commit "a", sim.commit "a" })
  has(s.world:messages()[#s.world:messages()], "metric failed: error rate: 0.01 to 0.5")
  has(s.host:why("web", "staging").environments[1].reason, "metric failed: error rate")
end)

test("a metric among the checks of an environment is sampled after the others", function()
  local s = stage({ vector "0.5" }, {}, "run:release(run:image(head.commit))")
  local config = sim.config
  function sim.config(...)
    local whole = config(...)
    table.insert(whole.app_list[1].environment_list[1].verify, 1, { metric = m { below = 0.1 }, within = 1, every = 1 })
    return whole
  end
  check.defer(function() sim.config = config end)
  s.open()
  sim.settle(s.host)
  local run = s.host.journal:run_by_id(1)
  eq(run.state, "failed")
  has(run.error.message, "metric failed: errors > 0: 0.5 in 1 sample, must be below 0.1; 1 out of bounds, 0 allowed")
end)

test("a restart goes on with the samples that it had, within the same time", function()
  local s = stage({ vector "0.01" }, {}, (MEASURE:gsub("300ms", "3600s"):gsub("100ms", "1800s")))
  local host = s.open()
  local running = require("task").spawn(function() return host:run() end)
  check.eventually(function() return #s.http.asked == 1 end)
  check.eventually(function()
    local row = host.journal:row("SELECT result FROM steps WHERE name = 'metric'")
    return row and row.result:find("0.01", 1, true)
  end)
  host:stop(0)
  running:join()
  host:close()
  local db = assert(require("store").open(host.state .. "/journal.db"))
  local row = assert(db:row("SELECT result FROM steps WHERE name = 'metric'"))
  local seen = record.value_of(row.result)
  seen.began = seen.began - 3700 -- all of it passed while the host was down
  assert(db:run("UPDATE steps SET result = ? WHERE name = 'metric'", record.value(seen, "metric")))
  db:close()
  assert(s.open():once())
  s.open()
  eq({ #s.http.asked, s.host.journal:run_by_id(1).state }, { 2, "done" })
  has(s.log(1), "metric passed: error rate: 0.01 in 2 samples")
end)

test("a real Prometheus answers as the answers above say", function()
  local program = base.exists "prometheus"
  if not program then check.skip "prometheus is not installed" end
  local dir, port = base.dir "prometheus", base.port()
  local address = "http://127.0.0.1:" .. port
  assert(fs.write(dir .. "/prometheus.yml", ([[
global: { scrape_interval: 1s }
scrape_configs:
  - job_name: self
    static_configs: [ { targets: ["127.0.0.1:%d"] } ]
]]):format(port)))
  local http = require "http"
  base.start {
    name = "prometheus", dir = dir, argv = { program, "--config.file=" .. dir .. "/prometheus.yml",
      "--storage.tsdb.path=" .. dir .. "/data", "--web.listen-address=127.0.0.1:" .. port },
    ready = function()
      local config = m { prometheus = address, query = 'up{job="self"}', below = 2 }
      local ok, numbers = pcall(metric.ask, config, http)
      return ok and numbers ~= nil
    end,
  }
  local function ask(query) return metric.ask(m { prometheus = address, query = query }, http) end
  eq({ ask 'up{job="self"}', ask "1+1", ask "vector(1)/0" }, { { 1 }, { 2 }, { math.huge } })
  eq({ ask "vector(0)/0" }, { nil, "it is NaN" })
  eq({ ask "nothing_like_it" }, { nil, "no series matches" })
  for query, text in pairs { ["sum("] = "unclosed left parenthesis", ["up[1m]"] = "gives a matrix",
    ['"text"'] = "gives a string" } do
    local ok, err = pcall(ask, query)
    eq({ ok, err.code }, { false, "invalid" })
    has(err.message, text)
  end
end)
