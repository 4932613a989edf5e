-- store: values in and out, rows, transactions that take everything back, limits, and the ways files can be wrong.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local errors, fs, json, lab = require "errors", require "fs", require "json", require "lab"
local proc, store, sys = require "proc", require "store", require "base.sys"
local task, time = require "task", require "time"
local test, eq, ok, fails, raises, has = check.test, check.eq, check.ok, check.fails, check.raises, check.has

local ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "

local function fresh(options)
  local path = lab.dir("store") .. "/state.db"
  local db = ok(store.open(path, options))
  check.defer(function() db:close() end)
  return db, path
end

test("values come back as they were", function()
  local db = fresh()
  ok(db:exec "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
  local bytes = "a\0b\xFF\0"
  local cases = {
    { 42, 42 }, { math.maxinteger, math.maxinteger }, { math.mininteger, math.mininteger }, { 1.5, 1.5 },
    { 42.0, 42.0 }, { "text", "text" }, { "", "" }, { "42", "42" }, { bytes, bytes }, { store.blob(bytes), bytes },
    { store.blob "", "" }, { true, 1 }, { false, 0 }, { nil, nil }, { json.null, nil },
    { ("x"):rep(1 << 20), ("x"):rep(1 << 20) },
  }
  for i, case in ipairs(cases) do
    eq(db:run("INSERT INTO t VALUES(?, ?)", i, case[1]), 1)
    local row = ok(db:row("SELECT v, typeof(v) AS kind FROM t WHERE id = ?", i))
    eq(row.v, case[2], "case " .. i)
    eq(math.type(row.v), math.type(case[2]), "case " .. i)
  end
  eq(db:row("SELECT typeof(v) AS kind FROM t WHERE id = 10").kind, "blob")
  eq(db:row("SELECT typeof(v) AS kind FROM t WHERE id = 9").kind, "text")
  eq(db:row("SELECT typeof(v) AS kind FROM t WHERE id = 15").kind, "null")
end)

test("rows are tables by column name", function()
  local db = fresh()
  ok(db:exec [[
    CREATE TABLE t(a, b);
    INSERT INTO t VALUES(1, 'x'), (2, NULL), (3, 'z');
  ]])
  eq(db:rows "SELECT a, b FROM t ORDER BY a", { { a = 1, b = "x" }, { a = 2 }, { a = 3, b = "z" } })
  eq(db:rows("SELECT a FROM t WHERE a > ?", 9), {})
  eq(db:row("SELECT count(*) AS n FROM t"), { n = 3 })
  eq(select("#", db:row("SELECT a FROM t WHERE a > 9")), 1)
  eq((db:row("SELECT a FROM t WHERE a > 9")), nil)
  eq(db:row "INSERT INTO t VALUES(4, 'new') RETURNING a, b", { a = 4, b = "new" })
  eq(db:row("SELECT count(*) AS n FROM t").n, 4)
end)

test("run tells how much it changed and what it inserted", function()
  local db = fresh()
  eq(db:run "CREATE TABLE t(id INTEGER PRIMARY KEY, x)", 0)
  eq({ db:run "INSERT INTO t(x) VALUES('a'), ('b')" }, { 2, 2 })
  eq((db:run "UPDATE t SET x = 'c'"), 2)
  eq((db:run "DELETE FROM t WHERE x = 'nothing'"), 0)
  eq((db:run "SELECT 1"), 0)
end)

test("a transaction keeps all or nothing", function()
  local db = fresh()
  ok(db:exec "CREATE TABLE t(x UNIQUE)")
  local function count() return db:row("SELECT count(*) AS n FROM t").n end

  eq({ db:transaction(function()
    ok(db:run "INSERT INTO t VALUES(1)")
    return "a", nil, 3
  end) }, { "a", nil, 3 })
  eq(db:transaction(function() ok(db:run "INSERT INTO t VALUES(2)") end), true)
  eq(count(), 2)

  -- raised: taken back, and raised again as it was
  local mine = errors.new("failed", "no")
  local good, raised = pcall(db.transaction, db, function()
    ok(db:run "INSERT INTO t VALUES(3)")
    error(mine)
  end)
  eq({ good, rawequal(raised, mine) }, { false, true })
  eq(count(), 2)

  -- returned as nil, err: taken back and returned
  fails("exists", db:transaction(function()
    ok(db:run "INSERT INTO t VALUES(3)")
    return db:run "INSERT INTO t VALUES(1)"
  end))
  eq(count(), 2)
  fails("failed", db:transaction(function()
    ok(db:run "INSERT INTO t VALUES(3)")
    return false, mine
  end))
  eq(count(), 2)

  -- a lonely nil is a result like others
  eq((db:transaction(function()
    ok(db:run "INSERT INTO t VALUES(3)")
    return nil
  end)), nil)
  eq(count(), 3)
  -- the database is free again
  ok(db:run "INSERT INTO t VALUES(4)")
end)

test("nobody waits, nests or closes inside a transaction", function()
  local db = fresh()
  ok(db:exec "CREATE TABLE t(x)")
  raises("", db.transaction, db, function()
    ok(db:run "INSERT INTO t VALUES(1)")
    time.sleep(0.001)
  end)
  raises("do not nest", db.transaction, db, function()
    ok(db:run "INSERT INTO t VALUES(1)")
    db:transaction(function() end)
  end)
  raises("in use", db.transaction, db, function()
    ok(db:run "INSERT INTO t VALUES(1)")
    db:close()
  end)
  for _, sql in ipairs { "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "PRAGMA synchronous=OFF" } do
    fails("denied", db:run(sql))
    fails("denied", db:exec(sql))
    fails("denied", db:transaction(function() return db:exec(sql) end))
  end
  fails("denied", db:exec "VACUUM")
  fails("denied", db:exec "ATTACH ':memory:' AS other")
  eq(db:row("SELECT count(*) AS n FROM t").n, 0)
end)

test("a coroutine inside a transaction cannot sneak a wait out of it", function()
  local db = fresh()
  ok(db:exec "CREATE TABLE t(x)")
  raises("", db.transaction, db, function()
    ok(db:run "INSERT INTO t VALUES(1)")
    coroutine.wrap(function() time.sleep(0.001) end)()
  end)
  eq(db:row("SELECT count(*) AS n FROM t").n, 0)
end)

test("a task that is cancelled leaves no transaction behind", function()
  local db = fresh()
  ok(db:exec "CREATE TABLE t(x)")
  local run = task.spawn(function()
    while true do
      db:transaction(function() ok(db:run "INSERT INTO t VALUES(1)") end, { durable = false })
      time.sleep(0)
    end
  end)
  time.sleep(0.02)
  run:cancel()
  run:join()
  ok(db:transaction(function() return db:run "INSERT INTO t VALUES(2)" end))
end)

test("a script that is out of time inside a transaction commits nothing", function()
  local db = fresh()
  ok(db:exec "CREATE TABLE t(x)")
  local run = task.start({ cpu = 0.05 }, function()
    db:transaction(function()
      ok(db:run "INSERT INTO t VALUES(1)")
      while true do pcall(function() while true do end end) end
    end)
  end)
  local value, err = run:join()
  eq(value, nil)
  eq(err.code, "budget")
  eq(db:row("SELECT count(*) AS n FROM t").n, 0)
  ok(db:run "INSERT INTO t VALUES(2)")
end)

test("what SQLite gave up is not committed by halves", function()
  local db = fresh { budget = 0.2 }
  ok(db:exec "CREATE TABLE t(x)")
  local err = fails("budget", db:transaction(function()
    ok(db:run "INSERT INTO t VALUES(1)")
    db:run("INSERT INTO t " .. ENDLESS .. "SELECT x FROM c") -- its failure is overlooked
    db:run "INSERT INTO t VALUES(2)"
    return "done"
  end))
  has(err.message, "given up")
  eq(db:row("SELECT count(*) AS n FROM t").n, 0)
end)

test("a long statement ends with its budget", function()
  local db = fresh { budget = 0.1 }
  local start = time.cpu()
  fails("budget", db:row(ENDLESS .. "SELECT count(*) FROM c"))
  fails("budget", db:exec(ENDLESS .. "SELECT count(*) FROM c"))
  fails("budget", db:rows(ENDLESS .. "SELECT x FROM c WHERE x % 100000 = 0"))
  if time.cpu() - start > 20 then error("too slow") end
  eq(db:row("SELECT 1 AS one"), { one = 1 })
end)

test("rows are bounded", function()
  local db = fresh { max_rows = 10 }
  eq(#ok(db:rows(ENDLESS .. "SELECT x FROM c LIMIT 10")), 10)
  fails("too_large", db:rows(ENDLESS .. "SELECT x FROM c LIMIT 11"))
  fails("too_large", db:row("SELECT zeroblob(?)", 100 << 20))
end)

test("failures have codes and name the file", function()
  local db, path = fresh()
  ok(db:exec "CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE, n NOT NULL)")
  ok(db:run "INSERT INTO t VALUES(1, 'a', 0)")
  local err = fails("exists", db:run "INSERT INTO t VALUES(2, 'a', 0)")
  eq({ err.op, err.target }, { "store.run", path })
  fails("exists", db:run "INSERT INTO t VALUES(1, 'b', 0)")
  fails("invalid", db:run "INSERT INTO t VALUES(2, 'b', NULL)")
  fails("invalid", db:run "SELEKT 1")
  fails("invalid", db:rows "SELECT * FROM missing")
  fails("invalid", db:run "SELECT 1; SELECT 2")
  fails("invalid", db:run "")
  fails("invalid", db:row "SELECT \"t\"")
  fails("invalid", db:run "SELECT 1\0")
end)

test("mistakes of the caller raise", function()
  local db = fresh()
  ok(db:exec "CREATE TABLE t(a, b)")
  raises("wants 2 parameters, not 1", db.run, db, "INSERT INTO t VALUES(?, ?)", 1)
  raises("wants 0 parameters, not 1", db.row, db, "SELECT 1", 1)
  raises("parameter 2 is a table", db.run, db, "INSERT INTO t VALUES(?, ?)", 1, {})
  raises("parameter 1 is NaN", db.run, db, "INSERT INTO t VALUES(?, ?)", 0 / 0, 1)
  raises("usage: db:run", db.run, db)
  raises("usage: db:rows", db.rows, db, 7)
  raises("usage: db:exec", db.exec, db, "SELECT ?", 1)
  raises("usage: db:transaction", db.transaction, db, "BEGIN")
  raises("did you mean 'durable'", db.transaction, db, function() end, { durabel = true })
  raises("usage: store.open", store.open)
  raises("unknown option", store.open, "x", { mode = "r" })
  raises("NUL", store.open, "x\0y")
  raises("usage: store.blob", store.blob, 7)
  db:close()
  db:close()
  raises("closed", db.run, db, "SELECT 1")
  raises("closed", db.transaction, db, function() end)
  eq(tostring(db), "store: closed")
end)

test("what raises in the middle leaves no statement open", function()
  local db, path = fresh()
  ok(db:exec "CREATE TABLE t(x); INSERT INTO t VALUES(1), (2)")
  raises("", db.row, db, "SELECT x FROM t WHERE x = ?", {})
  local other = ok(store.open(path, { busy_timeout = 0 }))
  check.defer(function() other:close() end)
  ok(db:row "SELECT x FROM t")
  -- a reader left open would keep the write-ahead log from being emptied
  ok(other:run "INSERT INTO t VALUES(3)")
  eq(other:row("PRAGMA wal_checkpoint(TRUNCATE)").busy, 0)
end)

test("files that are no database are told apart", function()
  local dir = lab.dir("store")
  fails("not_found", store.open(dir .. "/missing/state.db"))
  fails("not_found", store.open(dir .. "/missing.db", { readonly = true }))
  eq(fs.exists(dir .. "/missing.db"), false)
  fails("invalid", store.open "")
  ok(fs.write(dir .. "/text.db", ("this is text\n"):rep(1000)))
  fails("mismatch", store.open(dir .. "/text.db"))
  eq(fs.read(dir .. "/text.db"), ("this is text\n"):rep(1000))
  ok(fs.write(dir .. "/empty.db", ""))
  ok(store.open(dir .. "/empty.db")):close()
end)

test("a path is never taken for a URI", function()
  local dir = lab.dir("store")
  local db <close> = ok(store.open(dir .. "/file:x?mode=memory"))
  ok(db:exec "CREATE TABLE t(x)")
  eq(fs.exists(dir .. "/file:x?mode=memory"), true)
end)

test("the file is private", function()
  local db, path = fresh()
  ok(db:exec "CREATE TABLE t(x)")
  for _, suffix in ipairs { "", "-wal", "-shm" } do
    eq(ok(fs.stat(path .. suffix)).mode & 511, 384, suffix)
  end
end)

test("two databases on one file: readers see commits, writers wait and then are busy", function()
  local db, path = fresh()
  ok(db:exec "CREATE TABLE t(x)")
  local other = ok(store.open(path, { busy_timeout = 0.05 }))
  check.defer(function() other:close() end)
  ok(db:transaction(function()
    ok(db:run "INSERT INTO t VALUES(1)")
    eq(other:row("SELECT count(*) AS n FROM t").n, 0)
    fails("busy", other:run "INSERT INTO t VALUES(2)")
    fails("busy", other:transaction(function() error("not reached") end))
  end))
  eq(other:row("SELECT count(*) AS n FROM t").n, 1)
  local reader = ok(store.open(path, { readonly = true }))
  check.defer(function() reader:close() end)
  eq(reader:row("SELECT count(*) AS n FROM t").n, 1)
  fails("denied", reader:run "INSERT INTO t VALUES(3)")
end)

test("check finds damage, backup makes a whole copy", function()
  local db, path = fresh()
  ok(db:exec "CREATE TABLE t(x); CREATE INDEX i ON t(x)")
  ok(db:run("INSERT INTO t " .. ENDLESS .. "SELECT hex(x) FROM c LIMIT 2000"))
  eq(db:check(), true)
  eq(db:backup(path .. ".copy"), true)
  fails("exists", db:backup(path .. ".copy"))
  local copy = ok(store.open(path .. ".copy"))
  eq(copy:row("SELECT count(*) AS n FROM t").n, 2000)
  copy:close()
  local bytes = ok(fs.read(path .. ".copy"))
  ok(fs.write(path .. ".bad", bytes:sub(1, 8192) .. ("damage!!"):rep((#bytes - 8192) // 8)))
  local bad = ok(store.open(path .. ".bad"))
  fails("mismatch", bad:check())
  bad:close()
end)

test("a killed writer loses no commit that it has told of, and leaves none by halves", function()
  local db, path = fresh()
  ok(db:exec "CREATE TABLE t(n INTEGER, v)")
  local told = 0
  for round = 1, 5 do
    ok(db:exec "DELETE FROM t")
    local writer <close> = ok(proc.spawn { sys.exe(), "exec", "tests/fixture/writer.lua", path })
    for line in writer:lines() do
      told = tonumber(line)
      if told >= 37 * round then break end
    end
    writer:kill "SIGKILL"
    writer:wait()
    local row = ok(db:row "SELECT count(*) AS rows, count(DISTINCT n) AS commits, max(n) AS last FROM t")
    eq(row.rows, 2 * row.commits)
    eq(row.commits, row.last)
    if row.last < told then error(("%d was told, %d is there"):format(told, row.last)) end
    eq(db:check(), true)
  end
end)

test("a database that nobody closed is closed by its collector, and by <close>", function()
  local path = lab.dir("store") .. "/state.db"
  do
    local db <close> = ok(store.open(path))
    ok(db:exec "CREATE TABLE t(x)")
  end
  eq(fs.exists(path .. "-wal"), false) -- the last one to leave removes the log
  do
    local forgotten = ok(store.open(path, { durable = false }))
    ok(forgotten:run "INSERT INTO t VALUES(1)")
    eq(fs.exists(path .. "-wal"), true)
  end
  check.eventually(function()
    local garbage = {}
    for i = 1, 100000 do garbage[i % 10 + 1] = { i } end
    return #garbage == 10 and not fs.exists(path .. "-wal")
  end, 10, "the collector closes the database")
end)

test("no finaliser of a script can run among rows", function()
  raises("__gc", function() setmetatable({}, { __gc = function() end }) end)
  local meta, tried = {}, false
  local db = fresh()
  for _ = 1, 50 do
    setmetatable({}, meta)
    meta.__gc = function() tried = true end -- too late: it was looked for when the metatable was set
    ok(db:rows(ENDLESS .. "SELECT x, hex(x) AS h FROM c LIMIT 1000"))
    meta.__gc = nil
  end
  eq(tried, false)
end)

-- ---- copies ----

-- A process of its own with a database open and a log that no checkpoint has emptied.
local HOLDER <const> = [[
local store, sys = require "store", require "base.sys"
local db = assert(store.open(...))
assert(db:exec "CREATE TABLE t(n INTEGER) STRICT")
for i = 1, 50 do assert(db:run("INSERT INTO t VALUES(?)", i)) end
print "ready"
sys.catch "TERM"
sys.next_signal()
]]

local COPIER <const> = [[
local db, err = require("store").open(":memory:", { from = (...) })
if not db then print(err.code) return end
print(db:row("SELECT count(*) AS n FROM t").n)
assert(db:exec "INSERT INTO t VALUES(1)")
]]

local function script(text)
  local path = lab.dir("script") .. "/script"
  ok(fs.write(path, text))
  return path
end

local function held_open(path)
  local holder = ok(proc.spawn { sys.exe(), "exec", script(HOLDER), path })
  check.defer(function() holder:close() end)
  eq(holder:lines()(), "ready")
  return holder
end

-- Every file of a folder, with its bytes.
local function picture(dir)
  local all = {}
  for _, name in ipairs((ok(fs.list(dir)))) do all[name] = ok(fs.read(dir .. "/" .. name)) end
  return all
end

-- What another process copies; it leaves the folder as it was.
local function copied(path, spec)
  local before = picture(path:match "^(.*)/")
  local command = { sys.exe(), "exec", script(COPIER), path }
  local result = ok(proc.run(command))
  eq({ result.code, result.stderr }, { 0, "" })
  eq(picture(path:match "^(.*)/"), before, spec)
  return (result.stdout:gsub("\n$", ""))
end

test("a copy has what others committed, whether they live, died or never were, and leaves no trace", function()
  for _, name in ipairs { "state.db", "a ?#%41&mode=rwc.db" } do
    local path = lab.dir("store") .. "/" .. name
    eq(copied(path), "not_found")
    local holder = held_open(path)
    eq(copied(path, "beside a process"), "50")
    holder:kill("KILL")
    holder:wait(10)
    ok(fs.stat(path .. "-wal").size > 0)
    eq(copied(path, "of one that died"), "50")
    local index = ok(fs.read(path .. "-shm"))
    ok(fs.remove(path .. "-shm"))
    eq(copied(path, "of a log without its index"), "unsupported")
    ok(fs.write(path .. "-shm", index))
    ok(store.open(path)):close()
    eq(fs.exists(path .. "-wal"), false)
    eq(copied(path, "of one that ended"), "50")
  end
end)

test("a copy is in memory alone, and only there", function()
  local db, path = fresh()
  ok(db:exec "CREATE TABLE t(n INTEGER) STRICT; INSERT INTO t VALUES(1)")
  local copy <close> = ok(store.open(":memory:", { from = path }))
  ok(copy:exec "INSERT INTO t VALUES(2)")
  eq(db:row("SELECT count(*) AS n FROM t").n, 1)
  raises("option 'from' is for a database in memory", function() return store.open(path .. "2", { from = path }) end)
  local junk = lab.dir("store") .. "/junk.db"
  ok(fs.write(junk, ("no database "):rep(1000)))
  fails("mismatch", store.open(":memory:", { from = junk }))
end)
