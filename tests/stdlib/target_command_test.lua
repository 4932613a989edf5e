-- The command target with real programs: what they see, what they say, what is remembered without `current`.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: inject-field, missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local lab = require "lab"
local fs = require "fs"
local secret = require "config.secret"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local function digest(letter) return "sha256:" .. letter:rep(64) end

-- A target whose programs are scripts of their own; `scripts` are their bodies by word.
local function open(scripts, more)
  local dir = lab.dir("command")
  local config = { kind = "command", env = {}, timeout = 60 }
  for word, body in pairs(scripts) do
    local path = ("%s/%s"):format(dir, word)
    lab.write(path, "#!/usr/bin/perl\nuse strict; $| = 1; my $dir = '" .. dir .. "';\n" .. body .. "\n", 493) -- 0755
    config[word] = { path, "an argument; with $HOME" }
  end
  for k, v in pairs(more or {}) do config[k] = v end
  local environment = { name = "staging", app = "web", target = config, verify = {} }
  local cfg = { state = dir .. "/state", dir = dir, registries = {} }
  local function again() return require("targets").open(environment, require("engine.world").of(cfg)) end
  return again(), dir, again
end

local function request(letter, release, more)
  local r = {
    image = "127.0.0.1:5000/team/web@" .. digest(letter), digest = digest(letter), commit = letter:rep(40),
    version = "v1.0.0", release = release,
  }
  for k, v in pairs(more or {}) do r[k] = v end
  return r
end

local NOTE = [[open my $f, '>>', "$dir/seen" or die;
print $f join(' ', map { "$_=$ENV{$_}" } sort keys %ENV), " argv=@ARGV\n"; close $f;
]]

test("programs see the release in a clean environment, and their lines go to the log as they come", function()
  local lines = {}
  local apply = NOTE .. 'print "putting\n"; print STDERR "watch out\n";'
  local t, dir = open({ apply = apply }, { env = { COLOUR = "blue" } })
  local function output(stream, line) lines[#lines + 1] = stream .. ": " .. line end
  local hooks = { output = output, progress = function() end }
  ok(t:apply(request("a", 7, { hooks = hooks })))
  table.sort(lines)
  eq(lines, { "stderr: watch out", "stdout: putting" })
  local seen = ok(fs.read(dir .. "/seen"))
  eq(seen, ("APP=web COLOUR=blue COMMIT=%s DIGEST=%s ENVIRONMENT=staging IMAGE=127.0.0.1:5000/team/web@%s"
    .. " LANG=C.UTF-8 PATH=%s RELEASE=7 VERSION=v1.0.0 argv=an argument; with $HOME\n")
    :format(("a"):rep(40), digest "a", digest "a", seen:match("PATH=(%S+)")))
end)

test("without `current` it remembers what it applied, also for the next process", function()
  local t, dir, again = open { apply = NOTE }
  eq(t:current(), nil)
  ok(t:apply(request("a", 1)))
  ok(t:wait { digest = digest "a", release = 1 })
  ok(t:settle { digest = digest "a", release = 1 })
  local now = ok(again():current())
  eq({ now.digest, now.version, now.release, now.healthy }, { digest "a", "v1.0.0", 1, nil })
  ok(again():apply(request("a", 1))) -- asked again after a crash
  local _, count = ok(fs.read(dir .. "/seen")):gsub("\n", "")
  eq(count, 1, "the program ran once")
  ok(again():apply(request("a", 2)))
  eq(again():current().release, 2)
end)

test("what a failed apply leaves is what was remembered before", function()
  local t, dir = open { apply = 'if (-e "$dir/bad") { print STDERR "line one\nno room on the shelf\n"; exit 3 }' }
  ok(t:apply(request("a", 1)))
  lab.write(dir .. "/bad", "")
  local err = fails("unhealthy", t:apply(request("b", 2)))
  has(err.message, "exit status 3")
  has(err.message, "line one | no room on the shelf")
  eq(t:current().digest, digest "a")
end)

test("a torn memory is nothing known, not an error", function()
  local t = open { apply = "" }
  ok(t:apply(request("a", 1)))
  ok(fs.write(t.memory, '{"dig'))
  eq({ t:current() }, {})
  ok(t:apply(request("b", 2)))
  eq(t:current().digest, digest "b")
end)

test("`current` is the truth: a digest, nothing, or an answer that says neither", function()
  local t, dir = open { apply = "", current = 'open my $f, "<", "$dir/now" or exit; print <$f>;' }
  eq({ t:current() }, {})
  ok(t:apply(request("a", 1)))
  eq({ t:current() }, {}) -- it was applied, but the program does not see it
  lab.write(dir .. "/now", "127.0.0.1:5000/team/web@" .. digest "a" .. "\n")
  eq(t:current().version, "v1.0.0") -- ours: we know more about it
  lab.write(dir .. "/now", digest "b")
  eq(t:current(), { digest = digest "b", state = "running" }) -- somebody else's
  lab.write(dir .. "/now", "up and running")
  has(fails("protocol", t:current()).message, "must print the digest that runs, or nothing; it said: up and running")
end)

test("wait asks `wait`, or looks at `current` until its time is over", function()
  local t = open { apply = "", wait = 'print STDERR "asked for $ENV{DIGEST} of $ENV{IMAGE}\n"; exit 9' }
  ok(t:apply(request("a", 1)))
  has(fails("unhealthy", t:wait { digest = digest "a", release = 1 }).message,
    "asked for " .. digest "a" .. " of 127.0.0.1:5000")
  local slow = open { apply = "", wait = "print 'still going'; sleep 30" }
  local err = fails("unhealthy", slow:wait { digest = digest "a", release = 1, timeout = 3 })
  has(err.message, "still running after 3 s; it said: still going")
  local looking, dir = open { apply = "", current = 'open my $f, "<", "$dir/now" or exit; print <$f>;' }
  has(fails("unhealthy", looking:wait { digest = digest "a", release = 1, timeout = 2 }).message, "nothing runs")
  local task = require "task"
  local waiting = task.spawn(function() return looking:wait { digest = digest "a", release = 1, timeout = 60 } end)
  lab.write(dir .. "/now", digest "a")
  ok(waiting:join())
end)

test("a program that is missing, hangs or dies is named", function()
  local t = open({ apply = "sleep 30" }, { timeout = 0.2 })
  has(fails("unhealthy", t:apply(request("a", 1))).message, "/apply: still running")
  t = open { apply = "kill 'KILL', $$;" }
  has(fails("unhealthy", t:apply(request("a", 1))).message, "SIGKILL")
  t = open { apply = "" }
  t.config.apply = { "/nowhere/deploy" }
  has(fails("not_found", t:apply(request("a", 1))).message, "/nowhere/deploy")
end)

test("a secret reaches the program and no error", function()
  local dir = lab.dir("secret")
  lab.write(dir .. "/token", "canary-of-command\n")
  local t, where = open({ apply = NOTE .. 'print STDERR "denied for $ENV{TOKEN}\n"; exit 1' },
    { env = { TOKEN = secret.new("file", dir .. "/token") } })
  local err = fails("unhealthy", t:apply(request("a", 1)))
  has(ok(fs.read(where .. "/seen")), "TOKEN=canary-of-command")
  has(err.message, "denied for ")
  eq(err.message:find("canary", 1, true), nil)
  eq(require("json").encode(require("errors").plain(err)):find("canary", 1, true), nil)
  t.config.env.TOKEN = secret.new("file", dir .. "/gone")
  fails("not_found", t:apply(request("a", 2)))
end)
