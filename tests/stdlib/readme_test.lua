-- The pages say what is so: the reference of the configuration is the one that `moontide help config` prints.
local check = require "check"
local fs, proc, sys = require "fs", require "proc", require "base.sys"

check.test("the reference of the configuration is the program's own", function()
  local printed = assert(proc.run { sys.exe(), "help", "config", "--markdown" })
  check.has(assert(fs.read "config/manual/config.md"), printed.stdout)
end)

check.test("the reference of words is the program's own, and every word says what it does", function()
  local printed = assert(proc.run { sys.exe(), "help", "words", "--markdown" })
  check.has(assert(fs.read "config/manual/words.md"), printed.stdout)
  local rows = require("policy.manual").rows()
  check.ok(#rows > 80, #rows)
  for _, row in ipairs(rows) do
    check.ok(#row.doc > 10 and (row.usage:find("(", 1, true) or row.name == "json.null"), row.name)
  end
end)

check.test("one word is explained with its arguments; a misspelt one is told what it may be", function()
  local printed = assert(proc.run { sys.exe(), "help", "run:image" })
  check.has(printed.stdout, "run:image(commit [, options])")
  check.has(printed.stdout, "Full commit id.")
  printed = assert(proc.run { sys.exe(), "help", "run:imgae" })
  check.eq(printed.code, 2)
  check.has(printed.stderr, "did you mean run:image?")
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
