-- The pages say what is so: the reference of the configuration is the one that `moontide help config` prints.
local check = require "check"
local fs, proc, sys = require "fs", require "proc", require "base.sys"

check.test("the reference of the configuration is the program's own", function()
  local printed = assert(proc.run { sys.exe(), "help", "config", "--markdown" })
  check.has(assert(fs.read "config/reference.md"), printed.stdout)
end)

check.test("the README shows the staging policy as it is", function()
  local readme, script = assert(fs.read "README.md"), assert(fs.read "scripts/staging.lua")
  local body = assert(script:match("(return policy.*)$")):gsub("([^\n]+)", "    %1")
  check.has(readme, body)
end)

check.test("every folder has its README", function()
  for _, folder in ipairs { "host", "stdlib", "scripts", "config", "tests" } do
    check.ok(fs.exists(folder .. "/README.md"), folder)
  end
end)
