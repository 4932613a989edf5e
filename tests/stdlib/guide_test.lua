-- The guide of one sitting works as typed: its commands are run as they are written, in a scratch folder.
local check = require "check"
local fs, proc, sys = require "fs", require "proc", require "base.sys"
local test, ok = check.test, check.ok

-- The commands of the page in their order; a here-document belongs to its command.
local function commands()
  local list = {}
  for block in ok(fs.read "config/manual/guide.md"):gmatch "\n```sh\n(.-)\n```" do
    local rest = block .. "\n"
    while rest ~= "" do
      local line, after = rest:match "^([^\n]*)\n(.*)$" ---@type any, any
      if line:find "<<'END'$" then
        local body, behind = after:match "^(.-\nEND\n)(.*)$"
        line, after = line .. "\n" .. ok(body, line), behind
      end
      list[#list + 1], rest = line, after
    end
  end
  return list
end

test("a first edit of a policy: its test, its plan, its reload, as typed", function()
  local dir <close> = ok(fs.temp_dir())
  local cwd, env = dir.path, { HOME = dir.path, PATH = dir.path .. "/bin:/usr/bin:/bin", LANG = "C.UTF-8" }
  local host ---@type ProcHandle?
  check.defer(function()
    if host then host:close() end
  end)
  ok(fs.mkdir(dir.path .. "/bin"))
  ok(proc.check(proc.run { "ln", "-s", sys.exe(), dir.path .. "/bin/moontide" }))

  local function sh(line)
    return ok(proc.run { "/bin/sh", "-c", line, cwd = cwd, env = env, stderr = "stdout", timeout = 300 })
  end
  for _, line in ipairs(commands()) do
    local command, answer = line:match "^([^\n]-)%s+# ([^\n]*)$"
    if line:find "^cd " then
      cwd = cwd .. "/" .. line:match "^cd (%S+)$"
    elseif line == "moontide run" then
      host = ok(proc.spawn {
        "moontide", "run", cwd = cwd, env = env, stdin = false, stderr = "stdout",
        stdout = { file = dir.path .. "/log" },
      })
      check.eventually(function() return sh "moontide status".code == 0 end, 60)
    elseif answer then -- it comes when the host has seen what was saved, or polled
      local said
      local arrived = pcall(check.eventually, function()
        said = sh(command).stdout
        return said:find(answer, 1, true) ~= nil
      end, 60)
      ok(arrived, ("$ %s\n%s\n%s"):format(command, said, (fs.read(dir.path .. "/log") or ""):sub(-2000)))
    else
      local ran = sh(line)
      ok(ran.ok, ("$ %s\n%s"):format(line, ran.stdout))
    end
  end
end, 580)
