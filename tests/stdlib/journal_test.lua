-- Opening a state folder: a journal that is gone is no new host, and one journal has one folder.
---@diagnostic disable: need-check-nil -- a nil fails the test
local check = require "check"
local lab = require "lab"
local fs, journal = require "fs", require "journal"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local function begun()
  local dir = lab.dir "state"
  ok(journal.open(dir)):close()
  return dir
end

test("a journal that is missing or empty where there was one is not begun anew unless a person says so", function()
  local dir = begun()
  ok(journal.open(dir)):close()
  for _, lose in ipairs {
    function() ok(fs.remove(dir .. "/journal.db")) end,
    function() ok(fs.write(dir .. "/journal.db", "")) end,
  } do
    lose()
    local err = fails("not_found", journal.open(dir))
    has(tostring(err), "--fresh")
    has(tostring(err), dir .. "/journal.db")
    ok(journal.open(dir, { fresh = true })):close()
    ok(journal.open(dir)):close()
  end
end)

test("a journal of a host before the marker gets one", function()
  local dir = begun()
  ok(fs.remove(dir .. "/journal.begun"))
  ok(journal.open(dir)):close()
  ok(fs.remove(dir .. "/journal.db"))
  fails("not_found", journal.open(dir))
end)

test("two folders with one journal are found out", function()
  local dir, other = begun(), lab.dir "other"
  lab.run { "ln", dir .. "/journal.db", other .. "/journal.db" }
  for _, folder in ipairs { dir, other } do
    has(tostring(fails("conflict", journal.open(folder))), "hard links")
  end
  ok(fs.remove(other .. "/journal.db"))
  ok(journal.open(dir)):close()
  lab.run { "ln", "-s", dir .. "/journal.db", other .. "/journal.db" }
  has(tostring(fails("conflict", journal.open(other))), "symbolic link")
end)

test("the service unit is one that systemd takes, and gives the host no more than it needs", function()
  local text = ok(fs.read "config/moontide.service"):gsub("@PREFIX@/bin/moontide", "/bin/true")
  for _, line in ipairs { "User=moontide", "NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes",
    "StateDirectory=moontide" } do
    has(text, "\n" .. line .. "\n")
  end
  eq(text:find("--state", 1, true), nil, "the configuration says where the state is")
  if not lab.exists "systemd-analyze" then check.skip "systemd is not installed" end
  local dir = lab.dir "unit"
  lab.write(dir .. "/moontide.service", text)
  local result = ok(require("proc").run { "systemd-analyze", "verify", dir .. "/moontide.service", inherit = { "PATH" },
    stderr = "stdout" })
  for line in result.stdout:gmatch("[^\n]+") do
    ok(not line:find("moontide.service", 1, true) or line:find("is not found", 1, true), line)
  end
end)

local function hold(book) ok(book:hold("web", "staging", "ann", "later")) end

test("a copy of a journal has what the state has, and what is written there goes nowhere", function()
  local dir = lab.dir "state"
  local empty = ok(journal.copy(dir .. "/none"))
  eq({ empty:newest_run(), fs.exists(dir .. "/none") }, { 0, false })
  empty:close()
  local book = ok(journal.open(dir))
  hold(book)
  local copy = ok(journal.copy(dir))
  eq(copy:hold_of("web", "staging").by, "ann")
  copy:unhold("web", "staging")
  eq(book:hold_of("web", "staging").by, "ann")
  copy:close()
  book:close()
  ok(fs.remove(dir .. "/journal.db"))
  local err = fails("not_found", journal.copy(dir))
  has(err.message, "there was one")
end)

test("a log that lost its index is copied aside first", function()
  local dir, other = lab.dir "state", lab.dir "other"
  local book = ok(journal.open(dir))
  hold(book)
  for _, suffix in ipairs { "", "-wal" } do lab.run { "cp", dir .. "/journal.db" .. suffix, other } end
  local copy = ok(journal.copy(other))
  eq(copy:hold_of("web", "staging").reason, "later")
  copy:close()
  book:close()
  eq(ok(fs.list(other)), { "journal.db", "journal.db-wal" })
end)

test("a journal of an earlier version is brought to this one in its copy alone; a later one is not", function()
  local dir = lab.dir "state"
  local db = ok(require("store").open(dir .. "/journal.db"))
  ok(db:exec((ok(fs.read("tests/fixture/editions/1.sql", { max = 16 << 20 })))))
  db:close()
  local before = ok(fs.read(dir .. "/journal.db"))
  local copy = ok(journal.copy(dir))
  ok(copy:newest_run() > 0)
  copy:close()
  eq(ok(fs.read(dir .. "/journal.db")) == before, true)
  db = ok(require("store").open(dir .. "/journal.db"))
  ok(db:exec "PRAGMA user_version = 9999")
  db:close()
  fails("unsupported", journal.copy(dir))
end)
