-- Files. Everything runs on a pool of threads while the task waits.
--
-- Every function that takes a path takes {root=dir}: the path is then resolved beneath that directory by the
-- kernel, and one that would leave it, by "..", as an absolute path or through a symbolic link, fails with the
-- code "denied". Use it for every name that comes from outside.

local errors = require "errors"
local facade = require "base.facade"
local raw = require "core.fs"
local sys = require "base.sys"

local M = {}

---@alias FileType "file"|"dir"|"link"|"fifo"|"socket"|"device"|"unknown"

---@class FileStat
---@field type FileType
---@field size integer bytes
---@field mode integer permission bits
---@field mtime number wall seconds
---@field uid integer
---@field gid integer
---@field links integer
---@field device integer
---@field inode integer

---Reads a regular file. One above `max` bytes (16 MiB) fails with "too_large"; nothing is cut silently.
---@async
---@nodiscard
---@param path string
---@param opts? {max?: integer, root?: string, offset?: integer, length?: integer}
---@return string?
---@return Err? err
---@return_overload nil, Err
function M.read(path, opts)
  return raw.read(path, opts)
end

---Replaces a file as a whole: a reader sees the old content or the new one, also after a power cut
---(sync=false gives that up). Keeps the old file's mode. A symbolic link in its place is replaced, not followed.
---
---    assert(fs.write(dir .. "/app.yaml", text))
---@async
---@param path string
---@param data string
---@param opts? {mode?: integer, root?: string, sync?: boolean}
---@return true?
---@return Err? err
---@return_overload nil, Err
function M.write(path, data, opts)
  return raw.write(path, data, opts)
end

---Appends to a file, which is made when it is missing. Is on the disk when it returns only with sync=true.
---@async
---@param path string
---@param data string
---@param opts? {mode?: integer, root?: string, sync?: boolean}
---@return true?
---@return Err? err
---@return_overload nil, Err
function M.append(path, data, opts)
  return raw.append(path, data, opts)
end

---Lists a directory: the names in the order of their bytes, and the type of each.
---
---    local names, types = assert(fs.list(dir))
---@async
---@nodiscard
---@param path string
---@param opts? {root?: string, max?: integer} max: more entries fail with "too_large" (a million)
---@return string[]?
---@return table<string, FileType>|Err types or the error
function M.list(path, opts)
  return raw.list(path, opts)
end

---Goes through a tree, parents before children, in the order of names, without following symbolic links. Each
---path is relative to the start. What vanishes meanwhile is passed over; any other error raises.
---
---    for path, type in fs.walk(dir) do if type == "file" then print(path) end end
---@async
---@param path string
---@param opts? {root?: string, max?: integer}
---@return fun(): string?, FileType?
function M.walk(path, opts)
  local names, types = raw.list(path, opts)
  if not names then
    error(types, 0)
  end
  local levels = { { at = 0, names = names, types = types, prefix = "" } }
  local inside -- the directory given last: its entries come next
  return function()
    if inside then
      local below, kinds = raw.list(path .. "/" .. inside, opts)
      if below then
        levels[#levels + 1] = { at = 0, names = below, types = kinds, prefix = inside .. "/" }
      elseif kinds.code ~= "not_found" then
        error(kinds, 0)
      end
      inside = nil
    end
    while #levels > 0 do
      local level = levels[#levels]
      level.at = level.at + 1
      local name = level.names[level.at]
      if name then
        local found, kind = level.prefix .. name, level.types[name]
        inside = kind == "dir" and found or nil
        return found, kind
      end
      levels[#levels] = nil
    end
  end
end

---Makes a directory. With parents=true the missing ones above it too, and one that is there is no error.
---@async
---@param path string
---@param opts? {parents?: boolean, mode?: integer, root?: string}
---@return true?
---@return Err? err
---@return_overload nil, Err
function M.mkdir(path, opts)
  return raw.mkdir(path, opts)
end

---Removes a file or an empty directory; with recursive=true a whole tree. Never follows a symbolic link and
---never enters another file system.
---@async
---@param path string
---@param opts? {recursive?: boolean, root?: string}
---@return true?
---@return Err? err "not_found" when there is nothing
---@return_overload nil, Err
function M.remove(path, opts)
  return raw.remove(path, opts)
end

---Attributes of a file; with follow=false about a symbolic link itself.
---@async
---@nodiscard
---@param path string
---@param opts? {follow?: boolean, root?: string}
---@return FileStat?
---@return Err? err
---@return_overload nil, Err
function M.stat(path, opts)
  return raw.stat(path, opts)
end

---Whether something is there. A dangling symbolic link is not.
---@async
---@nodiscard
---@param path string
---@param opts? {root?: string}
---@return boolean? found nil: unknown
---@return Err? err
---@return_overload nil, Err
function M.exists(path, opts)
  local found, err = raw.stat(path, opts)
  if found then
    return true
  elseif err.code == "not_found" then
    return false
  end
  err.op = "fs.exists"
  return nil, err
end

---Renames; what is at the new place is replaced, unless replace=false ("exists").
---@async
---@param from string
---@param to string
---@param opts? {root?: string, replace?: boolean, sync?: boolean}
---@return true?
---@return Err? err
---@return_overload nil, Err
function M.rename(from, to, opts)
  return raw.rename(from, to, opts)
end

---@class Lock
---@field close fun(self: Lock)

---Locks a file (made when missing) against every other process and every other lock of this one. The lock goes
---with its handle, and with the process however it ends.
---
---    local lock <close> = assert(fs.lock(state .. "/lock"))
---@async
---@nodiscard
---@param path string
---@param opts? {shared?: boolean, root?: string}
---@return Lock?
---@return Err? err "busy" when it is locked
---@return_overload nil, Err
function M.lock(path, opts)
  return raw.lock(path, opts)
end

---@class Watch
---@field wait fun(self: Watch, timeout: number?): string[]?, Err? names that changed since; "timeout" when none did
---@field close fun(self: Watch)

---Watches the entries of a directory, or one file in it, which may also be missing as yet. What it says are
---hints: names come once for many changes, `overflow` is set when some were lost. List the folder afterwards.
---@nodiscard
---@param path string
---@return Watch?
---@return Err? err
---@return_overload nil, Err
function M.watch(path)
  return raw.watch(path)
end

---@class TempDir
---@field path string
---@field private handle core.fs.TempDir
local TempDir = {}

---Removes the directory with everything in it. It is gone from its path at once.
function TempDir:close()
  self.handle:close()
end

local temp_face = facade.kind("fs.temp_dir", { "path" }, TempDir, { close = TempDir.close })

local swept = {} ---@type table<string, boolean> where the leavings of killed processes were removed

---Makes a directory for this user alone that removes itself when its handle is closed or collected. One that a
---killed process left is removed by the next that makes one in the same place.
---
---    local dir <close> = assert(fs.temp_dir())
---@async
---@nodiscard
---@param opts? {dir?: string, prefix?: string} dir: where (TMPDIR or /tmp); prefix of its name ("moontide-")
---@return TempDir?
---@return Err? err
---@return_overload nil, Err
function M.temp_dir(opts)
  opts = sys.plain(opts) or {}
  for key in pairs(opts) do
    if key ~= "dir" and key ~= "prefix" then
      error(("unknown option '%s' (usage: fs.temp_dir([{dir, prefix}]))"):format(tostring(key)), 2)
    end
  end
  local prefix = opts.prefix or "moontide-"
  if type(prefix) ~= "string" or prefix:find("/", 1, true) then
    error("option 'prefix' must be a string without '/'", 2)
  end
  local dir = opts.dir or sys.env "TMPDIR" or "/tmp"
  local handle, err = raw.temp_dir(dir, prefix, not swept[dir])
  if not handle then
    return nil, err
  end
  swept[dir] = true
  return temp_face { path = handle:path(), handle = handle }
end

---Joins names to a path below `root`, as text: "." and ".." are worked out. Names come from anywhere: one that
---is absolute, leaves the root or holds NUL is an error. Says nothing about symbolic links; {root=} does.
---@nodiscard
---@param root string
---@param ... string
---@return string?
---@return Err? err "denied" or "invalid"
---@return_overload nil, Err
function M.join(root, ...)
  local function refuse(code, why, name)
    return errors.fail(code, why, { op = "fs.join", target = name })
  end
  if type(root) ~= "string" or root == "" then
    error("usage: fs.join(root, name...)", 2)
  end
  local parts = {}
  for i = 1, select("#", ...) do
    local name = select(i, ...)
    if type(name) ~= "string" then
      error(("usage: fs.join(root, name...): name %d is a %s"):format(i, type(name)), 2)
    elseif name:find("\0", 1, true) then
      return refuse("invalid", "the name holds a NUL byte", nil)
    elseif name:sub(1, 1) == "/" then
      return refuse("denied", "the name is absolute", name)
    end
    for part in name:gmatch "[^/]+" do
      if part == ".." then
        if #parts == 0 then
          return refuse("denied", "the name leaves its root", name)
        end
        parts[#parts] = nil
      elseif part ~= "." then
        parts[#parts + 1] = part
      end
    end
  end
  if #parts == 0 then
    return root
  end
  return (root:sub(-1) == "/" and root or root .. "/") .. table.concat(parts, "/")
end

return M
