-- The reference of the configuration, printed from the shapes that check it: it cannot be out of date.

local inspect = require "base.inspect"
local reference = require "config.reference"
local s = require "base.schema"

local M = {}

---@class ManualRow
---@field path string "apps.APP.branch"
---@field type string
---@field default? string as Lua source
---@field required boolean
---@field example? string
---@field doc string

local function resolve(shape)
  -- A key that may be one of several shapes is described by the richest of them.
  if shape.shapes then
    for _, pair in ipairs(shape.shapes) do
      if pair[2].fields then return pair[2] end
    end
  end
  return shape
end

local function describe(shape)
  local words = {}
  if shape.shapes then
    for i, pair in ipairs(shape.shapes) do words[i] = pair[2].what end
    return table.concat(words, " or ")
  end
  return shape.what
end

local function walk(shape, path, rows)
  local inner = resolve(shape)
  if inner.fields then
    for _, field in ipairs(inner.fields) do
      local name, child = field[1], field[2]
      local here = path == "" and name or path .. "." .. name
      local empty = type(child.default) == "table" and next(child.default) == nil
      rows[#rows + 1] = {
        path = here,
        type = describe(child),
        default = child.default ~= nil and not empty and inspect.text(child.default) or nil,
        required = child.required == true,
        example = child.example,
        doc = child.doc,
      }
      walk(child, here, rows)
    end
  elseif inner.kinds then
    for _, kind in ipairs(inner.kinds) do
      local here, record = path .. "{kind=" .. kind[1] .. "}", s.kind(kind)
      rows[#rows + 1] = { path = here, type = "a table", required = false, doc = record.doc }
      walk(record, here, rows)
    end
  elseif inner.item and inner.key then
    local here = path .. "." .. inner.name
    if resolve(inner.item).fields or inner.item.kinds then walk(inner.item, here, rows) end
  elseif inner.item then
    walk(inner.item, path .. "[]", rows)
  end
  return rows
end

---Lists every key, depth first, in the order of the reference.
---@return ManualRow[]
function M.rows()
  return walk(reference.config(), "", {})
end

---Writes the reference as a Markdown table.
---@return string
function M.markdown()
  local out = { "| key | type | default | meaning |", "|---|---|---|---|" }
  local function cell(text) return (text:gsub("|", "\\|")) end
  for _, row in ipairs(M.rows()) do
    out[#out + 1] = ("| `%s` | %s | %s | %s |"):format(row.path, cell(row.type),
      row.required and "required" or row.default and "`" .. cell(row.default) .. "`" or "", cell(row.doc))
  end
  return table.concat(out, "\n") .. "\n"
end

return M
