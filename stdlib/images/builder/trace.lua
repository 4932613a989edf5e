-- BuildKit's progress: the protobuf message that the Docker Engine sends as `moby.buildkit.trace`, as lines
-- for people.
--
-- Fields used (control.proto, StatusResponse): 1 vertexes {1 digest, 3 name, 4 cached, 6 completed, 7 error},
-- 3 logs {1 vertex, 4 msg}. Unknown fields are skipped; a message that does not parse is ignored.
local M = {}

---@param bytes string
---@param at integer
---@return integer? value
---@return integer next
local function varint(bytes, at)
  local value, shift = 0, 0
  while shift < 64 do
    local b = bytes:byte(at)
    if not b then break end
    value = value | (b & 0x7f) << shift
    at = at + 1
    if b < 0x80 then return value, at end
    shift = shift + 7
  end
  return nil, at
end

-- Calls each(field, value) for every field: varints as numbers, delimited fields as strings.
local function fields(bytes, each)
  local at = 1
  while at <= #bytes do
    local key
    key, at = varint(bytes, at)
    if not key then return end
    local kind, value = key & 7, nil
    if kind == 0 then
      value, at = varint(bytes, at)
      if not value then return end
    elseif kind == 2 then
      local len
      len, at = varint(bytes, at)
      if not len or len < 0 or at + len - 1 > #bytes then return end
      value, at = bytes:sub(at, at + len - 1), at + len
    elseif kind == 1 then
      at = at + 8
    elseif kind == 5 then
      at = at + 4
    else
      return
    end
    if value then each(key >> 3, value) end
  end
end

---Makes a reader that turns messages into output lines, each step and each log line once.
---@param hooks {output: fun(stream: string, line: string), progress: fun(text: string)}
---@return fun(bytes: string)
function M.reader(hooks)
  local started, ended = {}, {}
  return function(bytes)
    fields(bytes, function(field, value)
      if field == 1 and type(value) == "string" then
        local digest, name, cached, completed = "", "", false, false
        fields(value, function(f, v)
          if f == 1 then
            digest = v
          elseif f == 3 then
            name = v
          elseif f == 4 then
            cached = v ~= 0
          elseif f == 6 then
            completed = true
          end
        end)
        if name ~= "" and not started[digest] then
          started[digest] = true
          hooks.progress(name)
        end
        if name ~= "" and completed and not ended[digest] then
          ended[digest] = true
          hooks.output("stdout", (cached and "cached " or "") .. name)
        end
      elseif field == 3 and type(value) == "string" then
        fields(value, function(f, v)
          if f == 4 and type(v) == "string" then
            for line in v:gmatch("[^\r\n]+") do hooks.output("stdout", line) end
          end
        end)
      end
    end)
  end
end

return M
