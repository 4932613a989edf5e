-- The file beside a journal that says that there was one.
--
-- A journal that is gone or empty looks like a host that never ran: it would adopt what runs, forget holds, approvals
-- and what failed, and release anew. `--fresh` allows that. A journal with two names would get two write-ahead
-- logs, one beside each name, and be broken by the second host.
local errors, fs = require "errors", require "fs"

local M = {}

local NAME <const> = "journal.begun"
local TEXT <const> = "A journal was begun here: journal.db. While this file is there, a missing or empty journal is an "
  .. "error,\nunless the host is started once with --fresh.\n"

---Whether a journal may be opened, or begun.
---@async
---@param dir string The state folder.
---@param path string The journal.
---@param fresh? boolean A person says that it may be begun anew.
---@return true? ok
---@return Err? err not_found: it is gone or empty; conflict: it has another name, too.
---@return_overload nil, Err
function M.check(dir, path, fresh)
  local stat, err = fs.stat(path, { follow = false })
  if not stat and err.code ~= "not_found" then return nil, err end
  if stat and stat.type == "link" or stat and stat.links > 1 then
    return errors.fail("conflict", ("%s is %s: two state folders must not share one journal; make it a file of its "
      .. "own (cp, then mv over it, while no host runs)"):format(path, stat.type == "link" and "a symbolic link"
        or ("one file with %d names (hard links)"):format(stat.links)), { op = "journal.open", target = path })
  end
  if stat and stat.size > 0 or fresh or not fs.exists(dir .. "/" .. NAME) then return true end
  return errors.fail("not_found", ("the journal %s is %s, but there was one (%s says so): put it back from a backup, "
    .. "or start the host once with --fresh to begin anew; it then adopts what runs, and holds, approvals and history "
    .. "are lost"):format(path, stat and "empty" or "missing", NAME), { op = "journal.open", target = path })
end

---Says that there is a journal.
---@async
---@param dir string
---@return true? ok
---@return Err? err
---@return_overload nil, Err
function M.put(dir)
  if fs.exists(dir .. "/" .. NAME) then return true end
  return fs.write(dir .. "/" .. NAME, TEXT)
end

return M
