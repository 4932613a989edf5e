-- Lines of a streamed answer, of up to 8 MiB: an object in a watch may be larger than what http's own lines allow.
local errors = require "errors"

local M = {}

local LINE_MAX <const> = 8 << 20

---Makes a reader of lines. It gives each line without its end; nil at the end of the stream; nil and the error when
---it broke off or a line is too long. What the stream ends with, without a line end, is given with `true` behind it.
---@param answer HttpAnswer streamed
---@param most? integer longest line in bytes; a longer one is given in pieces
---@return fun(): string?, Err|true|nil
function M.reader(answer, most)
  local chunk, at = "", 1 -- unread: chunk from `at`
  local parts, len = {}, 0 -- before it: the beginning of a line
  local function take(last)
    local line = chunk:sub(at, last)
    if parts[1] then
      parts[#parts + 1] = line
      line = table.concat(parts)
      parts, len = {}, 0
    end
    return line:sub(-1) == "\r" and line:sub(1, -2) or line
  end
  return function()
    while true do
      local stop = chunk:find("\n", at, true)
      if stop then
        local line = take(stop - 1)
        at = stop + 1
        return line
      end
      if at <= #chunk then
        parts[#parts + 1] = chunk:sub(at)
        len = len + #parts[#parts]
        chunk, at = "", 1
      end
      if most and len > most then return take(0) end
      if len > LINE_MAX then
        return errors.fail("too_large", "a line is longer than 8 MiB", { op = "kubernetes.read", target = answer.url })
      end
      local piece, err = answer:read()
      if err then return nil, err end
      if not piece then
        if not parts[1] then return nil end
        return take(0), true
      end
      chunk, at = piece, 1
    end
  end
end

return M
