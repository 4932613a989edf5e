-- The examples of config/manual/test.md do what it says of them.
local check, fs, suite = require "check", require "fs", require "testing.suite"
local has = check.has

check.test("the manual's examples, as they stand", function()
  local blocks = {} ---@type any
  for block in check.ok(fs.read "config/manual/test.md"):gmatch("```lua\n(.-)```") do blocks[#blocks + 1] = block end
  local dir = suite.folder({
    ["scripts/staging_test.lua"] = blocks[1], ["scripts/announce_test.lua"] = blocks[2],
    ["scripts/announce.lua"] = blocks[3], ["scripts/random_test.lua"] = blocks[4],
  } --[[@as any]])
  local result = suite.run(dir)
  has(result.stdout, "ok 3 - a push goes out, and what fails its checks is taken back\n")
  has(result.stdout, "not ok 1 - released and announced once, wherever the host dies\n")
  has(result.stdout, "after POST https://chat.example.com/say")
  has(result.stdout, "performed again: step announce")
  has(result.stdout, "repeat only this life with --only ")
  has(result.stdout, "ok 2 - explore(7, 20) (20 worlds)\n")
  has(result.stdout, "2 passed, 1 failed\n")
end)
