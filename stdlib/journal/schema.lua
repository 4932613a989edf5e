-- The journal's tables, as a list of migrations. Entry n takes a journal from version n-1 to n; a released entry is
-- never edited. Times are seconds since 1970; JSON columns hold canonical text (json.encode).
local errors = require "errors"

local M = {}

---Of what was tried again and again, only the last try: one line for people, one run of those that are kept.
M.LAST_TRY = [[NOT EXISTS (SELECT 1 FROM runs later
  WHERE later.first = coalesce(runs.first, runs.id) AND later.id > runs.id)]]

M.migrations = {
  [[
  CREATE TABLE policies (           -- every policy text that a run ever started with
    hash TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    at REAL NOT NULL
  ) STRICT;

  CREATE TABLE watches (            -- the last key that each policy handled: what "different" is measured against
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    policy TEXT NOT NULL,
    key TEXT,                       -- NULL: looked at, nothing wanted yet
    run INTEGER,
    at REAL NOT NULL,
    PRIMARY KEY (app, environment, policy)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE runs (               -- a change and what became of it
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    policy TEXT NOT NULL,
    kind TEXT NOT NULL,             -- change, rollback, release
    key TEXT NOT NULL,
    title TEXT NOT NULL,
    reason TEXT,
    "by" TEXT,
    change TEXT NOT NULL,           -- JSON: what watch returned
    state TEXT NOT NULL,            -- queued running done failed superseded cancelled diverged quarantined
    policy_hash TEXT,               -- set when it first starts; recovery uses that text
    attempts INTEGER NOT NULL DEFAULT 0,
    try INTEGER NOT NULL DEFAULT 1, -- 2 and up: tried again after a passing failure
    not_before REAL,
    queued_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL,
    error TEXT                      -- JSON
  ) STRICT;
  CREATE INDEX runs_open ON runs (app, environment, id) WHERE state IN ('queued', 'running');
  CREATE INDEX runs_by_place ON runs (app, environment, id);
  CREATE INDEX runs_by_key ON runs (app, environment, policy, key);

  CREATE TABLE steps (              -- intent before, outcome after
    run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    path TEXT NOT NULL,             -- "3", or "3.1.2" in a parallel branch
    name TEXT NOT NULL,
    args TEXT NOT NULL,             -- JSON
    state TEXT NOT NULL,            -- started ok failed
    result TEXT,                    -- JSON
    error TEXT,                     -- JSON
    attempts INTEGER NOT NULL,
    started_at REAL NOT NULL,
    ended_at REAL,
    PRIMARY KEY (run, path)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE releases (           -- what was put where; "live" only after the target reported it
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    run INTEGER,
    version TEXT,
    commit_id TEXT,
    digest TEXT,
    image TEXT,
    state TEXT NOT NULL,            -- pending canary live replaced failed bad cancelled superseded lifted
    adopted INTEGER NOT NULL DEFAULT 0,  -- 1: found running; 2: by a host of another state; 3: only told of by it
    restored INTEGER NOT NULL DEFAULT 0, -- put back by a rollback
    reason TEXT,
    at REAL NOT NULL
  ) STRICT;
  CREATE INDEX releases_by_place ON releases (app, environment, id);

  CREATE TABLE tags (               -- the commit each tag had at first sight: a moved tag is an alarm
    app TEXT NOT NULL,
    name TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    first_sight INTEGER NOT NULL,   -- 1: it was there before we were
    at REAL NOT NULL,
    PRIMARY KEY (app, name)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE holds (
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    "by" TEXT NOT NULL,
    reason TEXT,
    at REAL NOT NULL,
    PRIMARY KEY (app, environment)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE decisions (          -- why: one row for each different thing a policy said
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    policy TEXT NOT NULL,
    subject TEXT NOT NULL,          -- '' : the policy as a whole
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    file TEXT,
    line INTEGER,
    at REAL NOT NULL
  ) STRICT;
  CREATE INDEX decisions_by_place ON decisions (app, environment, policy, subject, id);

  CREATE TABLE snapshots (          -- what the repository looked like, so that an answer that shrinks is noticed
    app TEXT PRIMARY KEY,
    branch TEXT,
    head TEXT,
    tags INTEGER NOT NULL,
    at REAL NOT NULL
  ) STRICT, WITHOUT ROWID;
  ]],
  [[
  CREATE TABLE turns (              -- the hosts that worked on this state, one after the other
    generation INTEGER PRIMARY KEY, -- rises with every turn; what a host writes outside bears it
    host TEXT NOT NULL,
    at REAL NOT NULL
  ) STRICT;
  ]],
  [[
  CREATE TABLE approvals (          -- what waits, or waited, for people to agree
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,           -- the run that asked first
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    name TEXT NOT NULL,             -- "deployment/shop/web:1.2.4"
    title TEXT NOT NULL,
    current TEXT,                   -- what runs, and what would follow it
    new TEXT,
    digest TEXT,                    -- who agreed, agreed to these bytes
    votes INTEGER NOT NULL,         -- that it takes
    state TEXT NOT NULL,            -- pending approved rejected expired withdrawn
    "by" TEXT,                      -- who rejected it
    reason TEXT,
    deadline REAL NOT NULL,
    at REAL NOT NULL,
    changed_at REAL NOT NULL,
    archived INTEGER NOT NULL DEFAULT 0 -- what was approved has been done
  ) STRICT;
  CREATE INDEX approvals_by_place ON approvals (app, environment, id);
  CREATE INDEX approvals_open ON approvals (id) WHERE state = 'pending';

  CREATE TABLE votes (              -- one for each voter, whatever they say how often
    approval INTEGER NOT NULL REFERENCES approvals (id) ON DELETE CASCADE,
    voter TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (approval, voter)
  ) STRICT, WITHOUT ROWID;
  ]],
  [[
  ALTER TABLE runs ADD COLUMN edition INTEGER; -- of the words, set when it first starts (steps.lua)
  UPDATE runs SET edition = 1 WHERE policy_hash IS NOT NULL;
  ALTER TABLE runs ADD COLUMN file TEXT;       -- of its policy, when it first starts: messages of errors hold it
  ALTER TABLE steps ADD COLUMN seq INTEGER;    -- the order in which waits of a run ended: its branches went on in it

  ALTER TABLE runs ADD COLUMN away INTEGER NOT NULL DEFAULT 0; -- 1: it waits, and the turn is another's

  DROP INDEX runs_by_key;                   -- what failed belongs to the place, whatever its policy's name was
  CREATE INDEX runs_by_key ON runs (app, environment, key);

  ALTER TABLE watches ADD COLUMN kind TEXT NOT NULL DEFAULT 'change'; -- of the runs that it leads to
  UPDATE watches SET kind = 'rollback' WHERE policy = 'rollback' OR EXISTS (SELECT 1 FROM runs WHERE kind = 'rollback'
    AND "by" IS NULL AND app = watches.app AND environment = watches.environment AND policy = watches.policy);

  ALTER TABLE tags ADD COLUMN gone INTEGER NOT NULL DEFAULT 0; -- 1: the repository lists it no more

  CREATE TABLE ends (               -- what a host was asked when it ended with that: nobody is asked so for ever
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,             -- watch load
    app TEXT NOT NULL,              -- '' when a policy was loaded
    environment TEXT NOT NULL,
    policy TEXT NOT NULL,
    hash TEXT NOT NULL,             -- of the policy's text
    at REAL NOT NULL
  ) STRICT;

  ALTER TABLE releases ADD COLUMN part TEXT; -- JSON: the containers that it was for, where a place has several images
  ALTER TABLE releases ADD COLUMN settings TEXT; -- JSON: hashes of its target's settings (target/settings.lua)
  ]],

  [[
  CREATE TABLE outages (            -- that people were told of, and are still to hear the end of
    key TEXT PRIMARY KEY,
    app TEXT NOT NULL,
    what TEXT NOT NULL,
    since REAL NOT NULL,
    told TEXT NOT NULL              -- JSON: the channels
  ) STRICT, WITHOUT ROWID;

  ALTER TABLE runs ADD COLUMN first INTEGER; -- the first try of what this one tries again; NULL: it is the first
  CREATE INDEX runs_by_first ON runs (first) WHERE first IS NOT NULL;
  ]],

  [[
  ALTER TABLE releases ADD COLUMN only TEXT; -- the one part of its environment that it went to; NULL: all
  CREATE TABLE parts (              -- what each part of an environment with several targets was given
    release INTEGER NOT NULL REFERENCES releases (id) ON DELETE CASCADE,
    part TEXT NOT NULL,
    state TEXT NOT NULL,            -- pending live
    at REAL NOT NULL,
    PRIMARY KEY (release, part)
  ) STRICT, WITHOUT ROWID;

  ALTER TABLE holds ADD COLUMN till REAL; -- when it ends by itself; app and environment '' hold everything: a freeze

  ALTER TABLE runs ADD COLUMN settings TEXT; -- JSON, when it first starts; NULL: none

  CREATE TABLE modules (            -- texts of the shared modules that such a policy requires
    policy TEXT NOT NULL REFERENCES policies (hash) ON DELETE CASCADE,
    name TEXT NOT NULL,             -- "shared.hours"
    file TEXT NOT NULL,             -- messages of errors hold it
    text TEXT NOT NULL,
    PRIMARY KEY (policy, name)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE previews (           -- places of branches
    app TEXT NOT NULL,
    environment TEXT NOT NULL,      -- the place
    template TEXT NOT NULL,         -- the environment of the configuration
    branch TEXT NOT NULL,
    label TEXT NOT NULL,            -- what the place's name has of the branch
    head TEXT,                      -- the commit that the branch was at last
    at REAL NOT NULL,
    gone_at REAL,                   -- the branch is gone
    run INTEGER,                    -- that takes the place down
    down_at REAL,                   -- it was taken down
    PRIMARY KEY (app, environment)
  ) STRICT, WITHOUT ROWID;
  CREATE UNIQUE INDEX previews_by_branch ON previews (app, template, branch);
  ]],
}

M.version = #M.migrations

---Brings the journal to this program's version, in one transaction.
---@param db Store
---@param path string For messages.
---@return true? ok
---@return Err? err unsupported: the journal was written by a newer Moontide.
---@return_overload nil, Err
function M.migrate(db, path)
  local row, err = db:row("PRAGMA user_version")
  if not row then return nil, err end
  local version = row.user_version --[[@as integer]]
  if version == M.version then return true end
  if version > M.version then
    return errors.fail("unsupported", ("this journal has version %d, but this Moontide knows only up to %d: it was "
      .. "written by a newer Moontide; run that one, or point --state at another folder"):format(version, M.version),
      { op = "journal.open", target = path })
  end
  return db:transaction(function()
    for n = version + 1, M.version do
      local ok, problem = db:exec(M.migrations[n] --[[@as string]])
      if not ok then error(problem, 0) end
    end
    local ok, problem = db:exec(("PRAGMA user_version = %d"):format(M.version))
    if not ok then error(problem, 0) end
    return true
  end)
end

return M
