-- Watching the files that a host was loaded from: the configuration, the folder of scripts with the folders in it, and
-- the folder of extensions. When one was saved and no more is written, the host loads what is there.
--
-- Events of the system are hints only: what counts is a look at the files' attributes, compared with the look before.
-- So it does not matter how an editor or a deployment writes, nor whether the file system tells of changes; one that
-- does not is looked at now and then.
local errors, fs, log, task, time = require "errors", require "fs", require "log", require "task", require "time"

local M = {}

M.QUIET = 0.2   -- seconds without a change after which a save is complete
---@type number
M.LONGEST = 3   -- seconds after which what is still being written is loaded all the same
---@type number
M.LOOK = 5      -- seconds between two looks without a hint

local MOST <const> = 10000 -- files that a look takes into account
local FOLDERS <const> = 64 -- that are watched for events

---@class WatchedHost
---@field since? Wall When its configuration began to be read: what was saved later is not loaded yet.
---@field config fun(): Config What is loaded.
---@field tried fun(): table? What was to be loaded last, when that was refused.
---@field reload fun() Loads what is there.

-- The leavings of editors and deployments, and everything hidden.
local function passed_over(name) return name:find "^[.#]" ~= nil or name:find "[~#]$" ~= nil end

-- Whether an event may be about what is looked at. The files of a mounted ConfigMap lead through a link that is called
-- ..data: it alone changes.
local function is_hint(name) return name:find "^%.%." ~= nil or not passed_over(name) end

local function attributes(stat)
  return ("%s %d %.9f %d:%d %o %d"):format(stat.type, stat.size, stat.mtime, stat.device, stat.inode, stat.mode,
    stat.uid)
end

---@class Look
---@field text string All of it: another text, other files.
---@field visited table<string, true>
---@field lines string[]
---@field folders table<string, string> Each with its identity.
---@field newest Wall
---@field files integer
---@field single table<string, table<string, true>> Folders in which some names count.

local function add(look, path)
  local stat, err = fs.stat(path)
  look.lines[#look.lines + 1] = path .. " " .. (stat and attributes(stat) or err.code)
  if stat then look.newest = math.max(look.newest, stat.mtime) end
  return stat
end

-- Adds a folder and the folders in it; links lead into others, but never twice into the same.
local function add_folder(look, path)
  local stat = fs.stat(path)
  look.lines[#look.lines + 1] = path .. (stat and "/" or " is missing")
  if not stat or stat.type ~= "dir" then return end
  local identity = ("%d:%d"):format(stat.device, stat.inode)
  if look.visited[identity] then return end
  look.visited[identity], look.folders[path] = true, identity
  local names, types = fs.list(path)
  for _, name in ipairs(names or {}) do
    local kind = types[name]
    if not passed_over(name) and look.files < MOST then
      if name:find "%.lua$" then
        look.files = look.files + 1
        add(look, path .. "/" .. name)
      elseif kind == "dir" or kind == "link" then
        add_folder(look, path .. "/" .. name)
      end
    end
  end
end

-- One name of a folder counts.
local function add_single(look, path)
  local folder, name = path:match("^(.-)/([^/]*)$")
  folder = folder == "" and "/" or folder
  look.single[folder] = look.single[folder] or {}
  look.single[folder][name] = true
end

-- Looks at all that configurations name.
local function look_at(configs)
  local look = { lines = {}, folders = {}, visited = {}, newest = 0, files = 0, single = {} }
  for _, config in ipairs(configs) do
    add(look, config.file)
    add_single(look, config.file)
    for _, folder in ipairs { config.scripts or false, config.extensions or false } do
      if folder then
        add_folder(look, folder)
        add_single(look, folder)
      end
    end
  end
  look.text = table.concat(look.lines, "\n")
  return look
end

---@class Watcher
---@field host WatchedHost
---@field hint Signal Something may have changed.
---@field seen string The look after which all was loaded.
---@field watches table<string, {identity: string, task: Task}> By folder.
local Watcher = {}
Watcher.__index = Watcher

---Looks at the files now.
---@return table look
function Watcher:look()
  local configs = { self.host.config() } ---@type table[]
  local tried = self.host.tried()
  if tried and tried.file then configs[2] = tried end
  return look_at(configs)
end

-- Waits for events of one folder until it is replaced. With `only`, other names do not matter.
local function follow(self, path, only)
  local watch = fs.watch(path)
  if not watch then return end -- the next look without a hint finds what changed
  local _ <close> = task.defer(function() watch:close() end)
  while true do
    local changed = watch:wait() --[[@as any]]
    if not changed then return end
    local hint = changed.overflow
    for _, name in ipairs(changed) do
      hint = hint or (not only or only[name] or name:find "^%.%.") and is_hint(name)
    end
    if hint then self.hint:notify() end
  end
end

---Watches the folders of a look, each as it is now: one that was replaced is another.
---@param look table
function Watcher:watch(look)
  local wanted, count = {}, 0
  local function want(path, identity)
    if wanted[path] or count >= FOLDERS then return end
    wanted[path], count = identity, count + 1
  end
  for path, identity in pairs(look.folders) do want(path, identity) end
  for path in pairs(look.single) do
    local stat = not wanted[path] and fs.stat(path)
    if stat then want(path, ("%d:%d"):format(stat.device, stat.inode)) end
  end
  for path, watched in pairs(self.watches) do
    if wanted[path] ~= watched.identity or watched.task:done() then
      watched.task:cancel()
      self.watches[path] = nil
    end
  end
  for path, identity in pairs(wanted) do
    if not self.watches[path] then
      local only = not look.folders[path] and look.single[path] or nil
      local following = task.start({ name = "watching " .. path }, follow, self, path, only)
      self.watches[path] = { identity = identity, task = following }
    end
  end
end

---Looks until nothing changes any more, but not for ever.
---@async
---@return table look
function Watcher:settle()
  local last, now = time.monotonic() + M.LONGEST, self:look()
  while now.text ~= self.seen do
    local before = now
    time.sleep(M.QUIET)
    now = self:look()
    if now.text == before.text or time.monotonic() > last then break end
  end
  return now
end

---Watches until it is cancelled.
---@async
---@param host WatchedHost
function M.run(host)
  local self = setmetatable({ host = host, hint = task.signal(), watches = {} }, Watcher)
  local first = self:look()
  self.seen = first.newest < (host.since or 0) - 1 and first.text or "" -- what was saved meanwhile is loaded
  self:watch(first)
  while true do
    local now = self:settle()
    if now.text ~= self.seen and host.config().watch ~= false then
      self.seen = now.text
      local ok, err = pcall(host.reload)
      if not ok and errors.is(err, "cancelled") then error(err, 0) end
      if not ok then log.error("what was saved could not be loaded", { error = tostring(err) }) end
    else -- else once more: what was loaded may name other folders
      self:watch(now)
      self.hint:wait(M.LOOK)
    end
  end
end

return M
