-- Versions, ranges and update policies as scripts see them.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local semver = require "semver"
local test, eq, ok, fails, raises = check.test, check.eq, check.ok, check.fails, check.raises

test("parse tells every part, numbers as integers", function()
  eq(semver.parse("1.20.300-rc.1.x-y+b.007"), {
    major = 1, minor = 20, patch = 300, pre = { "rc", 1, "x-y" }, build = { "b", "007" },
    text = "1.20.300-rc.1.x-y+b.007",
  })
  eq(semver.parse("1.2.3"), { major = 1, minor = 2, patch = 3, pre = {}, build = {}, text = "1.2.3" })
end)

test("numbers that no integer holds stay exact", function()
  local v = ok(semver.parse("9223372036854775807.9223372036854775808.18446744073709551616"))
  eq(v.major, math.maxinteger)
  eq(v.minor, "9223372036854775808")
  eq(v.patch, "18446744073709551616")
  eq(semver.compare("9223372036854775808.0.0", "9223372036854775809.0.0"), -1)
end)

test("what is no version is an error with a short target", function()
  for _, text in ipairs { "", "v1.2.3", "1.2", "01.2.3", "1.2.3-01", "latest", "1.2.3 ", "1.2.3\0", "=1.2.3" } do
    local err = fails("invalid", semver.parse(text))
    eq(err.op, "semver.parse")
  end
  local err = fails("too_large", semver.parse("1.0.0-" .. ("x"):rep(1000000)))
  ok(#err.target < 80)
  ok(semver.parse("1.0.0-" .. ("x"):rep(250)))
end)

test("a tag loses one lower-case v and keeps its spelling", function()
  local v = ok(semver.tag("v1.4.9-rc.1"))
  eq(v.text, "1.4.9-rc.1")
  eq(v.tag, "v1.4.9-rc.1")
  eq(ok(semver.tag("1.4.9")).tag, "1.4.9")
  for _, text in ipairs { "V1.2.3", "vv1.2.3", "release-1.2.3", "v1.2", "v", "", "=v1.2.3", " v1.2.3" } do
    fails("invalid", semver.tag(text))
  end
end)

test("compare takes texts, parsed versions and tags", function()
  eq(semver.compare("1.9.0", "1.10.0"), -1)
  eq(semver.compare(semver.tag("v2.0.0"), semver.parse("2.0.0+build")), 0)
  eq(semver.compare("2.0.0", semver.tag("v2.0.0-rc.1")), 1)
  fails("invalid", semver.compare("1.0.0", "one"))
  fails("invalid", semver.compare("v1.0.0", "1.0.0"))
end)

test("the order of SemVer's own page, and more", function()
  local list = { "1.0.0-0", "1.0.0--1", "1.0.0-BETA", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta",
    "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0-staging.9", "1.0.0-staging.10", "1.0.0" }
  for i, a in ipairs(list) do
    for k, b in ipairs(list) do
      eq(semver.compare(a, b), i < k and -1 or i > k and 1 or 0, a .. " and " .. b)
    end
  end
end)

test("sort goes upwards into a new list and keeps equals in order", function()
  local list = { "1.10.0", semver.tag("v1.2.0"), "1.2.0+a", "1.2.0-rc.1", "0.9.9" }
  local sorted = ok(semver.sort(list))
  eq({ sorted[1], sorted[2], sorted[3].tag, sorted[4], sorted[5] },
    { "0.9.9", "1.2.0-rc.1", "v1.2.0", "1.2.0+a", "1.10.0" })
  eq(list[1], "1.10.0")
  fails("invalid", semver.sort { "1.0.0", "nope" })
  eq(semver.sort {}, {})
end)

test("sorting agrees with comparing, whatever the versions look like", function()
  local seed = 7
  local function pick(list)
    seed = (seed * 1103515245 + 12345) % 2147483648
    return list[1 + (seed >> 8) % #list]
  end
  local numbers = { "0", "1", "2", "9", "10", "99", "100", ("9"):rep(30), "1" .. ("0"):rep(30) }
  local words = { "0", "1", "10", "2", "a", "aa", "a-", "-", "A", "Z", "alpha", "alpha1", "0a", "rc", ("9"):rep(25) }
  local versions = {}
  for i = 1, 1500 do
    local text = ("%s.%s.%s"):format(pick(numbers), pick(numbers), pick(numbers))
    local pre = {}
    for n = 1, pick { 0, 0, 1, 2, 3 } do pre[n] = pick(words) end
    if #pre > 0 then text = text .. "-" .. table.concat(pre, ".") end
    versions[i] = text .. "+b" .. i
  end
  local sorted, place = ok(semver.sort(versions)), {}
  for i, v in ipairs(versions) do place[v] = i end
  eq(#sorted, #versions)
  for i = 2, #sorted do
    local order = semver.compare(sorted[i - 1], sorted[i])
    ok(order < 0 or order == 0 and place[sorted[i - 1]] < place[sorted[i]], sorted[i - 1] .. " " .. sorted[i])
  end
end)

test("satisfies follows the range table", function()
  local yes = {
    { "1.3.0", ">=1.2, <2" }, { "1.2.1", "!=1.2.0" }, { "1.2.0", "=>1.2" }, { "1.2.9", "=<1.2" },
    { "1.3.0-beta", ">=1.2.3-0" }, { "2.0.0-alpha", ">=1.0.0-0 <2.0.0" }, { "1.2.4-rc.2", "^1.2.3-rc.1" },
    { "0.0.0-staging.x", "0.0.0-staging.x" }, { "1.4.9", "1.2 - 1.4" }, { "1.2.7", "~>1.2" }, { "1.2.3", "*" },
    { "1.2.3", "" },
  }
  local no = {
    { "2.0.0-alpha", ">=1.0.0-0 <2.0.0-0" }, { "0.5.0", "~0.0.0" }, { "1.0.0-rc.1", "*" }, { "1.0.0-rc.1", "" },
    { "1.4.1", ">1.4" }, { "0.3.0", "^0.2.3" }, { "0.0.4", "^0.0.3" }, { "1.3.0", "~>1.2" },
    { "1.3.0-beta", ">=1.2.3" },
  }
  local function all(cases, want)
    for _, case in ipairs(cases) do eq(semver.satisfies(case[1], case[2]), want, case[1] .. " in " .. case[2]) end
  end
  all(yes, true)
  all(no, false)
  eq(semver.satisfies(semver.tag("v1.4.0"), "^1.2"), true)
  fails("invalid", semver.satisfies("1.2.3", "latest"))
  fails("invalid", semver.satisfies("v1.2.3", "*"))
  fails("too_large", semver.satisfies("1.2.3", ("1 "):rep(1000)))
end)

-- Rows of keel's table: current, candidate, then patch, minor, major, all, and patch, minor, major with
-- match_prerelease = false. `y` update, `-` no, `E` an error that is treated as no.
local TABLE = {
  { "1.2.3", "1.2.3", "----", "---" }, { "1.2.3", "1.2.2", "----", "---" },
  { "1.2.3", "1.2.4", "yyyy", "yyy" },
  { "1.2.3", "1.3.0", "-yyy", "-yy" },
  { "1.2.3", "2.0.0", "--yy", "--y" },
  { "1.2.3", "1.2.4-rc.1", "---y", "yyy" },
  { "1.2.3", "2.0.0-rc.1", "---y", "--y" },
  { "1.2.3-rc.1", "1.2.3", "---y", "yyy" },
  { "1.2.3-rc.1", "1.2.3-rc.2", "---y", "yyy" },
  { "1.2.3-rc.1", "1.2.4-rc.1", "yyyy", "yyy" },
  { "1.2.3-rc.1", "1.3.0-rc.1", "-yyy", "-yy" },
  { "1.2.3-dev", "1.2.4-prod", "---y", "yyy" },
  { "1.2", "1.2.5", "yyyy", "yyy" }, { "1.2", "1.3", "-yyy", "-yy" },
  { "1", "1.2.3", "-yyy", "-yy" },
  { "v1.2.3", "1.2.4", "yyyy", "yyy" },
  { "1.2.3+a", "1.2.3+b", "----", "---" },
  { "1.2.3", "3050", "EEEE", "EEE" }, { "1.2.3", "latest", "EEEE", "EEE" }, { "1.2.3", "1.2.3.4", "EEEE", "EEE" },
  { "master", "1.0.0", "EEEE", "EEE" }, { "", "1.0.0", "EEEE", "EEE" },
  { "latest", "1.0.0", "yyyy", "yyy" }, { "latest", "any garbage", "yyyy", "yyy" },
  { "2024.01.05", "2024.02.01", "-yyy", "-yy" },
  { "1.2.3-beta.01", "1.2.3-beta.02", "---y", "yyy" },
  { "1.2.3-beta.01", "1.2.4-beta.01", "yyyy", "yyy" },
  { "1.2.3-beta.1", "1.2.4-beta.01", "---y", "yyy" },
  { "1.2.3-beta.01", "1.2.3-beta.1", "----", "---" },
  { "1.4.0-0123456", "1.4.0-0123457", "---y", "yyy" },
  { "1.2.3-beta9", "1.2.3-beta10", "----", "---" },
  { "1.2.3-beta10", "1.2.3-beta9", "---y", "yyy" },
}

test("the semver policies decide as keel's table says, with a reason", function()
  local policies = { "patch", "minor", "major", "all" }
  for _, row in ipairs(TABLE) do
    local current, candidate = row[1], row[2]
    local function decide(column, want, options)
      local got, reason = semver.allows(policies[column], current, candidate, options)
      eq(got, want == "y", ("%s: %s -> %s (%s)"):format(policies[column], current, candidate, tostring(reason)))
      ok(type(reason) == "string" and #reason > 10, "there is no reason")
      if want == "E" then check.has(reason, "is not a version") end
    end
    for i = 1, 4 do decide(i, row[3]:sub(i, i)) end
    for i = 1, 4 do decide(i, row[3]:sub(i, i), { match_prerelease = true }) end
    for i = 1, 3 do decide(i, row[4]:sub(i, i), { match_prerelease = false }) end
    decide(4, row[3]:sub(4, 4), { match_prerelease = false })
  end
end)

test("reasons are words that an operator understands", function()
  local function reason(...) return (select(2, semver.allows(...))) end
  eq(reason("minor", "1.4.9", "2.0.0"), '2.0.0 changes the major number of 1.4.9, which the policy "minor" keeps')
  eq(reason("major", "1.4.9", "1.4.8"), "1.4.8 is below 1.4.9")
  eq(reason("major", "1.4.9", "v1.4.9"), "v1.4.9 is no newer than 1.4.9")
  eq(reason("major", "1.4.9", "1.5.0-rc.1"), '1.5.0-rc.1 has the pre-release "rc.1", 1.4.9 has no pre-release')
  eq(reason("major", "1.4.9", "1.5.0"), "1.5.0 is above 1.4.9 by its minor number")
  eq(reason("major", "main", "1.5.0"), 'the current "main" is not a version')
  ok(#reason("major", "1.0.0", ("9"):rep(100000) .. ".0") < 200)
end)

test("glob needs a match and a later place in the alphabet", function()
  eq((semver.allows("glob:build-*", "build-1", "build-2")), true)
  eq((semver.allows("glob:build-*", "build-2", "build-2")), false)
  eq((semver.allows("glob:build-*", "build-2", "build-10")), false)
  eq((semver.allows("glob:build-*", "build-1", "other-2")), false)
  eq((semver.allows("glob:*", "a", ("b"):rep(257))), false)
  eq((semver.allows("glob:a?", "a", "ab")), false)
end)

test("regexp needs a match only, in Go's syntax", function()
  eq((semver.allows("regexp:^([a-z]+)-(?P<compare>\\d{8})$", "x", "main-20240105")), true)
  eq((semver.allows("regexp:^([a-z]+)-(?P<compare>\\d{8})$", "main-20250101", "main-20240105")), true)
  eq((semver.allows("regexp:^v\\d+$", "v1", "v1.2")), false)
  eq((semver.allows("regexp:(a*)*b", "x", ("a"):rep(200))), false)
  local allowed, why = semver.allows("regexp:(a*)*[bc]", "x", ("a"):rep(200))
  eq(allowed, false)
  check.has(why, "needs too many steps")
  eq(semver.candidates("regexp:(a*)*[bc]", { ("a"):rep(200), "ab" }), { "ab" })
  fails("invalid", semver.allows("regexp:(", "a", "b"))
  fails("unsupported", semver.allows("regexp:(?=a)", "a", "b"))
end)

test("force takes anything, or only the same tag", function()
  eq((semver.allows("force", "1.0.0", "0.0.1")), true)
  eq((semver.allows("force", "main", "main", { match_tag = true })), true)
  eq((semver.allows("force", "main", "dev", { match_tag = true })), false)
end)

test("never is no, an unknown policy is an error", function()
  eq((semver.allows("never", "1.0.0", "2.0.0")), false)
  eq((semver.allows("", "1.0.0", "2.0.0")), false)
  fails("invalid", semver.allows("Major", "1.0.0", "2.0.0"))
  fails("invalid", semver.policy("glob"))
  fails("invalid", semver.policy("glob:" .. ("x"):rep(300)))
  eq(ok(semver.policy("glob:a:b")).pattern, "a:b")
  eq((semver.allows(semver.policy("minor"), "1.0.0", "1.1.0")), true)
end)

test("a range takes what is above in it, and anything in it when what runs lies outside", function()
  local function may(current, candidate) return (semver.allows("range:>=1.2 <2", current, candidate)) end
  eq({ may("1.2.0", "1.10.0"), may("1.10.0", "1.9.0"), may("1.9.0", "1.9.0"), may("1.9.0", "2.0.0") },
    { true, false, false, false })
  eq({ may("2.1.0", "1.9.0"), may("latest", "1.9.0"), may("1.2.0", "v1.3.0"), may("1.2.0", "1.3.0-rc.1") },
    { true, true, true, false })
  eq((semver.allows("range:>=0.0.0-staging.0 <0.0.1-0", "0.0.0-staging.9", "0.0.0-staging.10")), true)
  eq(semver.candidates("range:^1", { "1.2.0", "v1.10.0", "2.0.0", "x", "1.9" }), { "v1.10.0", "1.2.0" })
  fails("invalid", semver.policy("range:>="))
end)

test("candidates come best first", function()
  local tags = { "1.2.0", "v1.10.0", "latest", "1.9", "3050", "1.10.0-rc.1", "x" }
  eq(semver.candidates("major", tags), { "v1.10.0", "1.10.0-rc.1", "1.9", "1.2.0" })
  eq(semver.candidates("glob:b-*", { "b-1", "b-3", "c-9", "b-2" }), { "b-3", "b-2", "b-1" })
  eq(semver.candidates("regexp:^b-", { "b-1", "b-3", "c-9", "b-2" }), { "b-3", "b-2", "b-1" })
  eq(semver.candidates("regexp:^[a-z]-(?P<compare>\\d+)", { "b-1", "a-3", "c-2" }), { "a-3", "c-2", "b-1" })
  eq(semver.candidates("force", { "b", "a", "c" }), { "b", "a", "c" })
  eq(semver.candidates("never", { "1.0.0" }), {})
  fails("invalid", semver.candidates("nope", {}))
end)

test("mistakes of the programmer raise with the usage", function()
  raises("usage: semver.parse(text)", semver.parse)
  raises("usage: semver.compare(a, b)", semver.compare, "1.0.0")
  raises("usage: semver.satisfies(version, range)", semver.satisfies, "1.0.0", nil)
  raises("usage: semver.allows(", semver.allows, "major", nil, "1.0.0")
  raises("unknown option", semver.allows, "major", "1.0.0", "1.0.1", { matchPreRelease = true })
end)

test("ten thousand hostile tags are judged quickly", function()
  local time = require "time"
  local started = time.cpu()
  local tags = {}
  for i = 1, 10000 do tags[i] = "1." .. i .. "." .. ("9"):rep(i % 240) .. (i % 3 == 0 and "-a" or "") end
  local list = ok(semver.candidates("major", tags))
  ok(#list > 9000)
  ok(time.cpu() - started < 5, "took too long")
end)
