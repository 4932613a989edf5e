-- HTTP requests of policies: what they may ask for, and what the journal keeps of them.
--
-- A watch only reads: GET and HEAD, answers in memory. A run may send and receive files of its app's own folder. No
-- policy talks to a UNIX socket: engines and Moontide itself listen there.
local files = require "policy.effects.files"
local context, hash, record = require "policy.context", require "hash", require "journal.record"

local M = {}

-- Options that name a file: all for runs only.
local FILES <const> = { "sink", "body_file", "ca", "cert", "key" }

-- What is not for a watch.
local RUNS_ONLY <const> = { unix = true }
for _, option in ipairs(FILES) do RUNS_ONLY[option] = true end

-- Where the options stand among the arguments, and the body.
local AT <const> = {
  get = 2, head = 2, delete = 2, post = 3, put = 3, patch = 3, request = 1,
}

-- A table's own fields: nothing of the policy runs while they are read.
local function plain_copy(value)
  local copy = {}
  for k, v in next, value do copy[k] = v end
  return copy
end

---The options of a request that only reads, as a watch may have them.
---@param options table
---@return table? copy nil: something in them is for runs only.
function M.copy(options)
  local copy = { etag = nil, headers = nil, auth = nil, timeout = nil } -- room for the usual ones at once
  for k, v in next, options do
    if RUNS_ONLY[k] then return nil end
    copy[k] = v
  end
  return copy
end

---Whether a function can do nothing but read.
---@param fname string
---@return boolean
function M.reads(fname) return fname == "get" or fname == "head" end

---Checks the options of a request and puts its files where they belong.
---@async
---@param c Context
---@param fname string
---@param args table Packed.
---@return table args
function M.prepare(c, fname, args)
  local at = AT[fname]
  local options = args[at]
  if type(options) ~= "table" then return args end -- http.lua says what is wrong with it
  options = plain_copy(options)
  local name = "http." .. fname
  local bound = context.since(c, 2)
  if options.unix ~= nil and bound then
    error(("%s: a policy's request goes over the network, option 'unix' is not for it"):format(name), 3)
  end
  for _, option in ipairs(FILES) do
    if options[option] ~= nil and c.mode == "watch" then
      error(("%s: option '%s' is about a file, and watch only reads: do it in run"):format(name, option), 3)
    elseif type(options[option]) == "string" and bound then
      options[option] = files.below(assert(c.place), options[option], name .. ": option '" .. option .. "'")
    end
  end
  if options.stream and c.mode == "run" then
    error(name .. ": no journal can answer for a stream after a crash; leave stream out, or use sink", 3)
  end
  local prepared = table.move(args, 1, args.n, 1, { n = math.max(args.n, at --[[@as integer]]) })
  prepared[at] = options
  return prepared
end

---Whether a request may change something.
---@param fname string
---@param args table
---@return boolean
function M.writes(fname, args)
  local method = fname
  if fname == "request" then
    local options = args[1]
    method = type(options) == "table" and rawget(options, "method") or "GET"
    if type(method) ~= "string" then return true end
  end
  return not M.reads(method:lower())
end

---What the journal keeps of a request: enough to know it again, and no credential.
---@param fname string
---@param args table
---@return table asked
function M.asked(fname, args)
  local options = type(args[AT[fname]]) == "table" and plain_copy(args[AT[fname]]) or {} ---@type table
  local url = fname == "request" and options.url or args[1]
  local body = AT[fname] == 3 and args[2] or options.body
  local shown = type(url) == "string" and url:gsub("^(%a[%w+.-]*://)[^/?#]*@", "%1") or url
  local names, headers = {}, type(options.headers) == "table" and options.headers or {}
  for k in next, headers do names[#names + 1] = tostring(k):lower() end
  table.sort(names)
  options.auth, options.headers, options.url, options.body = nil, nil, nil, nil
  return {
    url = shown, headers = #names > 0 and names or nil, options = next(options) ~= nil and options or nil,
    body = body ~= nil and hash.sha256(record.asked(body, "http." .. fname)) or nil,
  }
end

return M
