-- The table functions of the host answer as the C library's do, within limits.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: return-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local task, time = require "task", require "time"
local test, eq, ok, raises = check.test, check.eq, check.ok, check.raises

local function code_of(fn, ...)
  local done, err = pcall(fn, ...)
  return not done and type(err) == "table" and err.code or "done"
end

-- A list that is seen only through its metatable, and counts what it is asked.
local function proxy(list)
  local asked = { reads = 0, writes = 0 }
  return setmetatable({}, {
    __len = function() return #list end,
    __index = function(_, k) asked.reads = asked.reads + 1 return list[k] end,
    __newindex = function(_, k, v) asked.writes = asked.writes + 1 list[k] = v end,
  }), asked
end

local SPAN <const> = 1 << 20 -- elements that one call may visit
local SORTED <const> = 1 << 18 -- ... and table.sort

test("insert and remove move what stands behind", function()
  local list = { "a", "c" }
  table.insert(list, 2, "b")
  table.insert(list, "d")
  table.insert(list, 1, "_")
  eq(list, { "_", "a", "b", "c", "d" })
  eq(table.remove(list, 1), "_")
  eq(table.remove(list), "d")
  eq(table.remove(list, 4), nil) -- one past the end is allowed
  eq(list, { "a", "b", "c" })
  eq(table.remove({}), nil)
  eq(table.remove({}, 0), nil)
  eq(table.remove({ [0] = "zero" }, 0), "zero")
  for _, at in ipairs { 0, 5, -1, math.maxinteger, math.mininteger } do
    raises("position out of bounds", table.insert, list, at, "x")
    raises("position out of bounds", table.remove, list, at == 5 and 6 or at)
  end
  raises("wrong number of arguments", table.insert, list)
  raises("wrong number of arguments", table.insert, list, 1, 2, 3)
  raises("table expected", table.insert, nil, 1)
  raises("number has no integer representation", table.insert, list, 1.5, "x")
end)

test("concat takes texts and numbers, and names what it cannot take", function()
  eq(table.concat({}), "")
  eq(table.concat({ 1, 2.5, "x" }, ", "), "1, 2.5, x")
  eq(table.concat({ "a", "b", "c" }, "-", 2), "b-c")
  eq(table.concat({ "a", "b", "c" }, "-", 2, 2), "b")
  eq(table.concat({ "a" }, "-", 3), "")
  eq(table.concat({ [math.maxinteger] = "end" }, ",", math.maxinteger, math.maxinteger), "end")
  local list = { 7 }
  eq(table.concat(list), "7")
  eq(math.type(list[1]), "integer", "the list itself stays as it is")
  raises("invalid value (boolean) at index 2 in table for 'concat'", table.concat, { "a", true })
  raises("invalid value (nil) at index 1", table.concat, {}, ",", 1, 2)
  raises("string expected", table.concat, { "a" }, {})
end)

test("move copies in the order that overlapping asks for", function()
  eq(table.move({ 1, 2, 3 }, 1, 3, 2), { 1, 1, 2, 3 })
  eq(table.move({ 1, 2, 3 }, 2, 3, 1), { 2, 3, 3 })
  eq(table.move({ 1, 2, 3 }, 1, 3, 3, { "a", "b" }), { "a", "b", 1, 2, 3 })
  eq(table.move({ 1, 2 }, 2, 1, 5), { 1, 2 }, "an empty range moves nothing")
  local target = {}
  eq(table.move({ 1 }, 1, 1, 1, target) == target, true)
  raises("too many elements to move", table.move, {}, -1, math.maxinteger, 2)
  raises("destination wrap around", table.move, {}, 1, 2, math.maxinteger)
end)

test("unpack gives nils too, and refuses what fits on no stack", function()
  eq(select("#", table.unpack({}, 1, 3)), 3)
  eq({ table.unpack({ 1, 2, 3 }, 2) }, { 2, 3 })
  eq(select("#", table.unpack({}, 2, 1)), 0)
  eq((table.unpack({ [math.maxinteger] = "end" }, math.maxinteger, math.maxinteger)), "end")
  for _, range in ipairs { { 1, 1 << 40 }, { math.mininteger, math.maxinteger }, { 1, 10000000 } } do
    raises("too many results to unpack", table.unpack, {}, range[1], range[2])
  end
end)

test("sort orders any list, with and without a function of one's own", function()
  for n = 0, 40 do
    local list, want = {}, {}
    for i = 1, n do list[i], want[i] = i * 7919 % (n + 1) % 13, nil end
    for i = 1, n do want[i] = list[i] end
    for i = 2, n do -- the plainest sort there is
      local v, k = want[i], i - 1
      while k >= 1 and want[k] > v do
        want[k + 1] = want[k]
        k = k - 1
      end
      want[k + 1] = v
    end
    table.sort(list)
    eq(list, want)
  end
  local words = { "b", "C", "a" }
  table.sort(words, function(a, b) return a:lower() > b:lower() end)
  eq(words, { "C", "b", "a" })
  raises("attempt to compare", table.sort, { 1, "x" })
  raises("function expected", table.sort, { 1, 2 }, "x")
end)

test("sorting is stable, so that a replayed run finds the same order", function()
  local list = {}
  for i = 1, 100 do list[i] = { key = i % 3, at = i } end
  table.sort(list, function(a, b) return a.key < b.key end)
  for i = 2, #list do
    local a, b = list[i - 1], list[i]
    ok(a.key < b.key or a.at < b.at)
  end
end)

test("a comparison that raises or lies leaves the list whole", function()
  local list, calls = { 5, 4, 3, 2, 1 }, 0
  raises("no more", table.sort, list, function()
    calls = calls + 1
    if calls == 4 then error("no more", 0) end
    return true
  end)
  eq(list, { 5, 4, 3, 2, 1 })
  table.sort(list, function() return true end)
  local seen = {}
  for _, v in ipairs(list) do seen[v] = true end
  eq(seen, { true, true, true, true, true })
  list = { 3, 2, 1 }
  table.sort(list, function(a, b) -- takes its own list away meanwhile
    for i = 1, 3 do list[i] = nil end
    return a < b
  end)
  eq(list, { 1, 2, 3 })
end)

test("metatables are asked, and what is no list is refused", function()
  local list = { 3, 1, 2 }
  local shown, asked = proxy(list)
  table.sort(shown)
  eq(list, { 1, 2, 3 })
  table.insert(shown, 1, 0)
  eq(table.remove(shown), 3)
  eq(table.concat(shown, ","), "0,1,2")
  ok(asked.reads > 0 and asked.writes > 0)
  for _, value in ipairs { 1, "text", true, print } do
    raises("table expected", table.sort, value)
    raises("table expected", table.move, value, 1, 1, 1)
  end
  raises("object length is not an integer", table.concat, setmetatable({}, { __len = function() return "x" end }))
end)

test("tables that claim to be endless are refused at once", function()
  local started = time.cpu()
  for _, len in ipairs { 1 << 60, math.maxinteger - 1 } do
    local endless = setmetatable({}, { __len = function() return len end })
    for name, args in pairs { insert = { 1, "x" }, remove = { 1 }, sort = {}, concat = {} } do
      eq(code_of(table[name], endless, table.unpack(args)), "too_large", name)
    end
    ok(not pcall(table.unpack, endless))
  end
  eq(code_of(table.move, {}, 1, math.maxinteger - 1, 2), "too_large")
  ok(time.cpu() - started < 1, "took too long")
end)

test("the limits are what they say", function()
  local function claims(n)
    return setmetatable({}, { __len = function() return n end, __index = function() return "" end })
  end
  eq(table.concat(claims(SPAN)), "")
  eq(code_of(table.concat, claims(SPAN + 1)), "too_large")
  eq(code_of(table.move, {}, 1, SPAN + 1, 2), "too_large")
  eq(code_of(table.remove, claims(SPAN + 1), 1), "too_large")
  eq(code_of(table.insert, claims(SPAN), 1, "x"), "too_large")
  eq(code_of(table.sort, claims(SORTED + 1)), "too_large")
  eq(code_of(table.concat, { ("x"):rep(40 << 20), ("x"):rep(40 << 20) }), "too_large")
end)

test("a comparison may be set aside, and the order comes out the same", function()
  local Number = { __lt = function(a, b)
    time.sleep(0)
    return a.n < b.n
  end }
  local function less(a, b)
    time.sleep(0)
    return a.n < b.n
  end
  for _, n in ipairs { 2, 3, 4, 5, 8, 33, 100 } do
    local list, objects = {}, {}
    for i = 1, n do
      list[i] = { n = i * 7919 % 13, i = i }
      objects[i] = setmetatable({ n = i * 7919 % 13, i = i }, Number)
    end
    table.sort(list, less)
    table.sort(objects)
    for i = 2, n do
      local a, b = list[i - 1], list[i]
      ok(a.n < b.n or a.n == b.n and a.i < b.i) -- and what is equal keeps its order
      eq({ objects[i].n, objects[i].i }, { b.n, b.i })
    end
  end
end)

test("others get their turn while a long list is sorted, with a function and without", function()
  local list = {}
  for i = 1, 100000 do list[i] = ("v%d"):format(i * 7919 % 100003) end
  local turns, stop = 0, false
  local other = task.spawn(function()
    while not stop do
      turns = turns + 1
      time.sleep(0)
    end
  end)
  for _, less in ipairs { false, function(a, b) return a > b end } do
    turns = 0
    table.sort(list, less or nil)
    ok(turns >= 3, turns)
  end
  stop = true
  other:join()
end)
