-- The rule of the floor, on small houses: who stands on it, and every way of breaking it.
local check = require "check"
local floor = require "lint.floor"
local test, eq = check.test, check.eq

local HOUSE <const> = {
  ["err.h"] = { "/* Plain. Knows no Lua. */" },
  ["bind.h"] = { "#include <lua.h>", '#include "err.h"' },
  ["host.h"] = { '#include "bind.h"', "#include <lauxlib.h>" },
  ["serve.h"] = { '#include "err.h"' },
  ["serve.c"] = { '#include "serve.h"', "#include <stdlib.h>", '#include "err.h"' },
  ["api_serve.c"] = { "#include <lauxlib.h>", '#include "bind.h"', '#include "serve.h"' },
  ["main.c"] = { '#include "host.h"' },
}

-- The faults of the house with some of its files replaced.
local function faults(changed)
  local house = {}
  for name, lines in pairs(HOUSE) do house[name] = lines end
  for name, lines in pairs(changed) do house[name] = lines end
  return floor.faults(house)
end

local LEADS <const> = "of the floor, which knows no Lua, and leads to it: "

test("a house whose floor knows no Lua is sound", function()
  eq(faults {}, {})
  for name, holds in pairs {
    ["err.h"] = true, ["serve.h"] = true, ["serve.c"] = true,
    ["bind.h"] = false, ["host.h"] = false, ["api_serve.c"] = false, ["main.c"] = false,
  } do
    eq({ name, floor.holds(HOUSE, name) }, { name, holds })
  end
end)

test("a way to Lua is found where it begins, however long it is", function()
  eq(faults { ["serve.c"] = { '#include "serve.h"', '#include "host.h"' } },
    { { "serve.c", 2, LEADS .. "host.h, bind.h, lua.h" } })
  eq(faults { ["serve.h"] = { "/* */", '#include "proc.h"' }, ["proc.h"] = { '#include "bind.h"' } }, {
    { "proc.h", 1, LEADS .. "bind.h, lua.h" },
    { "serve.c", 1, LEADS .. "serve.h, proc.h, bind.h, lua.h" },
    { "serve.h", 2, LEADS .. "proc.h, bind.h, lua.h" },
  })
end)

test("a file of the floor may not include Lua itself, nor say that it is one when it is not", function()
  eq(faults { ["serve.c"] = { '#include "serve.h"', "#include <lua.h>" } }, { { "serve.c", 2, LEADS .. "lua.h" } })
  eq(faults { ["err.h"] = { "/* Plain. Knows no Lua. */", "#include <lua.h>" } }[1],
    { "err.h", 1, "says that it knows no Lua, and stands above the floor" })
end)

test("headers that include each other end the search", function()
  eq(faults { ["err.h"] = { '#include "serve.h"' } }, {})
end)
