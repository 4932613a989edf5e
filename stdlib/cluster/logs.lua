-- Logs of containers: what was written, or what is being written, also across streams that are cut.
--
-- A cut stream is taken up by the time of the last line (sinceTime, whole seconds), without the lines that came
-- already. What a stream ends with in the middle of a line is no line: it comes whole when the stream is taken up, and
-- counts as it is only when the container has ended. Rules: k8s-openapi's ReadNamespacedPodLog; core/v1 PodLogOptions.
local errors, http, time = require "errors", require "http", require "time"
local call, lines = require "cluster.call", require "cluster.lines"

local M = {}

local LIMIT <const> = 1 << 20 -- bytes of a log that is read at once
local LINE <const> = 64 << 10 -- a longer line is given in pieces
local START <const> = 60 -- seconds for a container to start
local ATTEMPTS <const> = 6 -- without a line between them

---@class LogOptions
---@field container? string default: the only one, or the pod's default container
---@field follow? boolean go on until the container ends; needs on_line
---@field tail? integer last lines only
---@field since? Seconds only what is younger than that
---@field previous? boolean of the container's last life
---@field timestamps? boolean each line begins with its time
---@field limit? integer bytes at most, without on_line (1 MiB)
---@field within? Seconds with follow: time for the container to start (60)
---@field on_line? fun(line: string, at: string?) called for each line; may wait

local function query_of(options)
  return {
    container = options.container, tailLines = options.tail, previous = options.previous or nil,
    sinceSeconds = options.since and math.max(1, math.ceil(options.since)) or nil, timestamps = options.timestamps,
  }
end

-- What is known of a stream that may have to be taken up again.
---@class LogPlace
---@field last? string time of the last line
---@field same integer lines that had exactly this time
---@field skip integer lines of that time to pass over after taking it up
---@field fresh boolean a line came since
---@field began number monotonic
---@field looked? boolean the container had ended, and its log was read since

-- Gives a line that begins with its time to on_line, unless it was given before.
local function give(place, line, options)
  local at, text = line:match("^(%d%d%d%d%-%d%d%-%d%dT[%d:.]+Z) ?(.*)$")
  if not at then return options.on_line(line) end -- the rest of a line in pieces, or a message of the kubelet
  if place.last and #at == #place.last and at < place.last then return end
  if at == place.last then
    if place.skip > 0 then
      place.skip = place.skip - 1
      return
    end
    place.same = place.same + 1
  else
    place.last, place.same = at, 1
  end
  place.skip, place.fresh = 0, true
  options.on_line(options.timestamps and line or text, at)
end

-- One stream to its end; fn hears with each line whether the stream ended before it did.
local function stream(client, path, query, fn)
  local answer <close>, err = call.perform(client, "logs",
    { path = path, query = query, stream = true, accept = "*/*", attempts = 1 })
  if not answer then return nil, err end
  local next_line <const> = lines.reader(answer, LINE)
  while true do
    local line, more = next_line()
    if not line then
      if not more then return true end
      more.op = "kubernetes.logs"
      return nil, more
    end
    fn(line, more == true)
  end
end

-- What the container does: "waits" for its start, "runs", or "ended". What cannot be seen has ended.
local function state_of(client, pod_path, options)
  local pod, err = client:get(pod_path)
  if not pod then return err.code == "not_found" and "ended" or "runs" end
  local status = type(pod.status) == "table" and pod.status or {}
  if status.phase == "Succeeded" or status.phase == "Failed" then return "ended" end
  local state = status.phase == "Pending" and "waits" or "ended"
  for _, key in ipairs { "containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses" } do
    for _, container in ipairs(type(status[key]) == "table" and status[key] or {}) do
      if not options.container and key == "containerStatuses" or container.name == options.container then
        local now = type(container.state) == "table" and container.state or {}
        if now.running then return "runs" end
        state = now.waiting and container.restartCount == 0 and "waits" or "ended"
      end
    end
  end
  return state
end

-- Whether a refusal may pass: a container is "waiting to start", "not available", "PodInitializing" and more, but none
-- that the pod does not have.
local function may_start(err)
  return err.status == 400 and not err.message:find("is not valid for pod", 1, true)
end

-- Whether to open another stream after one that ended. The log of a pod that has no node yet is empty, and ends.
local function goes_on(client, pod_path, options, place)
  local state = state_of(client, pod_path, options)
  if state == "waits" then
    if not place.last and time.monotonic() - place.began <= (options.within or START) then return true end
    return place.last == nil and errors.new("invalid", "the container is waiting to start",
      { op = "kubernetes.logs", target = client.server .. pod_path, status = 400 })
  end
  -- It may have run from beginning to end since the stream was opened.
  local unread = not place.last and not place.looked
  place.looked = true
  return state == "runs" or unread
end

-- Follows the log until the container has ended, taking cut streams up again.
local function follow(client, pod_path, options)
  local query = query_of(options)
  query.follow, query.timestamps = true, true
  local place = { same = 0, skip = 0, fresh = false, began = time.monotonic() } ---@type LogPlace
  local failures, quiet = 0, 0
  while true do
    place.fresh = false
    local rest
    local ok, err = stream(client, pod_path .. "/log", query, function(line, unfinished)
      if unfinished then rest = line else give(place, line, options) end
    end)
    quiet = place.fresh and 0 or quiet + 1
    if place.fresh then failures = 0 end
    if ok then
      local more = goes_on(client, pod_path, options, place)
      if not more then
        if rest then give(place, rest, options) end
        return true
      end
      if errors.is(more) then return nil, more end
    elseif may_start(err) and not place.last then
      local more = goes_on(client, pod_path, options, place)
      local late = time.monotonic() - place.began > (options.within or START)
      if not more or errors.is(more) or late then return nil, err end
    else
      failures = failures + 1
      if failures >= ATTEMPTS or not errors.passing(err.status or err) then return nil, err end
    end
    if place.last then
      query.sinceTime, query.sinceSeconds, query.tailLines = place.last, nil, nil
      place.skip = place.same
    end
    time.sleep(math.min(0.25 * 2 ^ math.min(quiet, 8), place.last and 8 or 1))
  end
end

---Reads a container's log, or follows it.
---@async
---@param client KubernetesClient
---@param namespace string
---@param pod string
---@param options? LogOptions
---@return string|true? text; true with on_line, once the log has ended
---@return KubernetesErr? err invalid while the container has not started, not_found, ...
function M.logs(client, namespace, pod, options)
  options = options or {}
  local pod_path = ("/api/v1/namespaces/%s/pods/%s"):format(http.escape(namespace), http.escape(pod))
  if options.follow then
    if not options.on_line then error("usage: client:logs(namespace, pod, {follow = true, on_line = fn})", 3) end
    return follow(client, pod_path, options)
  end
  local query = query_of(options)
  if options.on_line then
    return stream(client, pod_path .. "/log", query, function(line) options.on_line(line) end)
  end
  query.limitBytes = options.limit or LIMIT
  return call.perform(client, "logs", {
    path = pod_path .. "/log", query = query, raw = true, accept = "*/*", max_body = query.limitBytes + 4096,
  })
end

---The last lines of a container's log, for an error: nothing when they cannot be read.
---@async
---@param client KubernetesClient
---@param namespace string
---@param pod string
---@param options? LogOptions
---@return string[] lines
function M.tail(client, namespace, pod, options)
  local asked = { tail = 20, limit = 64 << 10 } ---@type table
  for key, value in pairs(options or {}) do asked[key] = value end
  local text = M.logs(client, namespace, pod, asked) --[[@as string?]]
  local list = {}
  for line in (text or ""):gmatch("[^\r\n]+") do list[#list + 1] = line end
  return list
end

return M
