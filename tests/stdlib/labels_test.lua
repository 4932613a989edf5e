-- Our labels and annotations: one prefix, and those of earlier releases.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local errors, labels = require "errors", require "base.labels"
local test, eq, ok, fails = check.test, check.eq, check.ok, check.fails

test("a value is found under each prefix, ours first", function()
  eq(labels.get({ ["moontide.dev/app"] = "a", ["moontide.app"] = "b" }, "app"), "a")
  eq(labels.get({ ["moontide.app"] = "b" }, "app"), "b")
  eq(labels.get({ ["moontide/app"] = "c" }, "app"), "c")
  eq(labels.get({ app = "d" }, "app"), nil)
  eq(labels.get(nil, "app"), nil)
  eq(labels.get("text", "app"), nil)
  eq(labels.name({ ["moontide/app"] = "c" }, "app"), "moontide/app")
  eq(labels.name({}, "app"), "moontide.dev/app")
end)

test("who wrote last, wrote all of it", function()
  local map = { ["moontide/at"] = "2026-01-02", ["moontide/by"] = "old", ["moontide.dev/at"] = "2026-01-01",
    ["moontide.dev/by"] = "new", ["moontide.dev/version"] = "v1" }
  eq({ labels.get(map, "by"), labels.get(map, "version") }, { "old" })
  map["moontide.dev/at"] = "2026-01-03"
  eq({ labels.get(map, "by"), labels.get(map, "version") }, { "new", "v1" })
end)

test("what is written takes the place of what earlier releases wrote", function()
  local map = { ["moontide.app"] = "b", ["moontide/app"] = "c", ["moontide.other"] = "d", app = "e" }
  labels.put(map, { app = "a", release = "7" })
  eq(map, { ["moontide.dev/app"] = "a", ["moontide.dev/release"] = "7", ["moontide.other"] = "d", app = "e" })
end)

test("containers of both are found once, and earlier ones are asked for until none is left", function()
  local owner, asked, old = {}, {}, { { Id = "1" }, { Id = "2" } }
  local function list(prefix)
    asked[#asked + 1] = prefix
    if prefix == "moontide." then return old end
    return { { Id = "2" }, { Id = "3" } }
  end
  local found = ok(labels.containers(owner, "web", list))
  eq({ #found, found[1].Id, found[2].Id, found[3].Id }, { 3, "2", "3", "1" })
  old = {}
  eq(#ok(labels.containers(owner, "web", list)), 2)
  eq(#asked, 4)
  eq(#ok(labels.containers(owner, "web", list)), 2)
  eq(#asked, 5, "they are not asked for any more")
  labels.containers(owner, "api", list)
  eq(#asked, 7, "at this place")
  fails("refused", labels.containers({}, "web", function() return errors.fail("refused", "away") end))
end)
