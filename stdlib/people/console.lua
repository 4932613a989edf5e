-- What the running host shows of itself: lines and progress for a person, one line of JSON per event for a
-- machine.

local inspect = require "base.inspect"
local log = require "log"
local show = require "people.cli.show"
local term = require "people.terminal"
local time = require "time"
local wire = require "people.control.wire"

local M = {}

---@class Console
---@field out Output
---@field json boolean
local Console = {}
Console.__index = Console

---Opens the console over an output. Without a form given: JSON unless a terminal reads it.
---@param out Output
---@param form? "text"|"json"
---@return Console
function M.open(out, form)
  local json = form == "json" or (form == nil and not out.tty)
  return setmetatable({ out = out, json = json, last = {} }, Console)
end

local function where_of(event)
  if not event.app then return "" end
  return event.environment and ("%s/%s"):format(event.app, event.environment) or event.app
end

---Events that a person need not see one by one: they move the progress line, or are in the run's log.
---@private
function Console:quiet(event)
  local key = event.run or event.app
  if event.event == "progress" and event.progress then
    local p = event.progress
    self.out:progress(key, log.redact(("%s %s"):format(where_of(event), p.text)), p.done, p.total)
    return true
  elseif event.event == "output" then
    self.out:progress(key, log.redact(("%s %s"):format(where_of(event), event.text)))
    return true
  elseif event.event == "step" and event.phase == "begin" then
    self.out:progress(key, log.redact(("%s %s"):format(where_of(event), event.text)))
    return true
  end
  return event.level == "debug"
end

---@private
function Console:text(event)
  if self:quiet(event) then return end
  local out = self.out
  if event.event == "run" and event.phase == "end" and event.run then out:progress(event.run, nil) end
  local style = event.level == "error" and "red" or event.level == "warn" and "yellow" or nil
  if event.event == "run" then style = event.state and show.style(event.state) or style end
  local clock = show.clock(event.at, event.at)
  local text = term.clean(event.text)
  if event.error and not text:find(event.error.message, 1, true) then
    text = ("%s: %s"):format(text, term.clean(event.error.message))
  end
  local where = where_of(event)
  local pad = (" "):rep(math.max(0, 18 - term.columns(where)))
  local tail = event.elapsed and "  " .. out:paint("dim", term.duration(event.elapsed)) or ""
  if event.recorded then tail = tail .. "  " .. out:paint("dim", "(from the journal)") end
  out:line(("%s  %s%s  %s%s"):format(out:paint("dim", clock), out:paint("bold", term.clean(where)), pad,
    out:paint(style, log.redact(text)), tail))
end

---Shows an event. Never waits, never raises.
---@param event Event
function Console:event(event)
  local ok, err = pcall(function()
    if self.json then
      if event.event == "progress" then return end
      local line = {} ---@type table<string, any>
      for key, value in pairs(event --[[@as table<string, any>]]) do line[key] = value end
      line.time = time.iso(event.at)
      self.out:line(log.redact(wire.encode(line)))
    else
      self:text(event)
    end
  end)
  if not ok then
    log.warn("an event could not be shown", { event = inspect.printable(tostring(event.event)), error = tostring(err) })
  end
end

---Takes the progress line away, at the end.
function Console:close()
  self.out:clear()
end

return M
