-- The one client for HTTP APIs of services: registries, GitHub, clusters, chart repositories, container engines.
-- Git is not one of them (sources/git/smart.lua).
--
-- A service says only what is its own: where it is, who we are there, how its refusals read. Here is what they share: a
-- place in the server's budget, credentials that are renewed once, another attempt after a transient error, the error
-- code of a status, how long a server wants to be left alone, bodies that are read up to a limit.
local budget, errors, http, json = require "base.budget", require "errors", require "http", require "json"
local log, task, time = require "log", require "task", require "time"

local M = {}

---The code of each status, unless a service means something else by it.
local CODES <const> = {
  [400] = "invalid", [401] = "unauthorized", [403] = "denied", [404] = "not_found", [405] = "unsupported",
  [406] = "unsupported", [409] = "conflict", [412] = "conflict", [413] = "too_large", [415] = "unsupported",
  [422] = "invalid", [429] = "rate_limited",
}
local BODY_MAX <const>, BODY_TIME <const> = 1 << 20, 5 -- bytes and seconds of a refusal that is streamed

-- What is passed on to http; other fields of a call are the service's own.
local HTTP <const> = {
  "method", "timeout", "connect_timeout", "idle_timeout", "max_body", "redirects", "unix", "connect_to", "insecure",
  "ca", "cert", "key", "auth", "etag", "stream", "sink", "body_file",
}

---@class ApiCall: HttpOptions
---@field path? string Below the base address.
---@field query? string With its question mark.
---@field part? string What it asks for, in a server whose parts may fail by themselves.
---@field options? HttpOptions Instead of those of the service: nothing is renewed then.

---@class ApiOptions: HttpOptions
---@field base? string The address that paths of calls are below.

---@class ApiService What is a service's own.
---@field name string As its errors call it: "the registry".
---@field http? ApiOptions Options of every request.
---@field options? fun(call: ApiCall): ApiOptions?, Err? Further ones, asked for before each attempt: who we are there.
---@field renew? fun(answer: HttpAnswer, options: ApiOptions, call: ApiCall): ApiOptions?, Err? Options with which
---a call that was refused (400 and above) is made once more; nil: it stays refused.
---@field budget? Budget
---@field queue? Seconds Longest wait for a place in the budget.
---@field before? fun(call: ApiCall) Called in that place, before each request.
---@field on_answer? fun(answer: HttpAnswer, call: ApiCall)
---@field on_error? fun(err: Err, call: ApiCall): Err Makes the error of a request that got no answer.
---@field refuse? fun(answer: HttpAnswer, call: ApiCall): Err? The error of an answer; without it any status is fine.
---@field retry? fun(answer?: HttpAnswer, err?: Err, try: integer, call: ApiCall): Seconds? When to try again; nil: not.
---@field codes? table<integer, string> Where they differ from those of others.
---@field transient? string The code of 5xx and the like; "status" by default.
---@field words? fun(body: any, text: string): string? What a refusal's body says: decoded (nil: not JSON) and raw.

---@class Api: ApiService
local Api = {}
Api.__index = Api

---@param service ApiService
---@return Api
---@nodiscard
function M.open(service)
  return setmetatable(service --[[@as table]], Api)
end

---How long an answer asks us to wait: seconds, or a date by the server's own clock.
---@param answer HttpAnswer
---@return Seconds?
function M.asked(answer)
  return budget.retry_after(answer.headers["retry-after"], budget.http_date(answer.headers.date or ""))
end

---Attempts until `after` says nil instead of the seconds to wait.
---@async
---@generic T
---@param after fun(answer: T?, err: Err?, try: integer): Seconds?
---@param attempt fun(): T?, Err?
---@return T?
---@return Err? err
function M.retry(after, attempt)
  for try = 1, math.huge do
    local answer, err = attempt()
    local pause = after(answer, err, try --[[@as integer]])
    if not pause then return answer, err end
    time.sleep(pause)
  end
end

---The pause after so many attempts: exponential, with jitter.
---@param try integer
---@param first Seconds
---@param factor number
---@param longest? Seconds
---@return Seconds
function M.backoff(try, first, factor, longest)
  return math.min(first * factor ^ (try - 1), longest or math.huge) * (0.75 + math.random() / 2)
end

local function headers_of(...)
  local all
  for i = 1, select("#", ...) do
    for name, value in pairs(select(i, ...) or {}) do
      all = all or {}
      all[name] = value
    end
  end
  return all
end

-- What goes out for a call.
local function request_of(self, call, options)
  local common, request = self.http or {}, {}
  for _, name in ipairs(HTTP) do
    local value = call[name]
    if value == nil then value = options[name] end
    if value == nil then value = common[name] end
    request[name] = value
  end
  request.url = call.url or (options.base or common.base) .. call.path .. (call.query or "")
  request.headers = headers_of(common.headers, options.headers, call.headers)
  request.body = call.body
  return request
end

local free = setmetatable({}, { __close = function() end }) -- the place of who needs none

local function entered(self, call)
  if not self.budget then return free end
  return self.budget:enter(self.queue, call.part)
end

-- One request in the server's budget.
local function exchange(self, call, options)
  local slot <close>, held = entered(self, call)
  if not slot then return nil, held end
  if self.before then self.before(call) end
  local answer, err = http.request(request_of(self, call, options))
  if not answer then return nil, self.on_error and self.on_error(err, call) or err end
  if self.on_answer then self.on_answer(answer, call) end
  return answer
end

-- One attempt, with credentials that are renewed when they are refused. The third value: no other attempt can help.
local function attempt(self, call)
  local options, err = call.options, nil
  if not options and self.options then options, err = self.options(call) end
  if err then return nil, err, true end
  local answer
  answer, err = exchange(self, call, options or {})
  if answer and answer.status >= 400 and self.renew and not call.options then
    local other, wrong = self.renew(answer, options or {}, call)
    if wrong then return nil, wrong, true end
    if other then
      answer:close()
      answer, err = exchange(self, call, other)
    end
  end
  if not answer then return nil, err end
  err = self.refuse and self.refuse(answer, call)
  if err then return nil, err end
  return answer
end

---Makes a call, again while that may help. A table as its body is sent as JSON.
---@async
---@param call ApiCall
---@return HttpAnswer? answer
---@return Err? err
function Api:send(call)
  if type(call.body) == "table" then
    local body, err = json.encode(call.body)
    if not body then return nil, err end
    call.body, call.headers = body, headers_of({ ["Content-Type"] = "application/json" }, call.headers)
  end
  local final
  return M.retry(function(answer, err, try)
    return not final and self.retry and self.retry(answer, err, try, call) or nil
  end, function()
    local answer, err
    answer, err, final = attempt(self, call)
    return answer, err
  end)
end

---The body of a refusal, also of one that is streamed: as much of it as comes soon.
---@async
---@param answer HttpAnswer
---@param max? integer bytes (1 MiB)
---@return string
function M.body(answer, max)
  if answer.body then return answer.body end
  local parts, len = {}, 0
  local fine, why = pcall(task.deadline, BODY_TIME, function()
    while len < (max or BODY_MAX) do
      local piece = answer:read()
      if not piece then break end
      parts[#parts + 1], len = piece, len + #piece
    end
  end)
  answer:close()
  if not fine and not errors.is(why, "deadline") then error(why, 0) end
  return table.concat(parts)
end

---The code of a status.
---@param status integer
---@param own? table<integer, string> Where a service differs.
---@param transient? string The code of 5xx and the like; "status" by default.
---@return string
function M.code(status, own, transient)
  return own and own[status] or CODES[status] or errors.passing(status) and transient or "status"
end

---What a refusal says, in the service's own words, without secrets.
---@async
---@param answer HttpAnswer
---@return string?
function Api:said(answer)
  local body = M.body(answer)
  if not self.words then return nil end
  local said = self.words(body ~= "" and json.decode(body) or nil, body)
  return said and log.redact(said)
end

---The error of an answer that is none of the good ones: "the registry answered 403: its own words".
---@async
---@param answer HttpAnswer
---@param op string
---@param target string
---@return Err
function Api:failure(answer, op, target)
  local said = self:said(answer)
  return errors.new(M.code(answer.status, self.codes, self.transient),
    ("%s answered %d%s"):format(self.name, answer.status, said and ": " .. said or ""),
    { op = op, target = target, status = answer.status, retry_after = M.asked(answer) })
end

return M
