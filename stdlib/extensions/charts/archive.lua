-- A chart's archive: read as hostile bytes without writing any of it to disk, and written so that the same contents
-- give the same bytes.
--
-- Helm keeps the times of files (version 3 even the time of packaging), so two archives of one commit differ. Ours have
-- the commit's time everywhere. Rules: POSIX ustar and pax; Helm's limits for charts.
local errors, gzip, hash, tar = require "errors", require "gzip", require "hash", require "images.builder.tar"
local text = require "base.text"

local M = {}

local BLOCK <const> = 512
local MAX_PACKED <const>, MAX_UNPACKED <const> = 10 << 20, 32 << 20
local MAX_ENTRIES <const>, MAX_PATH <const> = 10000, 1000

---@class ArchiveEntry
---@field path string "web/templates/deployment.yaml"
---@field data string

local function fail(code, message, path)
  return errors.fail(code, message, { op = "charts.archive", target = path and text.clean(path, 100) })
end

local function until_nul(field) return field:match("^[^\0]*") end

-- Why a path could lead somewhere else than below the chart's own folder.
local function stray(path)
  if path == "" or #path > MAX_PATH or path:find("^/") or path:find("[%c\\]") then return true end
  for part in (path .. "/"):gmatch("(.-)/") do
    if part == "" or part == "." or part == ".." then return true end
  end
  return not path:find("/", 1, true)
end

-- One header: kind, path and size; nil at the end of the archive.
local function header(bytes, at)
  local head = bytes:sub(at, at + BLOCK - 1)
  if #head < BLOCK then return fail("invalid", "the archive ends early") end
  local size = tar.number(head:sub(125, 136))
  if not size then return fail("invalid", "the archive has an entry without a size") end
  if at + BLOCK + size - 1 > #bytes then return fail("invalid", "the archive ends early") end
  local prefix = until_nul(head:sub(346, 500))
  return {
    kind = head:sub(157, 157), size = size,
    path = (prefix ~= "" and prefix .. "/" or "") .. until_nul(head:sub(1, 100)),
  }
end

-- What kinds of entries mean: plain files are taken, folders are nothing, pax and GNU records name what follows.
local PLAIN <const>, SILENT <const> = { ["0"] = true, ["\0"] = true }, { ["5"] = true, g = true }

local function entries_of(bytes)
  local list, seen, at, long = {}, {}, 1, nil
  while at <= #bytes and not bytes:find("^" .. ("\0"):rep(BLOCK), at) do
    local head, err = header(bytes, at)
    if not head then return nil, err end
    local data = bytes:sub(at + BLOCK, at + BLOCK + head.size - 1)
    at = at + BLOCK + (head.size + BLOCK - 1) // BLOCK * BLOCK
    if head.kind == "x" then
      long = tar.pax_path(data) or long
    elseif head.kind == "L" then
      long = until_nul(data)
    elseif PLAIN[head.kind] then
      local path = (long or head.path):gsub("^%./", "")
      long = nil
      if stray(path) then return fail("denied", "the archive has a file outside of its folder", path) end
      if seen[path] then return fail("invalid", "the archive has a file twice", path) end
      seen[path], list[#list + 1] = true, { path = path, data = data }
    elseif SILENT[head.kind] then
      long = nil
    else
      return fail("denied", "the archive has something else than files and folders", head.path)
    end
    if #list > MAX_ENTRIES then return fail("too_large", "the archive has too many files") end
  end
  return list
end

---The files of a chart's archive.
---@param packed string
---@return ArchiveEntry[]? entries
---@return Err? err denied for paths and kinds that no chart has; invalid; too_large
---@nodiscard
---@return_overload nil, Err
function M.read(packed)
  if #packed > MAX_PACKED then return fail("too_large", "the archive is larger than 10 MiB") end
  local bytes, err = gzip.decode(packed, { max = MAX_UNPACKED })
  if not bytes then return nil, err end
  return entries_of(bytes)
end

local function octal(number, width) return ("%0" .. width - 1 .. "o\0"):format(number) end

local function padded(field, width) return field .. ("\0"):rep(width - #field) end

-- A header of ustar with its checksum.
local function ustar(kind, path, size, mtime)
  local front = padded(path, 100) .. octal(420, 8) .. octal(0, 8) .. octal(0, 8) .. octal(size, 12) .. octal(mtime, 12)
  local back = kind .. ("\0"):rep(100) .. "ustar\0" .. "00" .. ("\0"):rep(32 + 32) .. octal(0, 8) .. octal(0, 8)
  local head, sum = padded(front .. (" "):rep(8) .. back, BLOCK), 0
  for i = 1, BLOCK do sum = sum + head:byte(i) end
  return front .. ("%06o\0 "):format(sum) .. padded(back, BLOCK - 156)
end

local function fill(size) return ("\0"):rep(-size % BLOCK) end

-- The pax record of a path that has no room in ustar: its length counts itself.
local function pax(path)
  local rest = " path=" .. path .. "\n"
  local length = #rest + 1
  while #tostring(length) + #rest ~= length do length = #tostring(length) + #rest end
  return length .. rest
end

---Writes an archive with one time on everything, in the order of the entries.
---@param entries ArchiveEntry[]
---@param mtime integer
---@return string? packed
---@return Err? err
---@nodiscard
---@return_overload nil, Err
function M.write(entries, mtime)
  local parts = {}
  for _, entry in ipairs(entries) do
    local path, size = entry.path, #entry.data
    if #path > 100 then
      local record = pax(path)
      table.move({ ustar("x", "pax", #record, mtime), record, fill(#record) }, 1, 3, #parts + 1, parts)
    end
    table.move({ ustar("0", path:sub(1, 100), size, mtime), entry.data, fill(size) }, 1, 3, #parts + 1, parts)
  end
  parts[#parts + 1] = ("\0"):rep(2 * BLOCK)
  return gzip.encode(table.concat(parts))
end

---Puts a chart's files in the one order that they always have: Chart.yaml, then by their paths. Helm's order differs
---from one time to the next.
---@param entries ArchiveEntry[]
function M.sort(entries)
  local function rank(path) return path:find("^[^/]+/Chart%.yaml$") and "" or path end
  table.sort(entries, function(a, b) return rank(a.path) < rank(b.path) end)
end

---A text that two archives have in common when they have the same files, whatever their times and their order.
---@param entries ArchiveEntry[]
---@return string
---@nodiscard
function M.contents(entries)
  local lines = {}
  for i, entry in ipairs(entries) do lines[i] = hash.sha256(entry.data) .. " " .. entry.path end
  table.sort(lines)
  return table.concat(lines, "\n")
end

---One file of an archive, by its path below the chart's folder.
---@param entries ArchiveEntry[]
---@param path string
---@return string?
---@nodiscard
function M.file(entries, path)
  for _, entry in ipairs(entries) do
    if entry.path:match("^[^/]+/(.+)$") == path then return entry.data end
  end
end

return M
