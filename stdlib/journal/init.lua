-- The journal: decisions, changes, runs, steps and releases, in one SQLite file.
--
-- The rule: an intent is on disk (synced) before its effect begins; an outcome is written when the effect has ended.
-- Outcomes ride on the next sync: after a power cut the last one may be missing, and its effect, being idempotent,
-- is performed again. Only this folder knows SQL. It never waits.
--
-- A journal is its file and its transactions, which stand here, and the parts that know a table or two each; they are
-- methods of the one journal, so that some of several parts can share a transaction.
local compose, errors, fs, store = require "base.compose", require "errors", require "fs", require "store"
local marker, schema, sys = require "journal.marker", require "journal.schema", require "base.sys"

---@class (partial) Journal
---@field dir? string nil: it is in memory.
---@field path string
---@field db Store
local Journal = {}
Journal.__index = Journal

local M = {}

local SYNCED <const> = { durable = true }
local LAZY <const> = { durable = false }

-- A journal that cannot be written must stop what depends on it: its failures are raised.
local function must(value, err)
  if value == nil and err ~= nil then error(err, 0) end
  return value
end

---Opens the journal of a state folder, making or migrating it.
---@async
---@param dir string
---@param options? {["readonly"]?: boolean, fresh?: boolean} fresh: it may be begun anew where there was one
---@return Journal? journal
---@return Err? err not_found: readonly, and there is none.
---@return_overload nil, Err
function M.open(dir, options)
  local readonly = options and options.readonly
  local path = dir .. "/journal.db"
  if readonly and not fs.exists(path) then
    return errors.fail("not_found", "there is no state yet: no host has ever run on it",
      { op = "journal.open", target = path })
  end
  if not readonly then
    local ok, err = fs.mkdir(dir, { parents = true, mode = 448 }) -- 0700
    if ok then ok, err = marker.check(dir, path, options and options.fresh) end
    if not ok then return nil, err end
  end
  local db, err = store.open(path, { readonly = readonly })
  if not db then return nil, err end
  local self = setmetatable({ db = db, path = path, dir = dir }, Journal)
  if readonly then
    local row = db:row("PRAGMA user_version")
    if not row or row.user_version ~= schema.version then
      db:close()
      return errors.fail("unsupported",
        "this journal has another version than this Moontide; start the host to migrate it",
        { op = "journal.open", target = path })
    end
    return self
  end
  local ok
  ok, err = db:check()
  if ok then ok, err = schema.migrate(db, path) end
  if ok then ok, err = marker.put(dir) end
  if not ok then
    db:close()
    return nil, err
  end
  return self
end

---A new journal in memory.
---@return Journal
function M.memory()
  local db = assert(store.open ":memory:")
  assert(schema.migrate(db, ":memory:"))
  return setmetatable({ db = db, path = ":memory:" }, Journal)
end

---The same journal for another host.
---@return Journal
function Journal:share() return setmetatable({ db = self.db, path = self.path, dir = self.dir }, Journal) end

-- A log without its index cannot be read where it is (host/store_copy.c): both are copied first.
local function copied_aside(path)
  local scratch <close>, err = fs.temp_dir { prefix = "moontide-journal-" }
  if not scratch then return nil, err end
  for _, suffix in ipairs { "", "-wal" } do
    local bytes, unread = fs.read(path .. suffix, { max = 1 << 32 })
    if not bytes then return nil, unread end
    local ok, unwritten = fs.write(scratch.path .. "/journal.db" .. suffix, bytes, { sync = false })
    if not ok then return nil, unwritten end
  end
  local opened <close>, wrong = store.open(scratch.path .. "/journal.db")
  if not opened then return nil, wrong end
  return store.open(":memory:", { from = scratch.path .. "/journal.db" })
end

-- What a state folder holds, as a database in memory.
local function remembered(dir)
  local path = dir .. "/journal.db"
  local stat, err = fs.stat(path)
  if not stat and err.code == "not_found" then
    local ok, gone = marker.check(dir, path)
    if not ok then return nil, gone end
    return store.open(":memory:") -- no host has ever run on it
  elseif not stat then
    return nil, err
  end
  local db, problem = store.open(":memory:", { from = path })
  if db or not errors.is(problem, "unsupported") then return db, problem end
  return copied_aside(path)
end

---Gives a journal in memory that has what a state folder's has now: empty, when no host has ever run on it. Nothing is
---written there, and what is written here goes nowhere. Whether a host works on it makes no difference.
---@async
---@param dir string
---@return Journal? journal
---@return Err? err denied: it cannot be read; unsupported: a newer Moontide wrote it.
---@return_overload nil, Err
function M.copy(dir)
  local db, err = remembered(dir)
  if not db then
    return errors.fail(err.code, ("the state folder %s cannot be read: %s"):format(dir, err.message),
      { op = "journal.copy", target = dir, cause = err })
  end
  local ok
  ok, err = schema.migrate(db, dir .. "/journal.db")
  if not ok then
    db:close()
    return nil, err
  end
  return setmetatable({ db = db, path = dir .. "/journal.db" }, Journal)
end

---Closes the file.
function Journal:close() self.db:close() end

---Runs fn in one transaction whose commit is synced, if no other host took the journal over.
---@param name string Of its kill points.
---@param fn fun(): any
function Journal:synced(name, fn)
  sys.killpoint(name .. ".before")
  local result = must(self.db:transaction(function()
    self:still_ours()
    return fn()
  end, SYNCED))
  sys.killpoint(name .. ".after")
  return result
end

---Runs fn in one transaction that the next sync makes durable.
---@param name string Of its kill points.
---@param fn fun(): any
function Journal:lazily(name, fn)
  sys.killpoint(name .. ".before")
  local result = must(self.db:transaction(fn, LAZY))
  sys.killpoint(name .. ".after")
  return result
end

---The first row that a query gives; failures are raised.
---@param sql string
---@param ... any What its question marks stand for.
---@return table? row
function Journal:row(sql, ...)
  local row, err = self.db:row(sql, ...)
  if err then error(err, 0) end
  return row
end

---The number `n` that a query gives in its only row.
---@param sql string
---@param ... any
---@return integer
function Journal:count(sql, ...) return (self:row(sql, ...) or {}).n --[[@as integer]] end

---All rows that a query gives; failures are raised.
---@param sql string
---@param ... any
---@return table[] rows
function Journal:rows(sql, ...) return must(self.db:rows(sql, ...)) end

---Runs a statement inside of a transaction; failures are raised.
---@param sql string
---@param ... any
---@return integer changes
function Journal:write(sql, ...) return must(self.db:run(sql, ...)) end

compose(Journal, {
  runs = require "journal.runs", steps = require "journal.steps", releases = require "journal.releases",
  tags = require "journal.tags", holds = require "journal.holds", decisions = require "journal.decisions",
  approvals = require "journal.approvals", suspensions = require "journal.crashes", outages = require "journal.outages",
  previews = require "journal.previews",
  turns = require "journal.turns", retention = require "journal.retention",
})

return M
