-- A kind of targets: a folder that rsync brings to where it is served from, here or on another machine.
--
--     target = { kind = "rsync", from = "/srv/build/site", to = "www@web-1:/srv/www/site" }
--
-- Beside the files lies .moontide with the digest that they are of, written last: what runs is known from the target.
local errors, extension, fs, proc = require "errors", require "extension", require "fs", require "proc"

local MARK <const> = "/.moontide"
-- Exit codes of rsync(1) when it could not talk to the other side; 255 is ssh's.
local OUT_OF_REACH <const> = { [5] = true, [10] = true, [12] = true, [30] = true, [35] = true, [255] = true }

local Rsync = {}
Rsync.__index = Rsync

-- Runs rsync; its lines go to the run's log. The third result is its exit code. Files are compared by their content:
-- two of one size and second may differ.
local function rsync(self, hooks, ...)
  local argv = { "rsync", "--archive", "--checksum", table.unpack(self.config.args) }
  for _, word in ipairs { ... } do argv[#argv + 1] = word end
  argv.timeout, argv.stdin, argv.env = self.config.timeout, false, { HOME = "/nonexistent" }
  argv.on_line = hooks and function(line, stream) hooks.output(stream, line) end
  local result, err = proc.run(argv)
  if not result then return nil, err end
  if result.ok then return true end
  local last = result.stderr:match("([^\n]+)\n*$") or "without a word"
  return nil, errors.new(OUT_OF_REACH[result.code] and "unreachable" or "exit",
    ("rsync ended with %s: %s"):format(result.signal or result.code, last),
    { op = "rsync", target = self.config.to }), result.code
end

-- What runs: nil and no error when nothing does.
function Rsync:current()
  local scratch <close>, problem = fs.temp_dir()
  if not scratch then return nil, problem end
  local ok, err, code = rsync(self, nil, self.config.to .. MARK, scratch.path .. "/")
  if not ok then
    if code == 23 then return nil end -- there is no such file
    return nil, err
  end
  local text, unreadable = fs.read(scratch.path .. MARK)
  if not text then return nil, unreadable end
  local digest, release = text:match("^(%S+) (%S+)")
  return digest and { digest = digest, release = math.tointeger(tonumber(release)), state = "running", healthy = true }
end

-- Puts a release there. Asking again does it again: the result is the same.
function Rsync:apply(request)
  local ok, err = rsync(self, request.hooks, "--delete", "--exclude=" .. MARK, self.config.from .. "/",
    self.config.to .. "/")
  if not ok then return nil, err end
  local scratch <close>, problem = fs.temp_dir()
  if not scratch then return nil, problem end
  ok, err = fs.write(scratch.path .. MARK, ("%s %d\n"):format(request.digest, request.release))
  if not ok then return nil, err end
  return rsync(self, request.hooks, scratch.path .. MARK, self.config.to .. "/")
end

-- Waits until it runs; here it does when apply has ended.
function Rsync:wait(request)
  local now, err = self:current()
  if err then return nil, err end
  if now and now.digest == request.digest then return true end
  return errors.fail("unhealthy", "another release lies there", { op = "rsync", target = self.config.to })
end

-- Clears up after a release that proved itself: nothing is kept here.
function Rsync.settle() return true end

return extension {
  target = {
    rsync = {
      doc = "A folder, by rsync.",
      keys = {
        from = extension.folder("Folder to bring there.", { required = true }),
        to = extension.text("Where it goes: a folder, or HOST:FOLDER.", { required = true, example = '"/srv/www"' }),
        args = extension.list("Further arguments of rsync.", extension.text "An argument.", { default = {} }),
        timeout = extension.duration("Time for each run of rsync.", { default = "10m", min = 1 }),
      },
      open = function(environment) return setmetatable({ config = environment.target }, Rsync) end,
      cross = function(target, _, at, cross)
        cross.claim("this folder", target.to, at, "to", "two environments would replace each other's files")
      end,
    },
  },
}
