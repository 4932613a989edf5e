-- SQLite databases: the state of the host, and of scripts that want some.
--
-- Statements are synchronous, short and bounded: one that runs longer than the budget ends with code `budget`.
-- Parameters are bound, never pasted: integers stay integers, booleans become 0 and 1, nil and json.null become
-- NULL, strings are text (also with NUL bytes), store.blob(bytes) is a blob. Rows are tables by column name; NULL
-- is absent. A wrong number of parameters, a parameter that is a table, and a closed database raise; everything
-- else is nil and an error: `busy`, `full`, `io`, `exists` (unique), `invalid` (SQL, another constraint),
-- `mismatch` (damaged, or no database), `budget`, `denied`, `too_large`, `not_found`.
local core = require "core.store"

local M = {}

---@alias SqlValue nil|boolean|number|string|StoreBlob|JsonNull
---@alias Row table<string, number|string>

---@class StoreBlob

---@class StoreOptions
---@field ["readonly"]? boolean The file must exist and is not changed.
---@field durable? boolean Commits are on the disk before they return (default); false: after the next durable commit
---  or checkpoint. A crash of the host loses nothing either way, a power cut may lose the last ones.
---@field busy_timeout? Seconds How long another process' lock is waited for, 1 by default.
---@field budget? Seconds How long one statement may run, 2 by default.
---@field max_rows? integer What db:rows returns at most, 100,000 by default.
---@field from? string With ":memory:": the file whose content it begins with, as of its last commit. Nothing is written
---  or created there, whether a process works on it, died in the middle, or the disk cannot be written.

---A database. Close it with close() or a <close> variable.
---@class Store
---@field exec fun(self: Store, sql: string): true?, Err? Runs statements without parameters, one after the other.
---@field run fun(self: Store, sql: string, ...: SqlValue): integer?, integer|Err|nil Runs one statement; returns the
---  number of rows it changed and the id of the last row that was inserted.
---@field row fun(self: Store, sql: string, ...: SqlValue): Row?, Err? Returns the first row; nil without an error when
---  there is none. INSERT ... RETURNING works.
---@field rows fun(self: Store, sql: string, ...: SqlValue): Row[]?, Err? Returns every row.
---@field transaction fun(self: Store, fn: (fun(): ...), options?: {durable?: boolean}): ... Runs fn in BEGIN IMMEDIATE
---  and COMMIT; returns what fn returns, or true. Takes everything back when fn raises (and raises it again) or
---  returns nil or false with an error (and returns them). Waiting inside raises. Transactions do not nest.
---@field check fun(self: Store): true?, Err? Checks the whole file for damage.
---@field backup fun(self: Store, path: string): true?, Err? Copies the database into a new file.
---@field close fun(self: Store) Closing twice is fine.

---Opens a database, or creates it with mode 0600.
---
---    local db <close> = assert(store.open(path))
---    local row = db:row("SELECT name FROM app WHERE id = ?", id)
---
---@nodiscard
---@param path string ":memory:" is a database of its own in memory.
---@param options? StoreOptions
---@return Store? db
---@return Err? err
---@return_overload nil, Err
function M.open(path, options)
  return core.open(path, options)
end

---Marks bytes, so that they are bound as a blob.
---@param bytes string
---@return StoreBlob
function M.blob(bytes)
  return core.blob(bytes)
end

return M
