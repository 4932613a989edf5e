-- The log of one run: a file of JSON lines in the state folder, written asynchronously, of bounded size.
local fs, json, log, task, time = require "fs", require "json", require "log", require "task", require "time"

local M = {}

local MAX_FILE <const> = 32 << 20  -- bytes; a longer log is cut, with a note
local MAX_LINE <const> = 4000
local PIECE <const> = 256 * 1024   -- bytes read for one answer

---@class RunLogWriter
---@field private path? string nil: nothing is kept.
---@field private size integer
---@field private lines string[]
---@field private writing boolean
---@field private wake Signal
---@field private written Signal
local Writer = {}
Writer.__index = Writer

---Where a run's log is kept.
---@param state string The state folder.
---@param id integer
---@return string path
function M.path(state, id) return ("%s/runs/%d.jsonl"):format(state, id) end

---@async
---@param state? string nil: the journal is in memory, and what is written goes nowhere.
---@param id integer
---@return RunLogWriter
function M.writer(state, id)
  local path = state and M.path(state, id)
  if state then fs.mkdir(state .. "/runs", { parents = true }) end
  local stat = path and fs.stat(path)
  return setmetatable({
    path = path, size = stat and stat.size or 0, lines = {}, wake = task.signal(),
    writing = false, written = task.signal(),
  }, Writer)
end

---Adds an entry; it reaches the file within a moment.
---@param entry LogEntry
function Writer:add(entry)
  if not self.path or self.size > MAX_FILE then return end
  entry.at = entry.at or time.now()
  entry.text = log.redact(entry.text):sub(1, MAX_LINE)
  local line = json.encode(entry)
  if not line then
    entry.text = entry.text:gsub("[\128-\255]", "?") -- not UTF-8
    line = json.encode(entry) or "{}"
  end
  line = log.redact(line)
  self.size = self.size + #line + 1
  if self.size > MAX_FILE then
    line = json.encode {
      at = entry.at, kind = "note", level = "warn", text = "the log is full: what follows is not kept",
    }
  end
  self.lines[#self.lines + 1] = line
  self.wake:notify()
end

---Writes what waits; when it returns all that was added before is in the file.
---@async
function Writer:flush()
  while self.writing or #self.lines > 0 do
    if self.writing then -- by another task: it would be cancelled with its lines in hand if we went on
      self.written:wait(1)
    else
      local text = table.concat(self.lines, "\n") .. "\n"
      self.lines, self.writing = {}, true
      local ok, err = fs.append(assert(self.path), text, { sync = false, mode = 384 }) -- 0600
      self.writing = false
      self.written:notify()
      if not ok then log.error("a run's log cannot be written", { path = self.path, error = tostring(err) }) end
    end
  end
end

---Keeps flushing; run it as a task beside the run.
---@async
function Writer:pump()
  while true do
    self.wake:wait()
    self:flush()
    time.sleep(0.1)
  end
end

---Reads a piece of a run's log.
---@async
---@param state? string
---@param id integer
---@param offset integer
---@return LogEntry[] entries
---@return integer next
function M.read(state, id, offset)
  local entries, next_offset = {}, offset
  local text = state and fs.read(M.path(state, id), { offset = offset, length = PIECE })
  if not text then return entries, offset end
  for line, stop in text:gmatch("([^\n]*)\n()") do
    if #entries == 1000 then break end
    entries[#entries + 1] = json.decode(line)
    next_offset = offset + stop - 1
  end
  if next_offset == offset and #text == PIECE then next_offset = offset + #text end -- one line longer than a piece
  return entries, next_offset
end

return M
