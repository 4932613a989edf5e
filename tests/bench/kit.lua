-- What every benchmark needs: interleaved rounds, one instrument for all peers, medians, ratios, raw output.
---@diagnostic disable: inject-field -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: return-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local fs, json, proc, sys, time = require "fs", require "json", require "proc", require "base.sys", require "time"
local lab = require "lab"

local M = { quick = false }

local BIN = "build/bench/"
local EXE = sys.exe()
local verdicts = {}

local function first_line(path, pattern)
  local text = fs.read(path, { max = 1 << 20 })
  return text and text:match(pattern)
end

---One line that says where these figures come from.
---@return string
function M.machine()
  local _, cores = (fs.read("/proc/cpuinfo", { max = 1 << 20 }) or ""):gsub("processor%s*:", "")
  local memory = tonumber(first_line("/proc/meminfo", "MemTotal:%s*(%d+)") or 0) // 1048576
  return ("machine: %d x %s, %d GiB, Linux %s, load %s; moontide %s, node %s, %s; %s"):format(cores,
    first_line("/proc/cpuinfo", "model name%s*:%s*([^\n]+)") or "?", memory,
    first_line("/proc/sys/kernel/osrelease", "%S+") or "?", first_line("/proc/loadavg", "%S+") or "?", sys.version,
    lab.run({ "node", "--version" }):match("%S+"), lab.run({ "curl", "--version" }):match("^curl %S+"), time.iso())
end

---Picks by mode.
---@generic T
---@param full T
---@param quick T
---@return T
function M.size(full, quick)
  if M.quick then return quick end
  return full
end

---The command line of a moontide script under tests/bench.
---@param name string
---@param ... string|number
---@return string[]
function M.moontide(name, ...)
  local argv = { EXE, "exec", "tests/bench/" .. name .. ".lua" }
  for _, v in ipairs { ... } do argv[#argv + 1] = tostring(v) end
  return argv
end

---The command line of a C peer.
---@param name string
---@param ... string|number
---@return string[]
function M.peer(name, ...)
  local argv = { BIN .. name }
  for _, v in ipairs { ... } do argv[#argv + 1] = tostring(v) end
  return argv
end

---The command line of a Node or shell peer.
---@param program string
---@param file string
---@param ... string|number
---@return string[]
function M.script(program, file, ...)
  local argv = { program, "tests/bench/" .. file }
  for _, v in ipairs { ... } do argv[#argv + 1] = tostring(v) end
  return argv
end

---Runs a command under the instrument. Raises when it fails.
---@async
---@param argv string[]
---@param options? {first?: integer, env?: table, wrap?: fun(argv: string[]): string[]} wrap: where it runs
---@return table cost wall, user, system seconds, cpu (both), peak KiB, out (its standard output); or first (ms)
function M.measure(argv, options)
  options = options or {}
  local command = { BIN .. "measure" }
  if options.first then table.move({ "--first", tostring(options.first) }, 1, 2, 2, command) end
  table.move(argv, 1, #argv, #command + 1, command)
  if options.wrap then command = options.wrap(command) end
  command.env, command.timeout = lab.env(options.env), 600
  local result = assert(proc.run(command))
  local line = result.stderr:match("({[^\n]*})%s*$")
  local cost = line and json.decode(line)
  if not cost or not result.ok then
    error(("%s: %s%s"):format(table.concat(argv, " "), result.stderr, result.stdout), 2)
  end
  cost.cpu = cost.user and cost.user + cost.system
  cost.out = result.stdout
  return cost
end

---@class Bench a benchmark under way
---@field name string
---@field figures table<string, table<string, number[]>> by peer, by metric
---@field order string[] the peers, as they came
local Bench = {}
Bench.__index = Bench

---@param name string "B1"
---@param what string
---@return Bench
function M.begin(name, what)
  print(("\n%s: %s"):format(name, what))
  return setmetatable({ name = name, figures = {}, order = {}, units = {} }, Bench)
end

---Keeps one figure.
---@param peer string
---@param metric string
---@param value number
function Bench:add(peer, metric, value)
  if not self.figures[peer] then
    self.figures[peer] = {}
    self.order[#self.order + 1] = peer
  end
  local list = self.figures[peer][metric] or {}
  list[#list + 1] = value
  self.figures[peer][metric] = list
end

---Runs each peer once per round, the order turning by one each round, so that drift hits all alike.
---@async
---@param rounds integer
---@param peers {name: string, run: fun(): table<string, number>}[]
function Bench:rounds(rounds, peers)
  for round = 1, rounds do
    for i = 1, #peers do
      local peer = peers[(i + round - 2) % #peers + 1]
      for metric, value in pairs(peer.run()) do self:add(peer.name, metric, value) end
    end
  end
end

---@param list number[]
---@return number min
---@return number median
---@return number max
function M.spread(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  local half = (#sorted + 1) // 2
  local median = #sorted % 2 == 1 and sorted[half] or (sorted[half] + sorted[half + 1]) / 2
  return sorted[1], median, sorted[#sorted]
end

---@param peer string
---@param metric string
---@return number
function Bench:median(peer, metric)
  local list = self.figures[peer] and self.figures[peer][metric]
  if not list then error(("%s has no %s of %s"):format(self.name, metric, peer), 2) end
  return (select(2, M.spread(list)))
end

local function figure(value)
  if value >= 1000 then return ("%.0f"):format(value) end
  if value >= 10 then return ("%.1f"):format(value) end
  return ("%.3f"):format(value)
end

---Prints one metric of all peers: min, median, max.
---@param metric string
---@param title string With its unit.
function Bench:show(metric, title)
  for _, name in ipairs(self.order) do
    local list = self.figures[name][metric]
    if list then
      local low, median, high = M.spread(list)
      print(("  %-28s %-26s min %9s  median %9s  max %9s"):format(name, title, figure(low), figure(median),
        figure(high)))
    end
  end
end

---Judges a figure. "<=" and ">=" are goals; nil only tells.
---@param what string
---@param value number
---@param sense? "<="|">="
---@param goal? number
---@param unit? string
function Bench:judge(what, value, sense, goal, unit)
  local well = sense == nil or (sense == "<=" and value <= goal) or (sense == ">=" and value >= goal)
  local text = sense and ("goal %s %s%s"):format(sense, tostring(goal), unit or "") or "no goal"
  print(("  %s %-62s %8.3f%s  (%s)"):format(well and "ok  " or "MISS", what, value, unit or "", text))
  verdicts[#verdicts + 1] = { bench = self.name, what = what, value = value, sense = sense, goal = goal, unit = unit,
    well = well }
end

---Keeps every round's figures.
function Bench:close()
  local path = ("build/bench/raw/%s-%d.json"):format(self.name, math.floor(time.now()))
  lab.write(path, json.encode({ machine = M.machine(), quick = M.quick, figures = self.figures }, { pretty = true }))
  print("  raw: " .. path)
end

---Starts the benchmark server and gives its port.
---@async
---@param ... string "--close", or the files of a certificate and its key
---@return integer port
---@return fun() stop
function M.server(...)
  local argv = M.peer("server", ...)
  argv.env = lab.env()
  local handle = assert(proc.spawn(argv))
  local port = tonumber((handle:lines()()))
  return assert(port, "the benchmark server did not start"), function()
    handle:close_stdin()
    handle:wait(5)
  end
end

---Writes the table of verdicts (build/bench/table.md, for the README) and gives the exit status.
---@return integer
function M.finish()
  local lines, missed = { "| | figure | measured | goal |", "|---|---|---|---|" }, 0
  for _, v in ipairs(verdicts) do
    if not v.well then missed = missed + 1 end
    lines[#lines + 1] = ("| %s | %s | %s%s | %s |"):format(v.bench, v.what, figure(v.value), v.unit or "",
      v.sense and ("%s %s%s%s"):format(v.sense, v.goal, v.unit or "", v.well and "" or " (missed)") or "")
  end
  lab.write("build/bench/table.md", M.machine() .. "\n\n" .. table.concat(lines, "\n") .. "\n")
  print(("\n%d verdicts, %d missed; the table is in build/bench/table.md"):format(#verdicts, missed))
  return missed > 0 and 1 or 0
end

return M
