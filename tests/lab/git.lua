-- Real git over HTTP: lighttpd with git's own http-backend, and the git command to make history with.
--
-- Every repository has two addresses: /pub/NAME.git reads without a password, /git/NAME.git asks for one and also
-- takes pushes. lab.git{auth=true} makes the second one the address that repo.url gives.
---@diagnostic disable: inject-field -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local base = require "lab.base"
local fs, http, time = require "fs", require "http", require "time"

local M = {}

---@class LabGit
---@field host string "127.0.0.1:PORT"
---@field url string "http://HOST/pub" or "http://HOST/git"
---@field user? string with auth
---@field password? string
local Git = {}
Git.__index = Git

---@class LabRepo
---@field name string
---@field url string
---@field path string of the bare repository that is served
---@field work string of the clone in which commits are made
local Repo = {}
Repo.__index = Repo

local USER, PASSWORD = "dev", "lab-secret-word"

-- mod_cgi runs http-backend by its name's suffix: an empty assignment would hand the program out as a file. The
-- access log goes through a pipe, because lighttpd keeps what goes to a file to itself for seconds.
local CONF = [[
server.document-root = "@DIR@"
server.bind = "127.0.0.1"
server.port = @PORT@
server.errorlog = "@DIR@/lighttpd.err"
server.modules = ("mod_alias", "mod_setenv", "mod_authn_file", "mod_auth", "mod_cgi", "mod_accesslog")
server.stream-response-body = 1
accesslog.filename = "|/usr/bin/tee -a @DIR@/access.log"
accesslog.format = "%m %U%q %s"
alias.url = ( "/git" => "@BACKEND@", "/pub" => "@BACKEND@" )
setenv.set-environment = ( "GIT_PROJECT_ROOT" => "@DIR@/repositories", "GIT_HTTP_EXPORT_ALL" => "1",
  "GIT_CONFIG_NOSYSTEM" => "1", "GIT_CONFIG_GLOBAL" => "/dev/null" )
cgi.assign = ( "/git-http-backend" => "" )
auth.backend = "plain"
auth.backend.plain.userfile = "@DIR@/users"
auth.require = ( "/git/" => ( "method" => "basic", "realm" => "git", "require" => "valid-user" ) )
]]

---An environment in which git reads no one's configuration and asks nobody.
---@param extra? table<string, string>
---@return table<string, string>
function M.env(extra)
  local env = base.env {
    GIT_CONFIG_NOSYSTEM = "1", GIT_CONFIG_GLOBAL = "/dev/null", GIT_TERMINAL_PROMPT = "0",
    GIT_AUTHOR_NAME = "Ada", GIT_AUTHOR_EMAIL = "ada@example.com",
    GIT_COMMITTER_NAME = "Ada", GIT_COMMITTER_EMAIL = "ada@example.com",
  }
  for k, v in pairs(extra or {}) do env[k] = v end
  return env
end

---Runs git; raises with its output when it fails.
---@async
---@param argv string[] Without "git"; with proc.run's options.
---@return string stdout Without its last newline.
function M.git(argv)
  local command = { "git" }
  for k, v in pairs(argv) do
    if type(k) ~= "number" then command[k] = v end
  end
  table.move(argv, 1, #argv, 2, command)
  command.env = M.env(argv.env)
  return (base.run(command):gsub("\n$", ""))
end

---Starts a git server.
---@async
---@param options {auth?: boolean}
---@return LabGit
function M.open(options)
  local dir, port = base.dir("git"), base.port()
  local self = setmetatable({ dir = dir, host = "127.0.0.1:" .. port }, Git)
  self.url = ("http://%s/%s"):format(self.host, options.auth and "git" or "pub")
  if options.auth then self.user, self.password = USER, PASSWORD end
  base.write(dir .. "/users", USER .. ":" .. PASSWORD .. "\n")
  base.write(dir .. "/access.log", "")
  assert(fs.mkdir(dir .. "/repositories"))
  local backend = base.run({ "git", "--exec-path" }):gsub("\n", "") .. "/git-http-backend"
  self.config = base.write(dir .. "/lighttpd.conf", (CONF:gsub("@(%u+)@", {
    DIR = dir, PORT = tostring(port), BACKEND = backend,
  })))
  self:start()
  return self
end

---Starts it again on the same port after stop().
---@async
function Git:start()
  self.service = base.start {
    name = "lighttpd", dir = self.dir, argv = { "lighttpd", "-D", "-f", self.config },
    ready = function() return http.get("http://" .. self.host .. "/", { timeout = 2 }) end,
  }
end

---@async
function Git:stop() self.service:stop() end

---The requests so far, one line each ("POST /pub/app.git/git-upload-pack 200"), that hold `part`. The log is
---written behind the answers: this waits until it is quiet.
---@async
---@param part? string Plain text.
---@return string[]
function Git:requests(part)
  local path, lines = self.dir .. "/access.log", {}
  local text, before
  repeat
    before = assert(fs.read(path, { max = 64 << 20 }))
    time.sleep(0.05)
    text = assert(fs.read(path, { max = 64 << 20 }))
  until text == before
  for line in text:gmatch("[^\n]+") do
    if not part or line:find(part, 1, true) then lines[#lines + 1] = line end
  end
  return lines
end

---Makes an empty repository with a clone to work in.
---@async
---@param name string
---@param options? {object_format?: "sha1"|"sha256"}
---@return LabRepo
function Git:repo(name, options)
  local format = "--object-format=" .. (options and options.object_format or "sha1")
  local repo = setmetatable({
    name = name, url = ("%s/%s.git"):format(self.url, name), path = ("%s/repositories/%s.git"):format(self.dir, name),
    work = ("%s/clones/%s"):format(self.dir, name), push_url = ("http://%s:%s@%s/git/%s.git"):format(USER, PASSWORD,
      self.host, name),
  }, Repo)
  M.git { "init", "-q", "--bare", "-b", "main", format, repo.path }
  M.git { "init", "-q", "-b", "main", format, repo.work }
  repo:git { "remote", "add", "origin", repo.path }
  return repo
end

---Runs git in the working clone.
---@async
---@param argv string[]
---@return string stdout
function Repo:git(argv)
  argv.cwd = self.work
  return M.git(argv)
end

---Commits files on a branch and pushes it. Values are texts, {text=, mode=}, {link=} or false (removes).
---@async
---@param files table<string, string|false|{text: string, mode: integer}|{link: string}>
---@param options? {message?: string, branch?: string, push?: boolean, env?: table}
---@return string commit
function Repo:commit(files, options)
  options = options or {}
  local branch = options.branch or "main"
  if branch ~= self:git { "symbolic-ref", "--short", "HEAD" } then
    self:git { "checkout", "-q", "-B", branch }
  end
  for path, value in pairs(files) do
    local full = self.work .. "/" .. path
    if value == false then
      assert(fs.remove(full))
    elseif type(value) == "table" and value.link then
      base.run { "ln", "-s", "-n", "-f", "--", value.link, full }
    elseif type(value) == "table" then
      base.write(full, value.text, value.mode)
    else
      base.write(full, value)
    end
  end
  self:git { "add", "-A" }
  self:git { "commit", "-q", "--allow-empty", "-m", options.message or "change", env = options.env }
  if options.push ~= false then self:push("HEAD:refs/heads/" .. branch) end
  return self:head()
end

---Pushes refspecs, by force.
---@async
---@param ... string
function Repo:push(...) self:git { "push", "-q", "--force", "origin", ... } end

---The commit of the working clone, or of a branch or tag of the served repository.
---@async
---@param ref? string
---@return string commit
function Repo:head(ref)
  if not ref then return self:git { "rev-parse", "HEAD" } end
  return M.git { "--git-dir", self.path, "rev-parse", ref .. "^{commit}" }
end

---Tags a commit (the working clone's by default) and pushes the tag; `message` makes it an annotated one.
---@async
---@param name string
---@param options? {commit?: string, message?: string, push?: boolean}
function Repo:tag(name, options)
  options = options or {}
  local argv = { "tag", "-f" }
  if options.message then table.move({ "-a", "-m", options.message }, 1, 3, 3, argv) end
  argv[#argv + 1] = name
  argv[#argv + 1] = options.commit
  self:git(argv)
  if options.push ~= false then self:push("refs/tags/" .. name) end
end

---Many tags on one commit at once, in the served repository: PREFIX1 ... PREFIXn, every other one annotated.
---@async
---@param count integer
---@param prefix string "v0.0."
function Repo:tags(count, prefix)
  local commit = self:head()
  local lines = {}
  for i = 1, count do
    if i % 2 == 0 then
      lines[#lines + 1] = ("tag %s%d\nfrom %s\ntagger Ada <ada@example.com> 1700000000 +0000\ndata 1\nx"):format(
        prefix, i, commit)
    else
      lines[#lines + 1] = ("reset refs/tags/%s%d\nfrom %s\n"):format(prefix, i, commit)
    end
  end
  M.git { "--git-dir", self.path, "fast-import", "--quiet", stdin = table.concat(lines, "\n") .. "\n" }
end

---Packs objects and refs of the served repository, as a host does by night.
---@async
function Repo:pack() M.git { "--git-dir", self.path, "gc", "-q" } end

---Removes a branch or tag ("refs/tags/v1") from the served repository.
---@async
---@param ref string
function Repo:delete(ref) self:push(":" .. ref) end

---Moves a branch to another commit, as `git reset --hard` and a forced push do; the working clone follows.
---@async
---@param commit string
---@param branch? string
function Repo:reset(commit, branch)
  self:git { "checkout", "-q", "-B", branch or "main", commit }
  self:push("HEAD:refs/heads/" .. (branch or "main"))
end

return M
