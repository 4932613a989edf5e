-- Every allocation that reading and writing JSON and YAML, and a database, need, failed in turn: in our rooms, in
-- Lua, in libyaml and in SQLite. Each failure must be told as one of memory (or, from SQLite, as the rollback that
-- followed), and a transaction must be kept whole or not at all.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local errors, fs, json, store, yaml = require "errors", require "fs", require "json", require "store", require "yaml"
local sweep = require "lib.sweep"

local dir = assert(fs.temp_dir())
local wrong = {}

-- Runs fn and notes a failure that is told as something else.
local function told(name, fn)
  sweep.run(name, function()
    local fine, value, err = pcall(fn)
    local why = not fine and value or value == nil and err or nil
    if why and not errors.is(why, "memory") and not tostring(why):find("memory", 1, true) then
      wrong[#wrong + 1] = name .. ": " .. tostring(why)
    end
    return fine and value ~= nil
  end)
end

local text = '{"a":[1,2.5,9007199254740993,[],{},null,"\\u00e9"],"b":{"c":[[[1]]],"d":"' .. ("x"):rep(5000) .. '"}}'
local value = assert(json.decode(text))

told("json.decode", function() return json.decode(text) end)
told("json.decode of what is refused", function()
  local _, err = json.decode('{"a":1,"\\u0061":2}')
  return errors.is(err, "invalid") or nil, err
end)
told("json.encode", function() return json.encode(value) end)
told("json.encode, pretty", function() return json.encode(value, { pretty = true }) end)

told("json.array, is_array", function() return json.is_array(json.array { 1 }) and json.is_array(json.array()) end)

local document = "a: &a {k: [1, two, ~]}\nb:\n  <<: *a\n  j: |\n    text\n---\n- *b\n"
local good = document:gsub("%*b", "c")
told("yaml.decode_all", function() return yaml.decode_all(good, { marks = true }) end)
told("yaml.decode of what is refused", function()
  local _, err = yaml.decode_all(document)
  return errors.is(err, "invalid") or nil, err
end)
told("yaml.encode", function() return yaml.encode(value) end)
told("yaml.encode_all", function() return yaml.encode_all { value, "x", { 1 } } end)

local db = assert(store.open(dir.path .. "/kept.db"))
assert(db:exec "CREATE TABLE t(n INTEGER, v)")

local n = 0
told("store.open", function()
  n = n + 1
  local opened <close>, err = store.open(("%s/%d.db"):format(dir.path, n))
  return opened and true, err
end)
told("db:run", function() return db:run("INSERT INTO t VALUES(?, ?)", 0, "text") end)
told("store.blob", function() return db:run("INSERT INTO t VALUES(0, ?)", store.blob(("\0x"):rep(3000))) end)
told("db:row", function() return db:row("SELECT v, n FROM t WHERE n = ? LIMIT 1", 0) end)
told("db:rows", function() return db:rows "SELECT v, n FROM t ORDER BY v LIMIT 20" end)
told("db:exec", function() return db:exec "CREATE TABLE IF NOT EXISTS u(x); DROP TABLE u" end)

-- Two rows a transaction, or none.
local function halves()
  return #assert(db:rows "SELECT n, count(*) AS c FROM t WHERE n > 0 GROUP BY n HAVING c <> 2")
end
told("db:transaction", function()
  n = n + 1
  return db:transaction(function()
    local first, err = db:run("INSERT INTO t VALUES(?, ?)", n, "one")
    if not first then return nil, err end
    return db:run("INSERT INTO t VALUES(?, ?)", n, "two")
  end)
end)
assert(halves() == 0, "a transaction was committed by halves")
told("db:check", function() return db:check() end)
told("db:backup", function()
  n = n + 1
  return db:backup(("%s/%d.copy"):format(dir.path, n))
end)
assert(db:check())
db:close()
dir:close()

for _, line in ipairs(wrong) do print("not ok " .. line) end
return #wrong > 0 and 1 or 0
