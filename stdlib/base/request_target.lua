---What a request is addressed to: its target, and the host that it names.
local M = {}

---Undoes percent-encoding. The text must be well-formed.
---@param text string
---@return string
function M.unescape(text)
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16) --[[@as integer]]) end))
end

-- Well-formed escapes, and nothing in what they mean that is not text.
local function decode(text)
  if text:gsub("%%%x%x", ""):find("%", 1, true) then return nil end
  local plain = M.unescape(text)
  if plain:find("%c") or not utf8.len(plain) then return nil end
  return plain
end

---Splits a target into its path, as it was sent, and its query, decoded.
---@param sent string
---@return string? path nil when it is malformed
---@return table<string, string>? query
function M.parse(sent)
  local path, rest = sent:match("^([^?#]*)%??([^#]*)$")
  if not path then return nil end
  local plain = decode(path)
  if not plain then return nil end
  for part in plain:gmatch("[^/]+") do
    if part == "." or part == ".." then return nil end
  end
  local query = {}
  for pair in (rest or ""):gmatch("[^&]+") do
    local name, value = pair:match("^([^=]*)=?(.*)$")
    name, value = decode((name:gsub("+", " "))), M.unescape((value:gsub("+", " ")))
    if not name or value:find("\0", 1, true) then return nil end
    if query[name] == nil then query[name] = value end
  end
  return path, query
end

-- The name in a Host header or an origin, without port; nil when it is none.
local function host_name(text)
  local name = text:match("^%[([%x:.]+)%]:?%d*$") or text:match("^([^:]+):?%d*$")
  return name and name:lower()
end

---Whether a request may be addressed to this name. A browser that a foreign name led here names that host;
---an IP address cannot be led anywhere.
---@param header? string The Host header; only HTTP/1.0 comes without
---@param hosts table<string, true>
---@return boolean
function M.host_allowed(header, hosts)
  if not header then return true end
  local name = host_name(header)
  if not name then return false end
  return name == "localhost" or hosts[name] == true or name:find("^[%d.]+$") ~= nil or header:sub(1, 1) == "["
end

---Whether a writing request comes from no page at all or from one of ours.
---@param headers table<string, string>
---@return boolean
function M.same_origin(headers)
  local site = headers["sec-fetch-site"]
  if site and site ~= "same-origin" and site ~= "none" then return false end
  local origin = headers.origin
  if not origin then return true end
  return headers.host ~= nil and origin:lower():match("^https?://(.+)$") == headers.host:lower()
end

return M
