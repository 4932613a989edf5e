-- Build contexts for builders in a cluster: files that the TCP server hands out by names that cannot be guessed.
--
-- A name is 256 random bits, good for one build and for as long as that lasts. Nothing lists them.
local fs, hash = require "fs", require "hash"

local M = {}

local PIECE <const> = 1 << 20
local offered = {} ---@type table<string, string>

---Makes a name that cannot be guessed.
---@return string
function M.name() return hash.hex(hash.random(32)) end

---Whether a text may be one: it came from a Job that others may write, and a short one could be guessed.
---@param text any
---@return boolean
function M.is_name(text) return type(text) == "string" and text:find("^" .. ("%x"):rep(64) .. "$") ~= nil end

---The URL of a file of that name.
---@param base string "http://10.0.0.7:8420"
---@param name string
---@return string
function M.url(base, name) return ("%s/contexts/%s.tar"):format(base, name) end

---Hands out a file until the offer is closed.
---@param name string
---@param path string
---@return {close: fun(self)} offer closable
function M.offer(name, path)
  offered[name] = path
  local function close() offered[name] = nil end
  return setmetatable({ close = close }, { __close = close })
end

---Answers a request for a context.
---@async
---@param path string of the request
---@return table? answer nil: there is nothing of that name
function M.answer(path)
  local name = path:match("^/contexts/(%x+)%.tar$")
  local file = name and offered[name]
  if not file then return nil end
  local stat = fs.stat(file)
  if not stat then return nil end
  return {
    status = 200, headers = { ["Content-Type"] = "application/x-tar", ["Cache-Control"] = "no-store" },
    body = function(write)
      for at = 0, stat.size - 1, PIECE do
        local piece = assert(fs.read(file, { offset = at, length = math.min(PIECE, stat.size - at) }))
        assert(write(piece))
      end
    end,
  }
end

return M
