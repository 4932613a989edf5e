-- The command line's side of the control API, and what it falls back to when no host runs.

local errors = require "errors"
local http = require "http"
local json = require "json"
local wire = require "people.control.wire"

local M = {}

local TIMEOUT = 30 -- seconds for one answer; a rollback is accepted at once and watched by its run's log

---@class Client: StatusSource
---@field state string
---@field socket string
local Client = {}
Client.__index = Client

---Makes a client for the host of a state folder. Nothing is connected yet.
---@param state string
---@param socket? string Its control socket; the default is in the state folder.
---@return Client
function M.open(state, socket)
  return setmetatable({ state = state, socket = socket or require("people.control").socket(state) }, Client)
end

-- No socket, no host behind it, or no right to open it: the host cannot be reached, and `down` says so.
local UNREACHABLE = { refused = true, not_found = true, unreachable = true, closed = true, reset = true }

---@private
function Client:unreachable(err)
  local denied = err.code == "denied"
  local message = denied and ("the host's socket %s may not be opened by this user: be root, the host's user, "
    .. "or of its control_group"):format(self.socket)
    or ("no host runs on %s: start it with moontide run, or name its state by --state"):format(self.state)
  return errors.fail(denied and "denied" or "refused", message, {
    op = "control", target = self.socket, cause = err, down = true,
  })
end

-- An error that the host sent, as if it had happened here.
local function received(status, body)
  local decoded = json.decode(body or "")
  local sent = type(decoded) == "table" and decoded.error
  if type(sent) ~= "table" or type(sent.message) ~= "string" then
    return errors.fail("protocol", ("the host answered with status %d"):format(status), { op = "control" })
  end
  local err = errors.new(type(sent.code) == "string" and sent.code or "failed", sent.message,
    { op = sent.op, target = sent.target, where = sent.where })
  if type(decoded.faults) == "table" then err.faults = decoded.faults end
  return nil, err
end

---Asks the host; any status is an answer.
---@async
---@param method string
---@param path string
---@param body? table
---@param options? table More options of http.request.
---@return HttpAnswer? response
---@return Err? err Has `down` when no host answers.
---@return_overload nil, Err
function Client:request(method, path, body, options)
  local request = {
    method = method, url = "http://moontide" .. path, unix = self.socket, timeout = TIMEOUT,
    max_body = 64 << 20,
  }
  if body then
    request.body = wire.encode(body)
    request.headers = { ["Content-Type"] = "application/json" }
  end
  for key, value in pairs(options or {}) do request[key] = value end
  local response, err = http.request(request)
  if not response then
    if UNREACHABLE[err.code] or err.code == "denied" then return self:unreachable(err) end
    return nil, err
  end
  return response
end

---Asks the host and decodes the answer; an error of the host's comes back as it was there.
---@async
---@param method string
---@param path string
---@param body? table
---@param options? table More options of http.request.
---@return any? value
---@return Err? err Has `down` when no host answers.
---@return_overload nil, Err
function Client:call(method, path, body, options)
  local response, err = self:request(method, path, body, options)
  if not response then return nil, err end
  if response.status ~= 200 then return received(response.status, response.body) end
  return json.decode(response.body or "")
end

local function query(path, fields)
  local parts = {}
  for _, key in ipairs { "app", "environment", "policy", "limit", "offset", "follow" } do
    if fields[key] ~= nil then parts[#parts + 1] = key .. "=" .. wire.escape(fields[key]) end
  end
  return #parts > 0 and path .. "?" .. table.concat(parts, "&") or path
end

---See StatusSource.
---@async
---@return Status?
---@return Err? err err.down: no host can be reached
---@return_overload nil, Err
function Client:status() return self:call("GET", "/v1/status") end

---@async
---@param filter HistoryQuery
---@return History?
---@return Err? err
---@return_overload nil, Err
function Client:history(filter) return self:call("GET", query("/v1/history", filter)) end

---@async
---@param app string
---@param policy? string
---@return Why?
---@return Err? err
---@return_overload nil, Err
function Client:why(app, policy) return self:call("GET", query("/v1/why", { app = app, policy = policy })) end

---@async
---@param id integer
---@param offset integer
---@return RunLog?
---@return Err? err
---@return_overload nil, Err
function Client:run_log(id, offset)
  return self:call("GET", query(("/v1/runs/%d/log"):format(id), { offset = offset }))
end

---Reads the lines of a streaming answer, each an object. Ends when the host ends it; the stream closes
---with the task.
---@async
---@param method string
---@param path string
---@param body? table
---@param on_object fun(object: table): boolean? true ends it early
---@return true?
---@return Err? err
---@return_overload nil, Err
function Client:stream(method, path, body, on_object)
  local response, err = self:request(method, path, body, { stream = true })
  if not response then return nil, err end
  local stream <close> = response
  if stream.status ~= 200 then
    local text = ""
    repeat
      local piece = stream:read()
      text = text .. (piece or "")
    until not piece or #text > 65536
    return received(stream.status, text)
  end
  local next_line = stream:lines()
  while true do
    -- A stream that breaks off raises, so that it is not taken for a finished one. Here it is an answer.
    local ok, line = pcall(next_line)
    if not ok then
      if not errors.is(line) or errors.is(line, "cancelled") or errors.is(line, "deadline") then error(line, 0) end
      return nil, line --[[@as Err]]
    end
    if not line then return true end
    if line ~= "" then
      local object, wrong = json.decode(line)
      if type(object) ~= "table" then
        return nil, wrong or errors.new("protocol", "the host sent a line that is no object", { op = "control" })
      end
      if object.error and not object.state then return received(200, line) end
      if on_object(object) then return true end
    end
  end
end

---Follows a run's log until it is complete.
---@async
---@param id integer
---@param offset integer
---@param on_piece fun(piece: RunLog)
---@return true?
---@return Err? err "reset": the host went away before the end
---@return_overload nil, Err
function Client:follow(id, offset, on_piece)
  local finished = false
  local ok, err = self:stream("GET", query(("/v1/runs/%d/log"):format(id), { offset = offset, follow = 1 }), nil,
    function(piece)
      on_piece(piece)
      finished = piece.done == true
      return finished
    end)
  if not ok then return nil, err end
  if not finished then
    return errors.fail("reset", "the host went away before the run ended", { op = "control" })
  end
  return true
end

local function act(verb)
  return function(self, order)
    return self:call("POST", ("/v1/apps/%s/%s"):format(wire.escape(order.app), verb), {
      environment = order.environment, what = order.what, versions = order.versions, reason = order.reason,
      by = order.by,
    })
  end
end

---Each takes an Act and waits until the host accepted the order, not until it is carried out.
Client.rollback, Client.release = act "rollback", act "release"
Client.apply, Client.destroy, Client.retry = act "apply", act "destroy", act "retry"
Client.hold, Client.unhold, Client.approve, Client.reject = act "hold", act "unhold", act "approve", act "reject"

---Ends a run; waits for its end, for some seconds.
---@async
---@param order {run: integer, by: string, reason?: string}
---@return RunInfo?
---@return Err? err
---@return_overload nil, Err
function Client:cancel(order)
  return self:call("POST", ("/v1/runs/%d/cancel"):format(order.run), { reason = order.reason, by = order.by })
end

---Holds everything.
---@async
---@param order {by: string, reason?: string, seconds?: Seconds}
---@return Hold? freeze
---@return Err? err
---@return_overload nil, Err
function Client:freeze(order) return self:call("POST", "/v1/freeze", order) end

---Ends that.
---@async
---@param order {by: string, reason?: string}
---@return Hold? freeze That ended.
---@return Err? err
---@return_overload nil, Err
function Client:thaw(order) return self:call("POST", "/v1/thaw", order) end

---@async
---@param app? string
---@return PollResult?
---@return Err? err
---@return_overload nil, Err
function Client:poll(app) return self:call("POST", "/v1/poll", { app = app }, { timeout = 300 }) end

---@async
---@return ReloadResult?
---@return Err? err err.faults: why the new files were refused
---@return_overload nil, Err
function Client:reload() return self:call("POST", "/v1/reload", {}, { timeout = 300 }) end

-- ---- with or without a host ----

---@class Reader: StatusSource
---@field down boolean the host could not be reached: answers come from its state
---@field client Client
---@field config? Config names what the state alone does not know
---@field state string
---@field journal? Journal
local Reader = {}

-- The same questions, asked of a journal that no host has open.
local ASK = {
  status = function(view, journal, config) return view.status(journal, config) end,
  history = function(view, journal, _, filter) return view.history(journal, filter) end,
  why = function(view, journal, config, app, policy) return view.why(journal, app, policy, config) end,
  run_log = function(view, journal, _, id, offset) return view.run_log(journal, id, offset) end,
}

---@private
function Reader:open_journal(unreachable)
  local journal, err = require("journal").open(self.state, { readonly = true })
  -- Without a host and without a state the error is that no host runs.
  if not journal then return nil, err.code == "not_found" and unreachable or err end
  if self.config then journal:restore_places(self.config) end
  self.down, self.journal = true, journal
  return true
end

Reader.__index = function(_, name)
  local ask = ASK[name]
  if not ask then return Reader[name] end
  return function(self, ...)
    if not self.down then
      local value, err = self.client[name](self.client, ...)
      if value ~= nil or not err.down then return value, err end
      local opened, wrong = self:open_journal(err)
      if not opened then return nil, wrong end
    end
    return ask(require("journal.view"), self.journal, self.config, ...)
  end
end

---Makes a source that asks the host, and its state when the host is down.
---@param state string
---@param config? Config
---@param socket? string
---@return Reader
function M.reader(state, config, socket)
  return setmetatable({ state = state, config = config, client = M.open(state, socket), down = false }, Reader)
end

return M
