-- YAML, the part of it that configuration needs.
--
-- Plain true, false, null, ~, nothing and decimal integers are typed; everything else is text as it is
-- written: a version 1.10 stays "1.10", yes stays "yes", 0123 stays "0123". Quoted is always text. Keys are always
-- text. Lists are marked as json.array does, null is json.null. Anchors, aliases and merge keys (<<) work; each
-- use of an alias is a value of its own and counts against `nodes`. Refused: duplicate keys, tags other than
-- !!str !!int !!bool !!null !!map !!seq, keys that are no scalars, nesting over 64 levels.
local core = require "core.yaml"

local M = {}

---@class YamlDecodeOptions
---@field marks? boolean Also return where everything stands.
---@field null_as_nil? boolean null becomes nil: absent in a mapping, a hole in a list.
---@field max? integer Bytes of text, 8 MiB by default.
---@field kubernetes? boolean Plain scalars mean what kubectl takes them for (sigs.k8s.io/yaml): yes is true, 0x10 is
---  16, 100.0 is 100, 0400 is 256, and keys become the text of what they mean. !!float, !!binary and tags of others
---  are read, and a merge key overwrites what stands above it. For Kubernetes objects only.
---@field nodes? integer Scalars, lists and mappings, each use of an alias counted; 500,000 by default.

---@alias YamlMarks table<string, integer> Path to line: "apps.web.source", "apps.web.verify[1]"; "" is the whole.

---Reads one document; an empty text is null.
---
---    local config, marks = yaml.decode(text, { marks = true })
---
---@nodiscard
---@param text string
---@param options? YamlDecodeOptions
---@return any value
---@return YamlMarks|Err|nil marks With the option; an error instead when the value is nil: code `invalid`,
---  `too_large` or `unsupported`, `err.line` and `err.column` say where, counted from 1.
function M.decode(text, options)
  return core.decode(text, options)
end

---Reads every document.
---@nodiscard
---@param text string
---@param options? YamlDecodeOptions
---@return any[]? values
---@return YamlMarks[]|Err|nil marks
function M.decode_all(text, options)
  return core.decode_all(text, options)
end

---Writes a value as one document: keys sorted, block style, text in quotes where any YAML reader would take it for
---something else. What was read by decode is written so that it reads the same; floats become text when read back.
---@nodiscard
---@param value any As json.encode takes it.
---@param options? {max?: integer} Bytes of text, 16 MiB by default.
---@return string? text
---@return Err? err
---@return_overload nil, Err
function M.encode(value, options)
  return core.encode(value, options)
end

---Writes each item of a list as a document of its own.
---@nodiscard
---@param values any[]
---@param options? {max?: integer}
---@return string? text
---@return Err? err
---@return_overload nil, Err
function M.encode_all(values, options)
  return core.encode_all(values, options)
end

return M
