-- The tests of what was saved, before it becomes live: those of NAME.lua are NAME_test.lua beside it.
--
-- They run in processes of their own (`moontide test`), on a copy of the folder in which the policies and their modules
-- are the very texts that were read: what passes is what becomes live.
local errors, fs, hash, task = require "errors", require "fs", require "hash", require "task"

local M = {}

M.DEADLINE, M.HANGS = 300, 60 -- seconds for all tests, and for one without a sign of life
local LARGEST <const> = 1 << 20 -- bytes of a file
local MOST <const>, MOST_BYTES <const> = 10000, 64 << 20 -- files and bytes that are copied

local function test_of(file) return (file:gsub("%.lua$", "_test.lua")) end

-- What a policy consists of, by file: its text and those of its modules. Only files of the folder.
local function units_of(policy, folder, units)
  local function add(unit)
    if unit.file:sub(1, #folder + 1) == folder .. "/" then units[unit.file] = unit.text end
  end
  add(policy)
  for _, module in pairs(policy.modules or {}) do add(module) end
end

-- A file of the folder, which leads to none outside of it.
local function read(folder, file) return fs.read(file:sub(#folder + 2), { root = folder, max = LARGEST }) end

-- The files whose tests are due: all that a policy consists of, when any of it changed.
local function changed(policies, folder, before)
  local files = {}
  for _, policy in pairs(policies) do
    local units, differs = {}, false
    units_of(policy, folder, units)
    for file, text in pairs(units) do differs = differs or before[file] ~= text end
    for file in pairs(differs and units or {}) do files[file] = true end
  end
  return files
end

-- The tests to be run: of what changed, and those that changed themselves. One that is there and cannot be read is a
-- fault: it would not hold anything back.
local function due(self, folder, now, files)
  local list, texts, faults = {}, {}, {}
  for file in pairs(now) do
    local path = test_of(file)
    local there, err = read(folder, path)
    texts[path] = there and hash.sha256(there) or nil
    if not there and err and err.code ~= "not_found" then
      faults[#faults + 1] = { file = path, message = "the tests cannot be read: " .. err.message }
    end
    local known = self.tests_seen[path]
    if there and (files[file] or known and known ~= texts[path]) then list[#list + 1] = path end
  end
  table.sort(list)
  return list, texts, faults
end

-- Copies the scripts of a folder; `texts` stands for what was read already.
local function copy(folder, into, texts)
  local count, bytes = 0, 0
  for path in fs.walk(folder) do
    local from, hidden = folder .. "/" .. path, ("/" .. path):find("/.", 1, true)
    if path:find "%.lua$" and not hidden and not texts[from] and count < MOST and bytes < MOST_BYTES then
      count = count + 1
      local text = read(folder, from)
      if text then
        bytes = bytes + #text
        assert(fs.mkdir(into .. "/" .. (path:match "^(.*)/[^/]*$" or ""), { parents = true }))
        assert(fs.write(into .. "/" .. path, text, { sync = false }))
      end
    end
  end
  for from, text in pairs(texts) do
    local path = from:sub(#folder + 2)
    assert(fs.mkdir(into .. "/" .. (path:match "^(.*)/[^/]*$" or ""), { parents = true }))
    assert(fs.write(into .. "/" .. path, text, { sync = false }))
  end
end

local function fault_of(result, folder, copied)
  local function shown(text) return (text:gsub(copied:gsub("%p", "%%%0"), (folder:gsub("%%", "%%%%")))) end
  local failure = result.failure or {}
  local file, line = shown(failure.where or result.file):match "^(.-):(%d+)$"
  local text = table.concat(failure.message or {}, " ")
  if failure.got and failure.expected then
    text = ("%s: %s instead of %s"):format(text, table.concat(failure.got, " "), table.concat(failure.expected, " "))
  end
  return {
    file = file or shown(result.file), line = math.tointeger(tonumber(line)),
    message = ("the test %q fails: %s"):format(result.name, shown(text)),
  }
end

local function run(folder, list, texts, state)
  local faults = {}
  local dir <close> = assert(fs.temp_dir { dir = state, prefix = "tests-" })
  copy(folder, dir.path, texts)
  local files = {}
  for i, path in ipairs(list) do files[i] = { path = dir.path .. path:sub(#folder + 1), scripts = dir.path } end
  for _, result in ipairs((require("testing").run(files, { timeout = M.HANGS }))) do
    if not result.ok then faults[#faults + 1] = fault_of(result, folder, dir.path) end
  end
  return faults
end

---Runs the tests of what was read and differs from what is live.
---@async
---@param self table The engine.
---@param config Config
---@param policies table<string, Policy>
---@return Fault[] faults
function M.faults(self, config, policies)
  local folder = config.scripts
  if not folder or not self.lock then return {} end -- without a state folder it is a test's or a plan's host itself
  local before, now = {}, {}
  for _, policy in pairs(self.policies) do units_of(policy, folder, before) end
  for _, policy in pairs(policies) do units_of(policy, folder, now) end
  local list, texts, faults = due(self, folder, now, changed(policies, folder, before))
  if #faults > 0 then return faults end
  if #list == 0 then
    self.tests_seen = texts
    return {}
  end
  local ok, found = pcall(task.deadline, M.DEADLINE, run, folder, list, now, self.state)
  if not ok then
    if errors.is(found, "cancelled") then error(found, 0) end
    found = { { file = list[1], message = "its tests could not be run to their end: " .. tostring(found) } }
  end
  if #found == 0 then self.tests_seen = texts end
  return found --[[@as Fault[] ]]
end

return M
