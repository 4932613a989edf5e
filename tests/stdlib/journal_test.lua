-- Opening a state folder: a journal that is gone is no new host, and one journal has one folder.
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
