---@meta core.fs
-- api_fs.c, for stdlib/fs.lua.

---@class core.fs.TempDir
---@field path fun(self: core.fs.TempDir): string
---@field close fun(self: core.fs.TempDir)

local M = {}

---@async
---@param path string
---@param opts? {max?: integer, root?: string, offset?: integer, length?: integer}
---@return string? bytes
---@return Err? err
---@return_overload nil, Err
function M.read(path, opts) end

---@async
---@param path string
---@param data string
---@param opts? {mode?: integer, root?: string, sync?: boolean}
---@return true?
---@return Err? err
---@return_overload nil, Err
function M.write(path, data, opts) end

---@async
---@param path string
---@param data string
---@param opts? {mode?: integer, root?: string, sync?: boolean}
---@return true?
---@return Err? err
---@return_overload nil, Err
function M.append(path, data, opts) end

---@async
---@param path string
---@param opts? {root?: string, max?: integer}
---@return string[]? names
---@return table<string, FileType>|Err types
---@return_overload string[], table<string, FileType>
---@return_overload nil, Err
function M.list(path, opts) end

---@async
---@param path string
---@param opts? {parents?: boolean, mode?: integer, root?: string}
---@return true?
---@return Err? err
---@return_overload nil, Err
function M.mkdir(path, opts) end

---@async
---@param path string
---@param opts? {recursive?: boolean, root?: string}
---@return true?
---@return Err? err
---@return_overload nil, Err
function M.remove(path, opts) end

---@async
---@param path string
---@param opts? {follow?: boolean, root?: string}
---@return FileStat?
---@return Err? err
---@return_overload nil, Err
function M.stat(path, opts) end

---@async
---@param from string
---@param to string
---@param opts? {root?: string, replace?: boolean, sync?: boolean}
---@return true?
---@return Err? err
---@return_overload nil, Err
function M.rename(from, to, opts) end

---@async
---@param path string
---@param opts? {shared?: boolean, root?: string}
---@return Lock?
---@return Err? err
---@return_overload nil, Err
function M.lock(path, opts) end

---@param path string
---@return Watch?
---@return Err? err
---@return_overload nil, Err
function M.watch(path) end

---@async
---@param dir string
---@param prefix string
---@param sweep boolean What killed processes left beside it goes first.
---@return core.fs.TempDir?
---@return Err? err
---@return_overload nil, Err
function M.temp_dir(dir, prefix, sweep) end

return M
