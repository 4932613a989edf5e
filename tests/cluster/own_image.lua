-- An image that runs a script with our own program: the program, the libraries that it is linked to, the script.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local base, lab = require "lab.base", require "lab"
local fs, sys = require "fs", require "base.sys"

local function read(path) return assert(fs.read(path, { max = 256 << 20 })) end

---Pushes it; the container's entrypoint runs the script.
---@async
---@param registry table lab.registry
---@param name string repository
---@param script string
---@return string image by digest
return function(registry, name, script)
  local exe = sys.exe()
  local files = { { "moontide", read(exe), 493 }, { "script.lua", script } }
  for line in base.run({ "ldd", exe }):gmatch("[^\n]+") do
    local file = line:match("=> (/%S+)") or line:match("^%s*(/%S+)")
    if file then files[#files + 1] = { file:sub(2), read(file), 493 } end
  end
  return lab.image(registry, {
    name = name, files = files, entrypoint = { "/moontide", "exec", "/script.lua" },
  }).image
end
