-- Which primitives the allocation sweep reaches: read from the sources, so that a new one is not forgotten.
local fs = require "fs"

local M = {}

-- Rooms whose functions go by another table's name in Lua; those of strings may be called as methods.
local TABLES = { hold = "fs", watch = "fs", signal = "sys", load = "sys", base = "coroutine" }

-- Reached through a public function of another name. The stdlib module calls it there, see stdlib/ROOM.lua.
local THROUGH = {
  ["api_http.url"] = "http.get", ["api_http.mistake"] = "http.get",
  ["api_http.headers"] = "http.get", ["api_http.line"] = ":lines", ["api_log.write"] = "log.info",
  ["api_log.pcall"] = "log.sink", ["api_log.forget"] = "log.passing_secret", ["api_proc.unclaim"] = ":lines",
  ["api_semver.glob"] = "semver.candidates", ["api_semver.regexp"] = "semver.allows",
  ["api_serve.accept"] = "serve.listen", ["api_serve.stop"] = "serve.listen", ["api_serve.bind"] = "serve.listen",
  ["api_serve.receive"] = "serve.listen", ["api_serve.reply"] = "serve.listen", ["api_serve.stream"] = "serve.listen",
  ["api_serve.finish"] = "serve.listen",
  ["api_time.utc"] = "time.parse_iso",
}

-- Not reached, and why that is well.
local LEFT_OUT = {
  ["api_task.on_unhandled"] = "stores a function in a slot that the main task made at the start",
  ["api_sys.error_class"] = "pushes a table that is there; only errors.lua calls it, at its load",
  ["api_sys.steady"] = "stores a function in a slot of the registry when policy.lua is loaded",
  ["api_sys.become"] = "gives the process to another program, or says why not",
  ["api_sys.settle"] = "sets a flag of the collector", ["api_sys.hold_collector"] = "sets a number of the collector",
  ["api_sys.fail_allocations"] = "is the sweep itself",
  ["api_load.embedded_module"] = "loads each compiled module: start.lua fails its allocations; nobody else may call it",
  ["api_load.module"] = "loads each module of the host: start.lua fails its allocations; nobody else may call it",
}

local function text_of(dir, suffix)
  local all = {}
  for path in fs.walk(dir) do
    if path:sub(-#suffix) == suffix then all[path] = assert(fs.read(dir .. "/" .. path)) end
  end
  return all
end

---The functions and methods that the tables of host/api_*.c register, as "api_fs.read", and how a call of each looks:
---"fs.read", or ":close" for a method.
---@async
---@return string[] names
---@return table<string, string> calls
function M.primitives()
  local list, calls = {}, {}
  for path, text in pairs(text_of("host", ".c")) do
    local room = path:match "^api_(%l+)%.c$"
    for array, block in (room and text or ""):gmatch "luaL_Reg%s+([%w_]+)%[%]%s*=%s*(%b{})" do
      for short in block:gmatch '{%s*"(%l[%w_]*)"' do
        local name = "api_" .. room .. "." .. short
        list[#list + 1] = name
        calls[name] = (array:find "method" or room == "text") and ":" .. short or (TABLES[room] or room) .. "." .. short
      end
    end
  end
  table.sort(list)
  return list, calls
end

---The core tables that host/api.h declares without a file of their own, or whose file registers nothing.
---@async
---@return string[] names
function M.empty_tables()
  local rooms, list = {}, {}
  for _, name in ipairs((M.primitives())) do rooms[name:match "^api_(%l+)"] = true end
  for name in assert(fs.read "host/api.h"):gmatch "luaopen_core_(%l+)" do
    if not rooms[name] then list[#list + 1] = name end
  end
  return list
end

---The primitives that no file of the sweep calls, and the exceptions that are none any more.
---@async
---@return string[] forgotten
---@return string[] stale
function M.forgotten()
  local forgotten, stale, there, calls = {}, {}, {}, ""
  for path, text in pairs(text_of("tests/fault", ".lua")) do
    if path ~= "lib/known.lua" then calls = calls .. text:gsub("%-%-[^\n]*", "") end
  end
  local list, looks = M.primitives()
  for _, name in ipairs(list) do
    local pattern = (THROUGH[name] or looks[name]):gsub("^:", "[.:]"):gsub("(%w)%.(%w)", "%1%%.%2") .. "%f[^%w_]"
    there[name] = true
    if not LEFT_OUT[name] and not calls:find(pattern) then forgotten[#forgotten + 1] = name end
  end
  for _, exceptions in ipairs { THROUGH, LEFT_OUT } do
    for name in pairs(exceptions) do
      if not there[name] then stale[#stale + 1] = name end
    end
  end
  return forgotten, stale
end

return M
