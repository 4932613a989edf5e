-- What the running host shows: lines and progress for a person, JSON for a machine, secrets and escapes for nobody.
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has
local console, json, log, term = require "people.console", require "json", require "log", require "people.terminal"

local function open(tty, form)
  local parts = {}
  local out = term.open(1, {
    tty = tty, color = false, width = 100, write = function(text) parts[#parts + 1] = text end,
  })
  return console.open(out, form), function()
    local text = table.concat(parts)
    parts = {}
    return text
  end
end

local function event(fields)
  local e = { at = 1763900000, event = "note", level = "info", text = "text", app = "web", environment = "staging" }
  for key, value in pairs(fields) do e[key] = value end
  return e
end

test("a machine gets one line of JSON per event, without progress", function()
  local c, text = open(false)
  c:event(event { event = "progress", progress = { text = "x" }, run = 1 })
  eq(text(), "")
  c:event(event { event = "run", phase = "end", state = "failed", run = 7, elapsed = 1.5,
    error = { code = "exit", message = "it failed" } })
  local printed = text()
  eq(select(2, printed:gsub("\n", "\n")), 1)
  local line = ok(json.decode(printed))
  eq(line.run, 7)
  eq(line.error.code, "exit")
  eq(line.time, "2025-11-23T12:13:20Z")
end)

test("a person gets lines, and progress that goes with its run", function()
  local c, text = open(true)
  c:event(event { event = "step", phase = "begin", text = "build", run = 7 })
  has(text(), "web/staging build")
  c:event(event { event = "progress", run = 7, progress = { text = "pushing", done = 3, total = 4 } })
  has(text(), "75% web/staging pushing")
  c:event(event { event = "output", text = "Step 1/3", run = 7 })
  has(text(), "web/staging Step 1/3")
  c:event(event { event = "step", phase = "end", text = "build", run = 7, elapsed = 2.5 })
  has(text(), "web/staging         build  2.5s\n")
  c:event(event { event = "run", phase = "end", text = "done", state = "done", run = 7 })
  ok(not text():find("Step", 1, true))
  c:close()
  eq(c.out.drawn, false)
end)

test("the form that was asked for wins over what reads it", function()
  local c, text = open(true, "json")
  c:event(event {})
  ok(json.decode(text()))
  c, text = open(false, "text")
  c:event(event {})
  has(text(), "web/staging         text\n")
end)

test("nothing in an event moves the cursor or shows a secret", function()
  log.secret("MOONCANARY-console")
  for _, form in ipairs { "text", "json" } do
    local c, text = open(true, form)
    c:event(event { app = "\27[2J", text = "a\27]0;x\7\nb", run = 1, error = { code = "x", message = "\r\27[H" } })
    c:event(event { event = "progress", run = 2, progress = { text = "\27[2J" } })
    local printed = text():gsub("\r\27%[K", ""):gsub("\n", "")
    ok(not printed:find("%c"), printed)
  end
  for _, form in ipairs { "text", "json" } do
    local c, text = open(true, form)
    c:event(event { text = "it is MOONCANARY-console" })
    c:event(event { event = "output", text = "it is MOONCANARY-console", run = 1 })
    c:event(event { event = "progress", progress = { text = "MOONCANARY-console" }, run = 1 })
    ok(not text():find("CANARY", 1, true), form)
  end
end)

test("an event that cannot be shown does not reach whoever sent it", function()
  local c = open(true)
  c:event(event { text = setmetatable({}, { __tostring = function() error "no" end }) })
  c:event({})
end)
