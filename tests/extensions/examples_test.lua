-- The examples of config/extensions in a whole host: what a file's checksum says is brought to its place by rsync, and
-- a chat room hears of it.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check, base, hosts = require "check", require "lab.base", require "lab.host"
local fs, json, serve = require "fs", require "json", require "serve"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local A <const>, B <const> = ("a"):rep(64), ("b"):rep(64)

local CONFIG <const> = [[
return {
  extensions = "extensions",
  scripts = "scripts",
  poll = "100ms",
  notify = { team = { kind = "chat", url = "URL/rooms", room = "the team", token = { env = "CHAT_TOKEN" } } },
  apps = {
    site = {
      checksum = { url = "URL/SHA256SUMS", file = "site.tar" },
      environments = {
        live = {
          policy = "newest", rollback = false, notify = { "team" },
          target = { kind = "rsync", from = "@DIR@/site", to = "@DIR@/www" },
        },
      },
    },
  },
}
]]

-- The policy that checksum.lua shows.
local function policy_of(text)
  local lines = {}
  for line in text:gmatch("[^\n]+") do
    line = line:match("^%-%-     (.*)$")
    if line and (#lines > 0 or line:find "^return policy") then lines[#lines + 1] = line end
  end
  return table.concat(lines, "\n") .. "\n"
end

-- A server that says the checksum, and keeps what the room is told.
local function server(sums)
  local here = { sums = sums, said = {} }
  local listener = ok(serve.listen { address = "127.0.0.1", port = base.port(), handler = function(request)
    if request.path == "/SHA256SUMS" then return { status = here.sums and 200 or 503, body = here.sums } end
    here.said[#here.said + 1] = { request.path, request.headers["x-token"], json.decode(request.body).text }
    return { status = 204 }
  end })
  check.defer(function() listener:close() end)
  here.url = "http://127.0.0.1:" .. listener.port
  return here
end

local function host(there)
  local made = hosts.new((CONFIG:gsub("URL", there.url)), {
    env = { PATH = "/usr/bin:/bin", CHAT_TOKEN = "open sesame" },
  })
  for _, name in ipairs { "rsync", "chat", "checksum" } do
    local text = ok(fs.read("config/extensions/" .. name .. ".lua"))
    base.write(("%s/extensions/%s.lua"):format(made.dir, name), text, 420) -- 0644
    if name == "checksum" then base.write(made.dir .. "/scripts/newest.lua", policy_of(text)) end
  end
  base.write(made.dir .. "/site/index.html", "one")
  return made
end

test("the page for authors is right: its extension is one, and its test passes", function()
  local dir, page = base.dir "page", ok(fs.read "config/manual/extensions.md")
  for name, block in page:gmatch "```lua\n%-%- extensions/(link%.%l+)(.-)```" do
    base.write(dir .. "/" .. name, "--" .. block:gsub("/tmp", dir), 420) -- 0644
  end
  base.write(dir .. "/releases/" .. A .. "/index.html", "one")
  local run = ok(require("proc").run { require("base.sys").exe(), "exec", dir .. "/link.test", stderr = "stdout" })
  eq({ run.code, run.stdout }, { 0, "" })
  eq(ok(fs.read(dir .. "/www/index.html")), "one")
  local loaded, faults = require("config.load").check({ extensions = dir, apps = {} }, { file = "x.lua" })
  eq({ ok(loaded).extensions, faults }, { dir })
end)

test("a checksum that changes is released by rsync, what runs is asked of the target, and the room is told", function()
  local there = server(("%s *other.tar\n%s  site.tar\n"):format(B, A))
  local h = host(there)
  has(h:command("check").stdout, "ok ")
  h:start()
  local first = h:until_("live", "the first release", 60, function(e) return e.state == "idle" and e.current end)
  eq({ first.current.digest, first.current.version }, { "sha256:" .. A, A:sub(1, 12) })
  eq(fs.read(h.dir .. "/www/index.html"), "one")
  has(h:command("why", "site").stdout, A:sub(1, 12))

  base.write(h.dir .. "/site/index.html", "two")
  base.write(h.dir .. "/site/new/page.html", "new")
  there.sums = B .. "  site.tar\n"
  h:until_("live", "the second release", 60, function(e) return e.current.digest == "sha256:" .. B end)
  eq({ fs.read(h.dir .. "/www/index.html"), fs.read(h.dir .. "/www/new/page.html") }, { "two", "new" })
  has(h:command("history", "site").stdout, B:sub(1, 12))
  base.eventually("the room is told", 30, function() return #there.said >= 2 end)
  eq({ there.said[1][1], there.said[1][2] }, { "/rooms/the%20team", "open sesame" })
  has(there.said[2][3], B:sub(1, 12))

  -- A server that does not answer is what `why` says, and a reload leaves everything as it is.
  there.sums = false
  base.eventually("why says so", 30, function()
    return h:command("why", "site").stdout:find("it answers 503", 1, true)
  end)
  eq(ok(h.client:reload()).changed, {})

  -- An extension that is saved is live, too, and one with faults changes nothing.
  local chat = ok(fs.read(h.dir .. "/extensions/chat.lua"))
  base.write(h.dir .. "/extensions/chat.lua", "this is no Lua", 420) -- 0644
  local refused, err = h.client:reload()
  eq({ refused, err.faults[1].line }, { nil, 1 })
  has(err.faults[1].file, "extensions/chat.lua")
  base.write(h.dir .. "/extensions/chat.lua", (chat:gsub('info = "[^"]*"', 'info = "well:"')), 420)
  base.eventually("it is loaded by itself", 30, function()
    return not h.client:status().host.reload_error and #h.client:reload().changed == 0
  end)
  there.sums = A .. "  site.tar\n"
  base.eventually("the room is told in other words", 60, function()
    return there.said[#there.said][3]:find("well:", 1, true)
  end)
  h:configure((CONFIG:gsub("URL", there.url):gsub('"extensions"', '"others"')))
  local _, moved = h.client:reload()
  has(ok(moved).message, "does not exist")
  h:stop()
end)
