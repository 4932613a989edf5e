-- A bundle: several charts, each at one version, as one thing that is released, kept by the journal and put back.
--
-- Its text is all there is to know: `api=1.2.3@sha256:... web=2.0.0@sha256:...`, in the order of the names. Its digest
-- is the digest of that text, so that a chart whose bytes change under the same version makes another bundle.
local errors, hash, semver = require "errors", require "hash", require "semver"

local M = {}

local MAX_TEXT <const>, MAX_PARTS <const> = 64 << 10, 100

---@class ChartPart
---@field name string The chart's name in the app's configuration.
---@field version string As the repository writes it.
---@field digest? string "sha256:..."; missing when the repository has none.

---@class Bundle
---@field image string The whole text.
---@field digest string "sha256:..." of the text.
---@field version string `api=1.2.3 web=2.0.0`, for people.
---@field versions table<string, string> By the charts' names.

local function about(text) return { op = "charts.bundle", target = text:gsub("%c", "?"):sub(1, 100) } end

-- What may stand in a bundle: nothing that could be taken for another part of it.
local function wrong(part)
  if type(part.name) ~= "string" or not part.name:find("^[%w][%w._-]*$") or #part.name > 63 then return "name" end
  if type(part.version) ~= "string" or #part.version > 257 or not semver.tag(part.version) then return "version" end
  if part.digest ~= nil and not tostring(part.digest):find("^sha256:" .. ("%x"):rep(64) .. "$") then return "digest" end
end

---Makes the bundle of some charts.
---@param parts ChartPart[]
---@return Bundle? bundle
---@return Err? err
---@nodiscard
---@return_overload nil, Err
function M.make(parts)
  local sorted, versions = {}, {}
  for i, part in ipairs(parts) do
    local what = wrong(part)
    if what then
      return errors.fail("invalid", ("the %s of a chart cannot stand in a bundle"):format(what),
        about(tostring(part[what])))
    end
    if versions[part.name] then
      return errors.fail("invalid", "a chart stands in the bundle twice", about(part.name))
    end
    sorted[i], versions[part.name] = part, part.version
  end
  if #sorted == 0 or #sorted > MAX_PARTS then
    return errors.fail("invalid", ("a bundle has 1 to %d charts"):format(MAX_PARTS), { op = "charts.bundle" })
  end
  table.sort(sorted, function(a, b) return a.name < b.name end)
  local full, short = {}, {}
  for i, part in ipairs(sorted) do
    short[i] = part.name .. "=" .. part.version
    full[i] = short[i] .. (part.digest and "@" .. part.digest or "")
  end
  local image = table.concat(full, " ")
  return {
    image = image, digest = "sha256:" .. hash.sha256(image), version = table.concat(short, " "), versions = versions,
  }
end

---Reads the text of a bundle; one without digests (a bundle's `version`) is read too.
---@param text string
---@return table<string, ChartPart>? parts By the charts' names.
---@return Err? err
---@nodiscard
---@return_overload nil, Err
function M.read(text)
  if type(text) ~= "string" then error("usage: bundle.read(text)", 2) end
  local parts, count = {}, 0
  for word in text:sub(1, MAX_TEXT + 1):gmatch("%S+") do
    local name, rest = word:match("^([^=]+)=(.+)$")
    local version, digest = (rest or ""):match("^([^@]+)@(.+)$")
    local part = { name = name, version = version or rest, digest = digest }
    if wrong(part) or parts[name] or #text > MAX_TEXT then
      return errors.fail("invalid", "this is no list of charts and versions", about(text))
    end
    parts[name], count = part, count + 1
  end
  if count == 0 then return errors.fail("invalid", "this is no list of charts and versions", about(text)) end
  return parts
end

---The versions in the text of a bundle.
---@param text string
---@return table<string, string>? versions
---@return Err? err
---@nodiscard
---@return_overload nil, Err
function M.versions(text)
  local parts, err = M.read(text)
  if not parts then return nil, err end
  local versions = {}
  for name, part in pairs(parts) do versions[name] = part.version end
  return versions
end

---The environment variable that carries a chart's version: `my-app` becomes `MY_APP_VERSION`.
---@param name string
---@return string
---@nodiscard
function M.variable(name)
  local word = name:upper():gsub("[^%w]", "_") .. "_VERSION"
  return word:find("^%d") and "_" .. word or word
end

return M
