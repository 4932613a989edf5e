-- Docstrings and types, read from the text of a module.
local check = require "check"
local docs = require "base.docs"
local test, eq = check.test, check.eq

test("a docstring has its text, example, arguments and results", function()
  local doc = docs.read([[
---Does it. And
---more.
---
---    example(1)
---@async
---@param a string What
---  it is.
---@param b? {x: integer, y?: string}
---@return integer? count How many.
---@return_overload nil, Err
function M.go(a, b, ...)
]])["M.go"]
  eq({ doc.text, doc.example, doc.args }, { "Does it. And more.", "example(1)", { "a", "b", "..." } })
  eq(doc.params, {
    { name = "a", type = "string", doc = "What it is.", optional = false },
    { name = "b", type = "{x: integer, y?: string}", doc = "", optional = true },
  })
  eq(doc.returns, { { type = "integer?", doc = "count How many." } })
end)

test("a function that only has a type is told as others are; another value keeps its type", function()
  local found = docs.read [[
---Orders it.
---@type async fun(self: App, where: table<string, integer>, why?: string): any, Err?
App.order = simple "order"

---Nothing.
---@type Null
M.null = core.null
]]
  local order = found["App.order"]
  eq(order.args, { "where", "why" })
  eq(order.params, {
    { name = "where", type = "table<string, integer>", doc = "", optional = false },
    { name = "why", type = "string", doc = "", optional = true },
  })
  eq({ order.returns[1].type, order.returns[2].type, order.value }, { "any", "Err?" })
  eq(found["M.null"].value, "Null")
end)

test("classes and aliases have their fields, but for private ones", function()
  local types = docs.types [[
---What it is.
---@class Thing: Parent What else.
---@field name string Its name,
--- as people say it.
---@field at? Wall
---@field private secret string What nobody
--- else reads.
---@field [integer] string
---@alias State "on"|"off"
local Thing = {}
]]
  eq(types.Thing.fields, {
    { name = "name", type = "string", doc = "Its name, as people say it.", optional = false },
    { name = "at", type = "Wall", doc = "", optional = true },
  })
  eq({ types.Thing.variable, types.Thing.lines[1], types.State.lines }, {
    "Thing", "What it is.", { '@alias State "on"|"off"' },
  })
end)

test("the names of an annotation are those of its types", function()
  local function names(line)
    local list = {}
    for name in docs.names(line) do list[#list + 1] = name end
    return table.concat(list, " ")
  end
  eq(names "@param request Image|{digest: string} Why not", "Image digest string")
  eq(names "@return Err? err Run and Place", "Err")
  eq(names "@return fun(): Why none", "fun Why")
end)
