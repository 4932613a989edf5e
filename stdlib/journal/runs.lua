-- Runs, from queued to ended, and the key that each policy handled last at a place. Methods of the journal.
local errors, json, log, time = require "errors", require "json", require "log", require "time"
local record, tables = require "journal.record", require "base.tables"
local words = require("journal.words").kept

---What becomes a queued run.
---@class NewChange
---@field app string
---@field environment string
---@field policy string The policy that handles it.
---@field kind? string "change" by default.
---@field key string What the policy watches: a new one is a new run.
---@field title? string
---@field reason? string
---@field by? string Who asked for it.
---@field data? table What the run finds in `run.change`; plain data.
---@field try? integer
---@field not_before? number Seconds since 1970.

---@class (partial) Journal
local Runs = {}

local function must(value, err)
  if value == nil and err ~= nil then error(err, 0) end
  return value
end

local function plain(value)
  return value ~= nil and log.redact(must(json.encode(value))) or nil
end

---The last key that was handled here, and when, whatever the policy's name was then.
---@param app string
---@param environment string
---@param kind? string Of the runs that its policy's changes become: "change" by default.
---@return {key?: string, run?: integer, at: number}? watch nil: never asked.
function Runs:watch(app, environment, kind)
  return self:row([[SELECT key, run, at FROM watches WHERE app = ? AND environment = ? AND kind = ?
    ORDER BY at DESC LIMIT 1]], app, environment, kind or "change")
end

local function remember(self, place, policy, kind, key, run)
  self:write("DELETE FROM watches WHERE app = ? AND environment = ? AND (policy = ? OR kind = ?)",
    place.app, place.environment, policy, kind)
  self:write("INSERT INTO watches (app, environment, policy, kind, key, run, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
    place.app, place.environment, policy, kind, key, run, time.now())
end

local function enqueue(self, change)
  self:write([[INSERT INTO runs (app, environment, policy, kind, key, title, reason, "by", change, state, try,
    first, not_before, queued_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?)]],
    change.app, change.environment, change.policy, change.kind or "change", change.key,
    words(change.title or change.key), words(change.reason), words(change.by), plain(change.data or {}),
    change.try or 1, change.first, change.not_before, time.now())
  return assert(self:row("SELECT last_insert_rowid() AS id")).id
end

---Turns a new key into a queued run, in the transaction that remembers the key. With `latest`, older changes of the
---place that still wait are superseded.
---@param change NewChange
---@param latest boolean
---@return integer run
---@return integer superseded
function Runs:accept(change, latest)
  local superseded = 0
  local run = self:synced("change", function()
    if latest then
      superseded = self:write([[UPDATE runs SET state = 'superseded', ended_at = ? WHERE app = ? AND environment = ?
        AND kind = 'change' AND state = 'queued']], time.now(), change.app, change.environment)
    end
    local id = enqueue(self, change)
    remember(self, change, change.policy, change.kind or "change", change.key, id)
    return id
  end)
  return run, superseded
end

---Records that a policy was asked and wanted nothing (or that its first sight was adopted).
---@param place {app: string, environment: string}
---@param policy string
---@param kind string "change" or "rollback"
---@param key? string
function Runs:seen(place, policy, kind, key)
  self:lazily("seen", function()
    remember(self, place, policy, kind, key, nil)
    return true
  end)
end

---Queues what a person asked for; the watched key stays what it is, so that it holds until the source moves.
---Changes that only wait to be tried again give way: after it they would undo it.
---@param change NewChange
---@param handled? boolean Its key is the watched one from now on: a person tries it again.
---@return integer run
function Runs:enqueue(change, handled)
  return self:synced("change", function()
    self:write([[UPDATE runs SET state = 'superseded', ended_at = ? WHERE app = ? AND environment = ?
      AND kind = 'change' AND state = 'queued' AND try > 1]], time.now(), change.app, change.environment)
    local id = enqueue(self, change)
    if handled then remember(self, change, change.policy, "change", change.key, id) end
    return id
  end)
end

-- ---- runs ----

local RUN = [[SELECT id, app, environment, policy, kind, key, title, reason, "by", change, state, policy_hash,
  file, edition, attempts, try, first, not_before, queued_at, started_at, ended_at, error FROM runs ]]

local function run_row(row)
  if row then
    row.change = must(json.decode(row.change))
    row.error = row.error and must(json.decode(row.error))
  end
  return row
end

---@param id integer
---@return table? run
function Runs:run_by_id(id) return run_row(self:row(RUN .. "WHERE id = ?", id)) end

---The last try of what a run began with; itself when nothing tried it again.
---@param run table
---@return table run
---@return table? before The try before it.
function Runs:last_try(run)
  local first = run.first or run.id
  local tries = self:rows(RUN .. "WHERE first = ?1 OR id = ?1 ORDER BY id DESC LIMIT 2", first)
  return tries[1] and run_row(tries[1]) or run, run_row(tries[2])
end

---The run that a place should work on now: the one whose turn it is, else one that was interrupted, else the oldest
---that waits. What a rollback policy asked for comes before newer changes: put back after them, it would undo them.
---@param app string
---@param environment string
---@param held? boolean The place is held: changes wait, and delay no others.
---@return table? run
function Runs:next_run(app, environment, held)
  return run_row(self:row(RUN .. [[WHERE app = ?1 AND environment = ?2 AND (state = 'running' OR state = 'queued'
    AND (?3 = 0 OR kind <> 'change'))
    ORDER BY state = 'queued', away, NOT (kind = 'rollback' AND "by" IS NULL), id LIMIT 1]],
    app, environment, held and 1 or 0))
end

---What may pass runs that only wait: the rollback that a policy asked for, then what people ordered.
---@param app string
---@param environment string
---@param now number
---@param longest number Seconds: what is to wait for longer waits because of a clock that was set back.
---@return table? run
function Runs:next_passing(app, environment, now, longest)
  return run_row(self:row(RUN .. [[WHERE app = ?1 AND environment = ?2 AND state = 'queued' AND kind <> 'change'
    AND (not_before IS NULL OR not_before <= ?3 OR not_before > ?3 + ?4)
    ORDER BY NOT (kind = 'rollback' AND "by" IS NULL), id LIMIT 1]], app, environment, now, longest))
end

---Runs that were under way: first the one whose turn it was.
---@param app string
---@param environment string
---@return table[] runs
function Runs:interrupted(app, environment)
  local list = self:rows(RUN .. "WHERE app = ? AND environment = ? AND state = 'running' ORDER BY away, id",
    app, environment)
  for _, row in ipairs(list) do run_row(row) end
  return list
end

-- The turn of a place is this run's; whatever else is under way there waits.
local function take_lane(self, run)
  self:write([[UPDATE runs SET away = (id <> ?1) WHERE app = ?2 AND environment = ?3 AND state = 'running'
    AND away <> (id <> ?1)]], run.id, run.app, run.environment)
end

---The lane's turn goes to a run.
---@param run table
function Runs:take_lane(run)
  self:lazily("turn taken", function()
    take_lane(self, run)
    return true
  end)
end

local function taken_by(order)
  return ("run %d took its place meanwhile: %s, ordered by %s"):format(order.id, order.title, order.by)
end

---Why a run that waited must not go on, if so: its release was taken back meanwhile, or what a person ordered after it
---was carried out.
---@param run table
---@return string? reason
function Runs:passed_over(run)
  local bad = self:row("SELECT reason FROM releases WHERE run = ? AND state = 'bad' LIMIT 1", run.id)
  if bad then return "its release was taken back meanwhile: " .. (bad.reason or "it is bad") end
  local order = self:row([[SELECT id, title, "by" FROM runs WHERE app = ? AND environment = ? AND id > ?
    AND kind <> 'change' AND "by" IS NOT NULL AND state = 'done' ORDER BY id DESC LIMIT 1]],
    run.app, run.environment, run.id)
  return order and taken_by(order)
end

---Places that have unfinished runs, with how often the interrupted one was begun.
---@return {app: string, environment: string, attempts: integer}[]
function Runs:unfinished()
  return self:rows([[SELECT app, environment, max(CASE state WHEN 'running' THEN attempts ELSE 0 END) AS attempts
    FROM runs WHERE state IN ('running', 'queued') GROUP BY app, environment ORDER BY min(id)]])
end

---The last run of a place that ended, whatever became of it, but for what made way for another.
---@param app string
---@param environment string
---@param of? "change" Not those of rollbacks.
---@return table? run
function Runs:last_ended(app, environment, of)
  return run_row(self:row(RUN .. [[WHERE app = ?1 AND environment = ?2
    AND state IN ('done', 'failed', 'cancelled', 'diverged', 'quarantined') AND (?3 IS NULL OR kind <> 'rollback')
    ORDER BY id DESC LIMIT 1]], app, environment, of))
end

---The runs of a place that have not ended, in the order in which they have their turns.
---@param app string
---@param environment string
---@return table[] runs
function Runs:open_at(app, environment)
  local list = self:rows(RUN .. [[WHERE app = ? AND environment = ? AND state IN ('running', 'queued')
    ORDER BY state = 'queued', away, NOT (kind = 'rollback' AND "by" IS NULL), id]], app, environment)
  for _, row in ipairs(list) do run_row(row) end
  return list
end

---Why the release that a run put out did not stay, if so.
---@param run table
---@return string? reason
function Runs:taken_back(run)
  local row = self:row("SELECT state, reason FROM releases WHERE run = ? AND state IN ('bad', 'failed') LIMIT 1", run)
  return row and (row.reason or row.state)
end

---The last run of a key here, if any, by whatever name the policy went then.
---@param app string
---@param environment string
---@param key string
function Runs:run_of_key(app, environment, key)
  return run_row(self:row(RUN .. "WHERE app = ? AND environment = ? AND key = ? ORDER BY id DESC LIMIT 1",
    app, environment, key))
end

-- Keeps a policy's text and those of its modules by its hash.
local function keep(self, policy)
  local new = self:write("INSERT OR IGNORE INTO policies (hash, name, text, at) VALUES (?, ?, ?, ?)",
    policy.hash, policy.name, policy.text, time.now())
  for name, module in pairs(new > 0 and policy.modules or {}) do
    self:write("INSERT INTO modules (policy, name, file, text) VALUES (?, ?, ?, ?)", policy.hash, name, module.file,
      module.text)
  end
end

---Counts an attempt before it is made, and keeps the policy text by its hash. A run keeps the edition of the words that
---it first started with.
---@param run table
---@param policy Policy
---@param edition integer The present one.
---@param turn boolean Its lane's turn is this run's.
---@param settings? table Those of its place; a run keeps those that it first started with.
---@return integer? edition The run's; nil: it was ended meanwhile.
---@return table? settings The run's.
function Runs:begin(run, policy, edition, turn, settings)
  local pinned
  return self:synced("begin", function()
    keep(self, policy)
    local begun = self:write([[UPDATE runs SET state = 'running', attempts = attempts + 1, policy_hash = ?,
      file = coalesce(file, ?), edition = coalesce(edition, ?), started_at = coalesce(started_at, ?),
      settings = coalesce(settings, ?) WHERE id = ? AND state IN ('queued', 'running')]], policy.hash, policy.file,
      edition, time.now(), settings and next(settings) and record.value(settings, "settings") or nil, run.id)
    if turn then take_lane(self, run) end
    local row = self:row("SELECT edition, settings FROM runs WHERE id = ?", run.id) --[[@as table]]
    pinned = row.settings and tables.copy(record.value_of(row.settings)) or {}
    return begun > 0 and row.edition
  end) or nil, pinned
end

---An orderly stop is not a crash: the attempt does not count.
---@param id integer
function Runs:park(id)
  self:synced("park", function()
    self:write("UPDATE runs SET attempts = max(attempts - 1, 0) WHERE id = ? AND state = 'running'", id)
    return true
  end)
end

---A run that waited goes on: from here on the attempt counts again.
---@param id integer
function Runs:unpark(id)
  self:synced("unpark", function()
    self:write("UPDATE runs SET attempts = attempts + 1 WHERE id = ? AND state = 'running'", id)
    return true
  end)
end

---What waits for its time to be tried again need not wait.
---@param id integer
---@return boolean waited
function Runs:hasten(id)
  return self:synced("change", function()
    return self:write("UPDATE runs SET not_before = NULL WHERE id = ? AND state = 'queued' AND not_before IS NOT NULL",
      id) > 0
  end)
end

---The text of a policy that some run began with.
---@param hash string
---@return string? text
---@return string? name
---@return table<string, SharedModule>? modules
function Runs:policy_text(hash)
  local row, modules = self:row("SELECT name, text FROM policies WHERE hash = ?", hash), {}
  if not row then return nil end
  for _, module in ipairs(self:rows("SELECT name, file, text FROM modules WHERE policy = ?", hash)) do
    modules[module.name] = module
  end
  return row.text, row.name, modules
end

-- Whether something newer waits or is under way than this run; an automatic rollback is about the past.
local function newer_waits(self, run)
  return self:row([[SELECT id FROM runs WHERE app = ? AND environment = ? AND id > ? AND state IN ('queued', 'running')
    AND NOT (kind = 'rollback' AND "by" IS NULL) LIMIT 1]], run.app, run.environment, run.id) ~= nil
end

-- Changes that were waiting when a person gave an order that is carried out now must not go out over it: they are of
-- before. Where the place is held, that is decided with `unhold`.
local function supersede_older(self, order)
  if order.kind == "change" or not order.by or self:hold_of(order.app, order.environment) then return end
  local why = plain(errors.plain(errors.new("conflict", taken_by(order), { op = "run" })))
  self:write([[UPDATE runs SET state = 'superseded', ended_at = ?, error = ? WHERE app = ? AND environment = ?
    AND kind = 'change' AND state = 'queued' AND id < ?]], time.now(), why, order.app, order.environment, order.id)
end

-- What becomes of a release that the end of its run cut off.
local CUT_OFF <const> = {
  failed = "failed", quarantined = "failed", cancelled = "cancelled", superseded = "superseded",
}

---Ends a run. `retry` queues the same change again, unless something newer waits: an older change never goes out after
---a newer one.
---@param run table
---@param state RunState
---@param err? Err
---@param retry? {not_before: number}
---@return integer? again Id of the run that tries again.
function Runs:finish(run, state, err, retry)
  return self:synced("finish", function()
    self:write("UPDATE runs SET state = ?, ended_at = ?, error = ? WHERE id = ?", state, time.now(),
      err and plain(errors.plain(err)), run.id)
    -- What it was putting out when it ended is no release that stayed: rollback policies look for such.
    local interrupted = CUT_OFF[state]
    if interrupted then
      self:write("UPDATE releases SET state = ?, reason = ? WHERE run = ? AND state IN ('pending', 'canary')",
        interrupted == "failed" and errors.passing(err) and "unfinished" or interrupted, err and words(err.message),
        run.id)
    elseif state == "done" then -- nor is a canary that the rest did not follow
      self:write([[UPDATE releases SET state = 'cancelled', reason = 'its run ended, and the rest did not get it'
        WHERE run = ? AND state = 'canary']], run.id)
    end
    if state == "done" then supersede_older(self, run) end
    self:write([[UPDATE approvals SET state = 'withdrawn', reason = 'its run ended', changed_at = ?
      WHERE run = ? AND state = 'pending']], time.now(), run.id)
    if not retry or newer_waits(self, run) then return false end
    return enqueue(self, {
      app = run.app, environment = run.environment, policy = run.policy, kind = run.kind, key = run.key,
      title = run.title, reason = run.reason, by = run.by, data = run.change, try = run.try + 1,
      first = run.first or run.id, not_before = retry.not_before,
    })
  end)
end

---@return integer id Of the newest run; 0 when there is none.
function Runs:newest_run() return assert(self:row("SELECT coalesce(max(id), 0) AS id FROM runs")).id end

---The runs that wait or are under way, as what removes images asks for them.
---@return {id: integer, app: string, change: string}[] runs change: as JSON.
function Runs:open_runs() return self:rows("SELECT id, app, change FROM runs WHERE state IN ('queued', 'running')") end

---@param app string
---@param environment string
---@return integer
function Runs:count_open(app, environment)
  return self:count([[SELECT count(*) AS n FROM runs WHERE app = ? AND environment = ?
    AND state IN ('queued', 'running')]], app, environment)
end

---@return {id: integer}[] runs All of them, in order.
function Runs:all_runs() return self:rows("SELECT id FROM runs ORDER BY id") end

return Runs
