-- The rules of keel, as tables: which annotation wins, what a policy allows, when a schedule is due.
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local annotations, candidates = require "extensions.keel.annotations", require "extensions.keel.candidates"
local schedule = require "extensions.keel.schedule"
local semver, time, workload = require "semver", require "time", require "extensions.keel.workload"
local test, eq, ok, fails = check.test, check.eq, check.ok, check.fails

-- ---- which annotation wins ----

local function policy_of(a, l)
  local settings = annotations.read(a, l)
  local p = settings.policy
  if not p then return "none" end
  return p.text .. (settings.match_tag and " matchTag" or "") .. (settings.match_prerelease and "" or " anyPre")
end

local PRECEDENCE <const> = {
  -- annotations, labels, what comes out
  { {}, {}, "none" },
  { { ["keel.sh/policy"] = "major" }, {}, "major" },
  { {}, { ["keel.sh/policy"] = "minor" }, "minor" },
  { { ["keel.sh/policy"] = "major" }, { ["keel.sh/policy"] = "minor" }, "major" },
  { { ["keel.observer/policy"] = "patch" }, {}, "patch" },
  { { ["keel.sh/policy"] = "all", ["keel.observer/policy"] = "patch" }, {}, "all" },
  { { ["keel.observer/policy"] = "patch" }, { ["keel.sh/policy"] = "all" }, "patch" },
  { { ["keel.sh/policy"] = "" }, { ["keel.sh/policy"] = "all" }, "none" },
  { { ["keel.sh/policy"] = "never" }, { ["keel.sh/policy"] = "all" }, "none" },
  { { ["keel.sh/policy"] = "nonsense" }, { ["keel.sh/policy"] = "all" }, "none" },
  { { ["keel.sh/policy"] = "Major" }, {}, "none" },
  { { ["keel.sh/policy"] = "regexp:(" }, {}, "none" },
  { { ["keel.sh/policy"] = "glob:build-*" }, {}, "glob:build-*" },
  { { ["keel.sh/policy"] = "regexp:^v\\d+$" }, {}, "regexp:^v\\d+$" },
  -- matchTag and matchPreRelease come from the map that the policy came from
  { { ["keel.sh/policy"] = "force", ["keel.sh/matchTag"] = "true" }, {}, "force matchTag" },
  { { ["keel.sh/policy"] = "force" }, { ["keel.sh/matchTag"] = "true" }, "force" },
  { {}, { ["keel.sh/policy"] = "force", ["keel.sh/matchTag"] = "true" }, "force matchTag" },
  { { ["keel.sh/matchTag"] = "true" }, { ["keel.sh/policy"] = "force" }, "force" },
  { { ["keel.sh/policy"] = "force", ["keel.sh/match-tag"] = "true" }, {}, "force matchTag" },
  { { ["keel.sh/policy"] = "force", ["keel.sh/match-tag"] = "true", ["keel.sh/matchTag"] = "false" }, {}, "force" },
  { { ["keel.sh/policy"] = "force", ["keel.sh/matchTag"] = "True" }, {}, "force" },
  { { ["keel.sh/policy"] = "force", ["keel.sh/matchTag"] = "1" }, {}, "force" },
  { { ["keel.sh/policy"] = "major", ["keel.sh/matchPreRelease"] = "false" }, {}, "major anyPre" },
  { { ["keel.sh/policy"] = "major", ["keel.sh/matchPreRelease"] = "yes" }, {}, "major anyPre" },
  { { ["keel.sh/policy"] = "major", ["keel.sh/matchPreRelease"] = "true" }, {}, "major" },
  { { ["keel.sh/policy"] = "major" }, { ["keel.sh/matchPreRelease"] = "false" }, "major" },
}

test("the policy's annotation wins over its label, and takes matchTag and matchPreRelease along", function()
  for i, row in ipairs(PRECEDENCE) do eq({ i, policy_of(row[1], row[2]) }, { i, row[3] }) end
end)

test("why a workload has no policy is said only when somebody asked for one", function()
  eq(annotations.read({}, {}).why, nil)
  ok(annotations.read({ ["keel.sh/policy"] = "nonsense" }).why:find("not an update policy", 1, true))
  ok(annotations.read({ ["keel.sh/policy"] = "never" }).why:find("never", 1, true))
end)

test("the trigger's annotation wins, and anything but poll means webhooks", function()
  local function trigger(a, l) return annotations.read(a, l).trigger end
  eq(trigger({}, {}), "default")
  eq(trigger({ ["keel.sh/trigger"] = "poll" }, {}), "poll")
  eq(trigger({}, { ["keel.sh/trigger"] = "poll" }), "poll")
  eq(trigger({ ["keel.sh/trigger"] = "default" }, { ["keel.sh/trigger"] = "poll" }), "default")
  eq(trigger({ ["keel.sh/trigger"] = "" }, { ["keel.sh/trigger"] = "poll" }), "default")
  eq(trigger({ ["keel.sh/trigger"] = "Poll" }, {}), "default")
end)

test("approvals: here the label wins, and what is no number stops updates", function()
  local function votes(a, l)
    local s = annotations.read(a, l)
    return s.approvals_error and "error" or s.approvals, s.deadline
  end
  local V, D = "keel.sh/approvals", "keel.sh/approvalDeadline"
  eq({ votes({}, {}) }, { 0, 24 })
  eq({ votes({ [V] = "2" }, {}) }, { 2, 24 })
  eq({ votes({ [V] = "2" }, { [V] = "1" }) }, { 1, 24 })
  eq({ votes({ [V] = "2", [D] = "5" }, {}) }, { 2, 5 })
  eq({ votes({ [V] = "2", [D] = "5" }, { [D] = "48" }) }, { 2, 48 })
  eq({ votes({ [V] = "0" }, {}) }, { 0, 24 })
  eq({ votes({ [V] = "+3" }, {}) }, { 3, 24 })
  eq({ votes({ [V] = "two" }, {}) }, { "error", 24 })
  eq({ votes({ [V] = "1.5" }, {}) }, { "error", 24 })
  eq({ votes({ [V] = "" }, {}) }, { "error", 24 })
  eq({ votes({ [V] = "1", [D] = "soon" }, {}) }, { 1, 24 })
  -- a date that cannot be written down would break every list of approvals
  local _, hours = votes({ [V] = "1", [D] = "9999999999" }, {})
  ok(time.iso(time.now() + hours * 3600))
end)

test("channels, schedules, secrets and notes", function()
  eq(annotations.read({ ["keel.sh/notify"] = " general , ops,," }).notify, { "general", "ops" })
  eq(annotations.read({}, { ["keel.sh/notify"] = "ops" }).notify, {})
  eq(annotations.read({ ["keel.sh/pollSchedule"] = "@every 2m" }).schedule, "@every 2m")
  eq(annotations.read({}, { ["keel.sh/pollSchedule"] = "@every 2m" }).schedule, nil)
  eq(annotations.read({ ["keel.sh/imagepullsecret"] = "a" }, { ["keel.sh/imagePullSecret"] = "b" }).pull_secret, "b")
  eq(annotations.read({ ["keel.sh/releaseNotes"] = "https://notes" }).release_notes, "https://notes")
end)

test("monitorContainers in any spelling, annotations first, the next when it is invalid", function()
  local function monitored(a, l)
    local s, list = annotations.read(a, l), {}
    for _, name in ipairs { "web", "web-proxy", "sidecar" } do
      if annotations.monitors(s, name) then list[#list + 1] = name end
    end
    return table.concat(list, " ")
  end
  eq(monitored({}, {}), "web web-proxy sidecar")
  eq(monitored({ ["keel.sh/monitorContainers"] = "^web$" }, {}), "web")
  eq(monitored({ ["keel.sh/monitorcontainers"] = "web" }, {}), "web web-proxy")
  eq(monitored({}, { ["keel.sh/monitorContainers"] = "side" }), "sidecar")
  eq(monitored({ ["keel.sh/monitorContainers"] = "^web$" }, { ["keel.sh/monitorContainers"] = "side" }), "web")
  eq(monitored({ ["keel.sh/monitorContainers"] = "(" }, { ["keel.sh/monitorContainers"] = "side" }), "sidecar")
  eq(monitored({ ["keel.sh/monitorContainers"] = "(" }, {}), "web web-proxy sidecar")
end)

test("init containers are updated for the exact annotation only, and other spellings are warned of", function()
  eq(annotations.read({ ["keel.sh/initContainers"] = "true" }).init_containers, true)
  eq(annotations.read({ ["keel.sh/initContainers"] = "yes" }).init_containers, false)
  local s = annotations.read({ ["keel.sh/initcontainers"] = "true" })
  eq(s.init_containers, false)
  ok(s.warnings[1]:find("only the annotation keel.sh/initContainers", 1, true))
  s = annotations.read({}, { ["keel.sh/initContainers"] = "true" })
  eq({ s.init_containers, #s.warnings }, { false, 1 })
end)

-- ---- the table of versions ----

-- current, candidate, then y/- for patch minor major all, then patch minor major with matchPreRelease=false.
local TABLE <const> = [[
1.2.3       1.2.3        ---- ---
1.2.3       1.2.2        ---- ---
1.2.3       1.2.4        yyyy yyy
1.2.3       1.3.0        -yyy -yy
1.2.3       2.0.0        --yy --y
1.2.3       1.2.4-rc.1   ---y yyy
1.2.3       2.0.0-rc.1   ---y --y
1.2.3-rc.1  1.2.3        ---y yyy
1.2.3-rc.1  1.2.3-rc.2   ---y yyy
1.2.3-rc.1  1.2.4-rc.1   yyyy yyy
1.2.3-rc.1  1.3.0-rc.1   -yyy -yy
1.2.3-dev   1.2.4-prod   ---y yyy
1.2         1.2.5        yyyy yyy
1.2         1.3          -yyy -yy
1           1.2.3        -yyy -yy
v1.2.3      1.2.4        yyyy yyy
1.2.3+a     1.2.3+b      ---- ---
1.2.3       3050         ---- ---
1.2.3       latest       ---- ---
1.2.3       1.2.3.4      ---- ---
master      1.0.0        ---- ---
latest      1.0.0        yyyy yyy
latest      2.0.0-rc.1   yyyy yyy
2024.01.05  2024.02.01   -yyy -yy
1.2.3-beta.01 1.2.3-beta.02  ---y yyy
1.2.3-beta.01 1.2.4-beta.01  yyyy yyy
1.2.3-beta.1  1.2.4-beta.01  ---y yyy
1.2.3-beta.01 1.2.3-beta.1   ---- ---
1.4.0-0123456 1.4.0-0123457  ---y yyy
1.2.3-beta9   1.2.3-beta10   ---- ---
1.2.3-beta10  1.2.3-beta9    ---y yyy
]]

local function settings_of(policy, pre) return annotations.read {
  ["keel.sh/policy"] = policy, ["keel.sh/matchPreRelease"] = pre and "true" or "false",
} end

-- What a workload would take when the repository has the current tag and the candidate.
local function takes(policy, pre, current, tags)
  local judged = candidates.judge(settings_of(policy, pre), current, tags)
  local last = judged[#judged]
  return last and last.allowed and last.tag or nil
end

test("every row of the table, with every policy, is taken or left as keel would", function()
  local rows = 0
  for current, candidate, default, any in TABLE:gmatch("(%S+) +(%S+) +(%S+) (%S+)") do
    rows = rows + 1
    for i, policy in ipairs { "patch", "minor", "major", "all" } do
      local want = default:sub(i, i) == "y" and candidate or nil
      eq({ current, candidate, policy, takes(policy, true, current, { current, candidate }) },
        { current, candidate, policy, want })
      eq({ "alone", current, candidate, policy, takes(policy, true, current, { candidate }) },
        { "alone", current, candidate, policy, want })
      if i <= 3 then
        want = any:sub(i, i) == "y" and candidate or nil
        eq({ current, candidate, policy, "any", takes(policy, false, current, { candidate, current }) },
          { current, candidate, policy, "any", want })
      end
    end
  end
  eq(rows, 31)
end)

test("latest may become anything that a policy looks at, and garbage is not looked at in a list", function()
  eq((semver.allows("major", "latest", "garbage")), true)
  eq(takes("major", true, "latest", { "garbage", "1.0.0", "latest" }), "1.0.0")
end)

test("the best of several is taken, and the ones above it say why they were not", function()
  local judged = candidates.judge(settings_of("minor", true), "1.2.3", { "1.2.4", "2.0.0", "1.4.0", "1.4.1-rc.1",
    "1.2.3", "1.0.0", "latest" })
  eq(judged[#judged].tag, "1.4.0")
  eq(judged[1].tag, "2.0.0")
  ok(judged[1].reason:find("major", 1, true))
  eq(judged[2].tag, "1.4.1-rc.1")
  eq(#judged, 3)
  eq(candidates.judge(settings_of("minor", true), "1.2.3", { "1.2.3", "1.2.2", "0.9.0" }), {})
  eq(candidates.judge(settings_of("minor", true), "1.2.3", { "1.2.2", "0.9.0" }), {}) -- its own tag was deleted
end)

test("glob goes by the alphabet, regexp by its group compare, and neither goes back", function()
  eq(takes("glob:build-*", true, "build-2", { "build-1", "build-3", "other-9", "build-10" }), "build-3")
  eq(takes("glob:build-*", true, "build-3", { "build-1", "build-2" }), nil)
  local policy = "regexp:^main-(?P<compare>\\d+)$"
  eq(takes(policy, true, "main-20240102", { "main-20240101", "main-20240103", "dev-20250101" }), "main-20240103")
  eq(takes(policy, true, "dev-1", { "main-20240101" }), "main-20240101")
  local judged = candidates.judge(settings_of(policy), "main-20240105", { "main-20240101", "main-20240103" })
  eq(judged[1].allowed, false)
  ok(judged[1].reason:find("nothing goes back", 1, true))
end)

test("force looks at the tag that runs, and without matchTag at newer versions", function()
  local pinned = annotations.read { ["keel.sh/policy"] = "force", ["keel.sh/matchTag"] = "true" }
  local free = annotations.read { ["keel.sh/policy"] = "force" }
  eq(candidates.same_tag(pinned, "1.2.3"), true)
  eq(candidates.same_tag(pinned, "staging"), true)
  eq(candidates.same_tag(free, "staging"), true)
  eq(candidates.same_tag(free, "1.2.3"), false)
  eq(candidates.same_tag(settings_of("major", true), "staging"), false)
  eq(takes("force", true, "1.2.3", { "0.0.1", "3.0.0", "zzz", "2.0.0" }), "3.0.0")
  eq(takes("force", true, "1.2.3", { "0.0.1", "zzz" }), nil)
  -- a whole number is a version to force: build numbers count
  eq(candidates.same_tag(free, "42"), false)
  eq(candidates.same_tag(free, "latest"), true)
  eq(takes("force", true, "42", { "7", "43", "9", "latest", "100" }), "100")
  eq(takes("force", true, "v42-rc.1", { "v42-rc.2", "v41" }), "v42-rc.2")
  eq(takes("force", true, "42", { "7", "41", "42" }), nil)
  eq(takes("force", true, "1.2.3", { "20240101", "1.2.4" }), "1.2.4") -- but no date for who has another kind of number
end)

test("numbers that are ordered as text are pointed out, wherever the tag stands", function()
  local function said(policy, current, tags)
    local list = {}
    for _, c in ipairs(candidates.judge(settings_of(policy, true), current, tags)) do
      if c.trap then list[#list + 1] = c.tag .. (c.allowed and " taken" or " left") end
    end
    return table.concat(list, ", ")
  end
  eq(said("all", "1.2.3-beta9", { "1.2.3-beta10", "1.2.3-beta9", "1.2.3-beta8" }), "1.2.3-beta10 left")
  eq(said("major", "1.2.3-beta9", { "1.2.3-beta10", "1.2.3-beta9" }), "1.2.3-beta10 left")
  eq(said("all", "1.2.3-beta10", { "1.2.3-beta9", "1.2.3-beta10" }), "1.2.3-beta9 taken")
  eq(said("all", "1.2.3-beta.9", { "1.2.3-beta.10", "1.2.3-beta.9" }), "")
  eq(said("all", "1.2.3-beta09", { "1.2.3-beta10", "1.2.3-beta9" }), "")
  eq(said("all", "1.2.3-rc1", { "1.2.4-rc10", "1.2.3-rc2", "1.2.3-beta3" }), "")
  local judged = candidates.judge(settings_of("all", true), "1.2.3-beta9", { "1.2.3-beta10" })
  ok(judged[1].reason:find('"beta10" and "beta9" are compared as text', 1, true), judged[1].reason)
end)

-- ---- schedules ----

test("schedules are due when keel's cron is", function()
  local function following(text, from) return time.iso(ok(schedule.parse(text)):next(ok(time.parse_iso(from)))) end
  eq(following("@every 1m30s", "2026-01-01T00:00:00Z"), "2026-01-01T00:01:30Z")
  eq(following("@every 1.5h", "2026-01-01T00:00:00Z"), "2026-01-01T01:30:00Z")
  eq(following("@every 10ms", "2026-01-01T00:00:00Z"), "2026-01-01T00:00:01Z")
  eq(following("@hourly", "2026-01-01T00:00:00Z"), "2026-01-01T01:00:00Z")
  eq(following("@daily", "2026-02-28T10:00:00Z"), "2026-03-01T00:00:00Z")
  eq(following("@weekly", "2026-11-23T10:00:00Z"), "2026-11-29T00:00:00Z") -- a Sunday
  eq(following("@yearly", "2026-11-23T10:00:00Z"), "2027-01-01T00:00:00Z")
  eq(following("0 */15 * * * *", "2023-05-15T14:29:00Z"), "2023-05-15T14:30:00Z")
  eq(following("0 30 9 * * *", "2023-05-15T09:30:00Z"), "2023-05-16T09:30:00Z")
  eq(following("15,45 * * * *", "2023-05-15T09:30:20Z"), "2023-05-15T09:30:45Z") -- five fields: seconds come first
  eq(following("0 0 12 * * mon-fri", "2026-11-21T00:00:00Z"), "2026-11-23T12:00:00Z")
  eq(following("0 0 0 29 feb *", "2026-11-21T00:00:00Z"), "2028-02-29T00:00:00Z")
  eq(following("0 0 0 1 * sun", "2026-11-23T00:00:00Z"), "2026-11-29T00:00:00Z") -- the first, or a Sunday
  eq(following("10-20/5 59 23 31 12 ?", "2026-12-31T23:59:15Z"), "2026-12-31T23:59:20Z")
  eq(following("0 0-30/10 * * * *", "2026-11-23T10:11:00Z"), "2026-11-23T10:20:00Z")
  eq(following("0 0-30/10 * * * *", "2026-11-23T10:30:00Z"), "2026-11-23T11:00:00Z")
  eq(following("0 5/20 * * * *", "2026-11-23T10:26:00Z"), "2026-11-23T10:45:00Z")
  -- a star with a step is a star: both fields must agree then
  eq(following("0 0 0 */2 * mon", "2026-11-23T12:00:00Z"), "2026-12-07T00:00:00Z") -- a Monday with an odd date
  eq(following("0 0 0 13 * */5", "2026-11-23T12:00:00Z"), "2026-12-13T00:00:00Z") -- the 13th, a Sunday or a Friday
  eq(following("0 0 0 29 2 */6", "2026-11-23T12:00:00Z"), "2032-02-29T00:00:00Z")
  eq(following("0 0 0 30 2 mon", "2026-11-23T12:00:00Z"), "2027-02-01T00:00:00Z") -- a Monday is enough
end)

test("a schedule that never comes is refused", function()
  for _, never in ipairs { "0 0 0 30 2 *", "0 0 0 31 feb ?", "0 0 0 31 2,4,6,9,11 */2", "* * * 30-31 2" } do
    ok(fails("invalid", schedule.parse(never)).message:find("never comes", 1, true), never)
  end
  local kept = workload.keep("deployment", {
    metadata = { name = "web", namespace = "shop", annotations = { ["keel.sh/policy"] = "minor",
      ["keel.sh/pollSchedule"] = "0 0 0 30 2 *" } },
    spec = { template = { spec = { containers = { { name = "a", image = "r.invalid/web:1.0.0" } } } } },
  })
  local used, wrong = workload.schedule(kept.settings, { poll = 60 })
  eq(used.every, 60)
  ok(wrong:find("never comes", 1, true))
end)

test("what is no schedule is refused", function()
  for _, bad in ipairs { "", "1m", "@every", "@every x", "@every 5", "@often", "* * * *", "* * * * * * *",
    "60 * * * * *",
    "* * 24 * * *", "* * * 0 * *", "* * * * 13 *", "* * * * * 7", "a * * * * *", "5-1 * * * * *", "*/0 * * * * *",
    ", * * * * *", "* * * * foo *", ("*"):rep(500), "1--2 * * * * *", "1/2/3 * * * * *" } do
    fails("invalid", schedule.parse(bad))
  end
end)

test("whoever may annotate a workload cannot keep the host busy with a schedule, nor break it with a number", function()
  for _, bad in ipairs { "@every " .. ("9"):rep(240) .. "h", "@every 99999999h", "@every " .. ("9"):rep(320) .. "h" } do
    fails("invalid", schedule.parse(bad))
  end
  local used = time.cpu()
  fails("invalid", schedule.parse("@every " .. ("1h"):rep(100000)))
  ok(time.cpu() - used < 0.5)
  local kept = workload.keep("deployment", {
    metadata = { name = "web", namespace = "shop", annotations = { ["keel.sh/policy"] = "minor",
      ["keel.sh/pollSchedule"] = "@every " .. ("9"):rep(320) .. "h" } },
    spec = { template = { spec = { containers = { { name = "a", image = "r.invalid/web:1.0.0" } } } } },
  })
  eq(workload.app({ kept }, { cluster = "default", poll = 60, notify = {}, policy = "keel" }, {}).poll, 60)
end)

test("how often to look whether a schedule is due", function()
  eq(ok(schedule.parse("@every 2m")):interval(), 120)
  eq(ok(schedule.parse("0 0 * * * *")):interval(), 60)
  eq(ok(schedule.parse("*/10 * * * * *")):interval(), 5)
end)
