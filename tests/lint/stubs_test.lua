-- Editors understand what `moontide init` makes: the checker of LuaLS annotations finds nothing in it, and finds what
-- is planted in each policy, recipe and test.
local check = require "check"
local fs, json, proc, sys = require "fs", require "json", require "proc", require "base.sys"
local test, eq, ok = check.test, check.eq, check.ok

-- The checker that `make lint-types` builds.
local function checker()
  local cache = sys.env "XDG_CACHE_HOME" or (sys.env "HOME" or "") .. "/.cache"
  for _, name in ipairs(fs.list(cache .. "/moontide") or {}) do
    local path = ("%s/moontide/%s/bin/emmylua_check"):format(cache, name)
    if name:find "^emmylua_check" and fs.exists(path) then return path end
  end
  check.skip "emmylua_check is not there: make lint-types builds it"
end

-- What it finds: lines of "file:line: message", by file.
local function findings(dir)
  local run = ok(proc.run { checker(), ".", "-f", "json", cwd = dir, timeout = 120, max_output = 16 << 20 })
  local found = {}
  for _, file in ipairs(ok(json.decode(run.stdout))) do
    local name = file.file:sub(#dir + 2)
    for _, fault in ipairs(file.diagnostics) do
      found[name] = found[name] or {}
      table.insert(found[name], ("%d: %s"):format(fault.range.start.line + 1, fault.message))
    end
  end
  return found
end

-- A folder as a user has it, with every policy, recipe and test of the program.
local function folder()
  local dir = ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  local made = ok(proc.run { sys.exe(), "init", dir.path, "--app", "web", "--policies", timeout = 60 })
  eq({ made.code, made.stderr }, { 0, "" })
  local files = {}
  for path in fs.walk "scripts" do
    if path:find "%.lua$" then
      local copy = ("%s/scripts/%s"):format(dir.path, path)
      ok(fs.mkdir(copy:match "^(.*)/" or "", { parents = true }))
      ok(fs.write(copy, ok(fs.read("scripts/" .. path))))
      files[#files + 1] = path
    end
  end
  return dir.path, files
end

test("nothing is wrong with a folder that init made, with policies, recipes and their tests", function()
  local dir = folder()
  eq(findings(dir), {})
  eq(findings(dir .. "/scripts"), {}) -- opened by itself
end)

-- What is put behind the line where a function of the file begins, and what is wrong with it.
local PLANTS <const> = {
  { "return policy {\n", "queue = 3,\n", "latest" },
  { "function%(world%)\n", "world:setle()\n", "setle" },
  { "function%(world%)\n", "world:pass({})\n", "string" },
  { "function%(world%)\n", "local _ = world.nothing\n", "nothing" },
  { "function%(world%)\n", "world:app('x', {}):push(3)\n", "string" },
  { "function M%.[%w_]+%(place%)\n", "local _ = place:haed()\n", "haed" },
  { "function M%.[%w_]+%(place%)\n", "local _ = place:current().id\n", "nil" },
  { "function M%.[%w_]+%(run[^)]*%)\n", "run:image(3)\n", "string" },
  { "watch = function%(place%)\n", "local _ = place.nothing\n", "nothing" },
  { "watch = function%(place%)\n", "local _ = place:haed()\n", "haed" },
  { "watch = function%(place%)\n", "local _ = place:failed(3)\n", "string" },
  { "watch = function%(place%)\n", "local _ = place:current().id\n", "nil" },
  { "run = function%(run[^)]*%)\n", "local _ = run.nothing\n", "nothing" },
  { "run = function%(run[^)]*%)\n", "run:imgae('a')\n", "imgae" },
  { "run = function%(run[^)]*%)\n", "run:image(3)\n", "string" },
  { "run = function%(run[^)]*%)\n", "local _ = run:good_before(1).digest\n", "nil" },
}

test("what is planted in each file is found: a wrong field, a misspelt word, a wrong type, a nil", function()
  local dir, files = folder()
  for _, plant in ipairs(PLANTS) do
    local at = {}
    for _, path in ipairs(files) do
      local text = ok(fs.read("scripts/" .. path))
      local _, last = text:find(plant[1])
      if last then
        ok(fs.write(("%s/scripts/%s"):format(dir, path), text:sub(1, last) .. plant[2] .. text:sub(last + 1)))
        at[path] = select(2, text:sub(1, last):gsub("\n", "")) + 1
      end
    end
    ok(next(at), plant[1])
    local found = findings(dir)
    for path, line in pairs(at) do
      local there = table.concat(found["scripts/" .. path] or {}, "\n")
      ok(("\n" .. there):find(("\n%d: [^\n]*%s"):format(line, plant[3])),
        ("%s: %s is not found; only: %s"):format(path, plant[2], there))
    end
  end
end)

test("every file has a plant", function()
  for path in fs.walk "scripts" do
    local text, planted = path:find "%.lua$" and ok(fs.read("scripts/" .. path)) or "", false
    for _, plant in ipairs(PLANTS) do planted = planted or text == "" or text:find(plant[1]) ~= nil end
    ok(planted, path)
  end
end)
