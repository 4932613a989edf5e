-- Addresses of git repositories: which are accepted, and their parts.
--
-- Only http, https, ssh (also in the scp form) and file. Everything that git would hand to a helper program
-- of another name (`ext::`, `foo://`) is refused, and so is every address that could be read as an option or
-- that carries a line break into a credential or configuration file (CVE-2017-1000117, CVE-2020-5260).

local errors = require "errors"

local M = {}

---@class GitUrl
---@field scheme "http"|"https"|"ssh"|"file"
---@field text string the address without a password, as git and people get it
---@field user? string
---@field host? string lower case, IPv6 in brackets
---@field port? integer
---@field path string
---@field origin string who answers: "https://host:port", "ssh://host:port" or "file"

local DEFAULT_PORT = { http = 80, https = 443, ssh = 22 }

local function refuse(text, why)
  return errors.fail("invalid", why, { op = "git.url", target = text })
end

local function check_host(text, host)
  if host == "" then return refuse(text, "the address names no host") end
  if host:find "^%[[%x:.]+%]$" then return true end
  if not host:find "^[%w][%w%.%-_]*$" then return refuse(text, "the host name is not acceptable") end
  return true
end

local function with_authority(text, scheme, rest)
  local authority, path = rest:match "^([^/]*)(/.*)$"
  if not authority then return refuse(text, "the address has no path") end
  local userinfo, hostport = authority:match "^(.*)@([^@]*)$"
  hostport = hostport or authority
  if userinfo and userinfo:find ":" then
    -- The text of the address reaches logs and argument lists. Its password must not.
    return errors.fail("invalid", "an address must not contain a password: use `credentials`",
      { op = "git.url" })
  end
  if userinfo and (userinfo == "" or userinfo:find "^%-" or userinfo:find "[^%w%.%-_~%%+]") then
    return refuse(text, "the user name in the address is not acceptable")
  end
  local user = userinfo and userinfo:gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16) --[[@as integer]])
  end)
  if user and user:find "[%c:]" then return refuse(text, "the user name in the address is not acceptable") end
  local host, port = hostport:match "^(.-):(%d+)$"
  host = (host or hostport):lower()
  local ok, err = check_host(text, host)
  if not ok then return nil, err end
  port = tonumber(port)
  if port and (port < 1 or port > 65535) then return refuse(text, "the port is not acceptable") end
  if path:find "^/+$" then return refuse(text, "the address has no path") end
  if scheme ~= "ssh" and path:find "[?#]" then
    return refuse(text, "the address of a repository has no query and no fragment")
  end
  local shown = port and port ~= DEFAULT_PORT[scheme] and host .. ":" .. port or host
  path = path:gsub("/+$", "")
  local shown_text = ("%s://%s%s%s"):format(scheme, userinfo and scheme == "ssh" and userinfo .. "@" or "", shown, path)
  return {
    scheme = scheme,
    user = user,
    host = host,
    port = port,
    path = path,
    origin = ("%s://%s:%d"):format(scheme, host, port or DEFAULT_PORT[scheme]),
    text = shown_text == text and text or shown_text, -- long texts that are equal are not one by themselves
  }
end

local function scp_form(text, user, host, path)
  local ok, err = check_host(text, host)
  if not ok then return nil, err end
  if path == "" or path:find "^%-" then return refuse(text, "the path is not acceptable") end
  if user and (user:find "^%-" or not user:find "^[%w%.%-_]+$") then
    return refuse(text, "the user name in the address is not acceptable")
  end
  return {
    scheme = "ssh", user = user, host = host:lower(), path = path, text = text,
    origin = ("ssh://%s:22"):format(host:lower()),
  }
end

local function file_form(text, path)
  if path:sub(1, 1) ~= "/" then return refuse(text, "a local repository needs an absolute path") end
  if #path > 1 then path = path:gsub("/+$", "") end
  return { scheme = "file", path = path, text = "file://" .. path, origin = "file" }
end

---Reads the address of a repository.
---
---Accepted: https://host/path, http://host/path, ssh://[user@]host/path, [user@]host:path, file:///path,
---/path.
---@param text string
---@return GitUrl?
---@return Err? err code "invalid" or "unsupported"
---@nodiscard
---@return_overload nil, Err
function M.parse(text)
  if type(text) ~= "string" then error("usage: git.parse_url(text)", 2) end
  if #text > 2048 then return errors.fail("invalid", "the address is too long", { op = "git.url" }) end
  if text:find "[%c%s\127-\255]" then
    return errors.fail("invalid",
      "the address holds spaces, control characters or non-ASCII bytes (use %20 and so on)",
      { op = "git.url" })
  end
  if text:sub(1, 1) == "/" then return file_form(text, text) end
  local scheme, rest = text:match "^([%a][%w+.-]*)://(.*)$"
  if scheme then
    scheme = scheme:lower()
    if scheme == "file" then return file_form(text, ((rest or ""):gsub("^localhost/", "/"))) end
    if DEFAULT_PORT[scheme] then return with_authority(text, scheme, rest) --[[@as GitUrl]] end
    return errors.fail("unsupported", scheme .. ":// is not supported: use https, ssh or file",
      { op = "git.url", target = text })
  end
  if text:find("::", 1, true) and not text:find "^[^:]*%[" then
    return errors.fail("unsupported", "remote helpers are not supported", { op = "git.url" })
  end
  local user, host, path = text:match "^([^@/:]+)@([^/:]+):(.*)$"
  if not user then host, path = text:match "^([^@/:]+):(.*)$" end
  if host then return scp_form(text, user, host, path) end
  return refuse(text, "not the address of a git repository")
end

return M
