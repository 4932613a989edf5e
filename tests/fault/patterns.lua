-- Every allocation that the budgeted string and table functions need, failed in turn.
local sweep = require "lib.sweep"

local text = ("key=value "):rep(200)

sweep.run("string.find", function() return (text:find("(%w+)=(%w+)", 1)) == 1 end)
sweep.run("string.find with a long pattern", function() return (text:find(("[kx]?"):rep(500))) == 1 end)
sweep.run("string.match", function() return text:match("^(%w+)=(.-)%s") == "key" end)
sweep.run("string.gmatch", function()
  local count = 0
  for _ in text:gmatch("%w+") do count = count + 1 end
  return count == 400
end)
sweep.run("string.gsub", function() return select(2, text:gsub("%w+", "<%0>")) == 400 end)
sweep.run("string.gsub by a function", function() return select(2, text:gsub("%w+", string.upper)) == 400 end)
sweep.run("string.rep", function() return #("x"):rep(100000) == 100000 end)
sweep.run("table.concat", function()
  local list = {}
  for i = 1, 500 do list[i] = text end
  return #table.concat(list, ",") == 500 * 2000 + 499
end)
sweep.run("table.sort", function()
  local list = {}
  for i = 1, 500 do list[i] = i * 7 % 501 end
  table.sort(list, function(a, b) return a < b end)
  return list[1] < list[2] and list[499] < list[500]
end)
sweep.run("table.unpack", function() return select("#", table.unpack({}, 1, 5000)) == 5000 end)
sweep.run("table.insert, remove", function()
  local list = {}
  for i = 1, 500 do table.insert(list, 1, i) end
  return table.remove(list) == 1 and #list == 499
end)
sweep.run("coroutine.wrap, resume", function()
  local co = coroutine.create(function(n) return n + coroutine.yield(n) end)
  local inner = coroutine.wrap(function() return 1 end)
  return inner() == 1 and select(2, coroutine.resume(co, 1)) == 1 and select(2, coroutine.resume(co, 2)) == 3 and
    coroutine.close(co)
end)
sweep.run("setmetatable", function()
  do local _ <close> = setmetatable({}, { __close = function() end }) end
  return true
end)
sweep.run("table.move", function() return #table.move({ 1, 2, 3 }, 1, 3, 2) == 4 end)
