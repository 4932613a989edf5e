-- Waiting for a window of time, as run:window does, and what people read of it.
local calendar, errors, json = require "calendar.window", require "errors", require "json"
local parked, schema, time, zones = require "policy.parked", require "base.schema", require "time",
  require "calendar.zone"

local M = {}

---@class WindowRequest
---@field window string "Mon-Fri 9:00-17:00"
---@field zone? string "Europe/Berlin"; the machine's own when absent.
---@field deadline? Seconds For how long a run waits; as long as it takes when absent.

---Reads what run:window and place:window are given: { "Mon-Fri 9:00-17:00", zone = "Europe/Berlin", deadline = "3d" }.
---@param given any
---@return WindowRequest? request
---@return string? why
function M.request(given)
  if type(given) == "string" then given = { given } end
  if type(given) ~= "table" then return nil end
  for key in next, given do
    if key ~= 1 and key ~= "zone" and key ~= "deadline" then
      return nil, ("a window has no '%s', only its text, zone and deadline"):format(tostring(key))
    end
  end
  local text, zone, deadline = given[1], given.zone, given.deadline
  local read, why = calendar.read(text)
  if not read then return nil, "the window is wrong: " .. why end
  if zone ~= nil and type(zone) ~= "string" then return nil, "a time zone is a text, such as \"Europe/Berlin\"" end
  local found, unknown = zones.open(zone)
  if not found then return nil, unknown end
  local seconds = deadline and schema.seconds(deadline)
  if deadline ~= nil and not seconds then return nil, "the deadline is a time, such as \"3d\" or \"1h30m\"" end
  return { window = text, zone = zone, deadline = seconds }
end

---Whether a window is open now, and when that changes next.
---@param request {window: string, zone?: string}
---@param at? number Now when absent.
---@return boolean open
---@return number? changes nil: never.
function M.state(request, at)
  return calendar.state(assert(calendar.read(request.window)), assert(zones.open(request.zone)), at or time.now())
end

---"opens at 2026-11-30 09:00 CET", or closes.
---@param request {zone?: string}
---@param open boolean
---@param changes? number
---@return string
local function when(request, open, changes)
  if not changes then return open and "never closes" or "never opens" end
  local c = assert(zones.open(request.zone)):clock(changes)
  return ("%s at %d-%02d-%02d %02d:%02d %s"):format(open and "closes" or "opens", c.year, c.month, c.day, c.hour,
    c.minute, c.zone)
end

---A window and its state, for people: "Mon-Fri 9:00-17:00 Europe/Berlin opens at 2026-11-30 09:00 CET".
---@param request {window: string, zone?: string}
---@param at? number
---@return string words
function M.words(request, at)
  local zone = request.zone and " " .. request.zone or ""
  return ("%s%s %s"):format(request.window, zone, when(request, M.state(request, at)))
end

---What a run that waits for its window says in status and why.
---@param journal Journal
---@param row table The run.
---@return string? words nil: it does not wait for one.
function M.waits(journal, row)
  local args = journal:waits_for(row.id, "window")
  local request = args and json.decode(args)
  if not request then return nil end
  local ok, words = pcall(function() return when(request, M.state(request)) end)
  return ("waits for its window (%s%s)%s"):format(request.window, request.zone and " " .. request.zone or "",
    ok and ", " .. words or "")
end

---The error of a window that never opens.
---@param request {window: string}
---@return Err
function M.never(request)
  return errors.new("denied", ("its window (%s) never opens"):format(request.window),
    { op = "window", target = request.window })
end

-- How the wait ends, if now; else for how long.
local function judge(run, request, last)
  local open, changes = M.state(request)
  if open then return "open" end
  if time.monotonic() >= last then return "late" end
  if not changes then return "never" end
  if run.journal:overtaken(run.row) then return "overtaken" end
  return nil, math.min(changes - time.now(), last - time.monotonic())
end

---Waits until a window is open. Raises "deadline" when it did not open in time.
---@async
---@param run Run
---@param request WindowRequest
function M.wait(run, request)
  local patience = request.deadline or math.huge
  local ended = run.steps:await("window", request, function(begun)
    -- Never longer than asked for: the clock may have been set back.
    local left = begun.deadline and math.min(begun.deadline - time.now(), patience) or math.huge
    local last = time.monotonic() + left
    return parked.wait(run, function() return judge(run, request, last) end)
  end, function()
    if not M.state(request) then run:log("waits for its window: %s", M.words(request)) end
    return { deadline = request.deadline and time.now() + patience }
  end)
  if ended == "overtaken" then error(parked.overtaken(run, "window", request.window), 0) end
  if ended == "late" then
    error(errors.new("deadline", ("its window (%s) did not open within %s"):format(request.window,
      time.words(patience)), { op = "window", target = request.window }), 0)
  elseif ended == "never" then
    error(M.never(request), 0)
  end
end

return M
