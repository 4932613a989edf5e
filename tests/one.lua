-- Runs one test file: moontide exec tests/one.lua FILE [PART-OF-A-NAME]. Last line: N passed, N failed.
local check = require "check"
local file, filter = ...
local name = assert(file:match("^tests/(.+)%.lua$"), "name the file as tests/...lua, from the top folder")
require((name:gsub("/", ".")))
local passed, failed, skipped = check.run(filter)
print(("%d passed, %d failed%s"):format(passed, failed, skipped > 0 and (", %d skipped"):format(skipped) or ""))
return failed > 0 and 1 or 0
