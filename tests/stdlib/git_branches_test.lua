-- Patterns of branches.
local check = require "check"
local branches, refs = require "sources.git.branches", require "sources.git.refs"
local test, eq = check.test, check.eq

test("a pattern matches whole names: * is any text, ? one byte, all else itself", function()
  local function matches(pattern, ...)
    local got = {}
    for i, name in ipairs { ... } do got[i] = branches.matches(pattern, name) end
    return got
  end
  eq(matches("feature/*", "feature/x", "feature/x/y", "feature/", "feature", "a/feature/x"),
    { true, true, true, false, false })
  eq(matches("*", "", "x", "a/b"), { true, true, true })
  eq(matches("v?.*-rc", "v1.0-rc", "v1.-rc", "v10.0-rc", "v1.0-rc-rc", "v1.0-rcx"), { true, true, false, true, false })
  eq(matches("a.c", "a.c", "abc", "a%c"), { true, false, false })
  eq(matches("", "", "x"), { true, false })
  eq(branches.matches(("*a"):rep(60) .. "b", ("a"):rep(3000)), false) -- at once
end)

test("branches are listed in the order of their names, once for a snapshot", function()
  local id = ("1"):rep(40)
  local snapshot = refs.snapshot({ main = id, ["feature/x"] = id, ["feature/a"] = id }, { v1 = id }, "main")
  local list = branches.list(snapshot)
  eq({ #list, list[1], list[2].branch, list[3].branch },
    { 3, { branch = "feature/a", commit = id }, "feature/x", "main" })
  eq(rawequal(branches.list(snapshot), list), true)
end)
