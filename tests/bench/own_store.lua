-- B6's own side: moontide exec tests/bench/own_store.lua FILE COUNT normal|full. The same schema and transitions as
-- peer_sqlite.c, through the store that scripts use.
local json, store, time = require "json", require "store", require "time"

local file, count, mode = ...
local db = assert(store.open(file, { durable = mode == "full" }))
assert(db:exec([[
  CREATE TABLE run(id INTEGER PRIMARY KEY, state TEXT NOT NULL, updated REAL NOT NULL);
  CREATE TABLE step(id INTEGER PRIMARY KEY, run INTEGER NOT NULL, path TEXT NOT NULL, result TEXT);
  INSERT INTO run VALUES(1, 'queued', 0);
]]))

local took = {}
local began = time.monotonic()
for i = 1, tonumber(count) do
  local start = time.monotonic()
  assert(db:transaction(function()
    assert(db:run("UPDATE run SET state=?, updated=? WHERE id=1", i % 2 == 1 and "waiting" or "running", start))
    assert(db:run("INSERT INTO step(run, path, result) VALUES(1, ?, ?)", "release/1/apply",
      '{"digest":"sha256:0123456789abcdef","ok":true}'))
    return true
  end))
  took[i] = (time.monotonic() - start) * 1e6
end
local total = time.monotonic() - began
db:close()
table.sort(took)
print(json.encode { rate = #took / total, p50 = took[#took // 2 + 1], p99 = took[#took * 99 // 100 + 1] })
