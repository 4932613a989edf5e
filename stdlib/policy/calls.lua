-- What a policy's file calls, found without running it: names that are nothing, and words that no place, run or
-- module has.
--
-- Lua reports a misspelt word only when its line runs, perhaps in the middle of a release. The compiler has resolved
-- every name already, so its result is read (policy/bytecode.lua): a global is an access to _ENV, a method
-- an OP_SELF. What an object is, is known where it came from: the parameters of watch and run, and require. Whatever is
-- not known is left to its run.
local closest = require("base.suggest").closest
local bytecode, constants, tables = require "policy.bytecode", require "policy.constants", require "base.tables"

local M = {}

-- ---- following objects ----

local MOVE <const>, GETUPVAL <const>, GETTABUP <const>, GETFIELD <const>, SELF <const> = 0, 9, 11, 14, 20
local NEWTABLE <const>, SETLIST <const> = 19, 78
local LOADK <const>, SETFIELD <const>, CALL <const>, TAILCALL <const>, CLOSURE <const> = 3, 18, 68, 69, 79
-- Instructions that write no register: the stores, the comparisons and jumps, returns, and the word behind another one.
local WRITES_NONE <const> = {}
for _, range in ipairs { { 10, 10 }, { 15, 18 }, { 46, 48 }, { 54, 66 }, { 70, 72 }, { 78, 78 }, { 81, 82 } } do
  for op = range[1], range[2] do WRITES_NONE[op] = true end
end

-- What the words of a kind are; nil: anything.
local function words_of(kind, seen)
  if kind == "env" then
    local names = tables.keys(seen.globals)
    return table.move(tables.keys(seen.libraries), 1, #tables.keys(seen.libraries), #names + 1, names)
  end
  local module = kind:match("^module (.+)$") or kind:match("^shared (.+)$")
  if module then return seen.modules(module) end
  local library = kind:match("^library (.+)$")
  if library then return tables.keys(seen.libraries[library]) end
  local shape = require("base.facade").shape(kind) -- made by the modules place and run, which the engine has loaded
  return shape and table.move(shape.methods, 1, #shape.methods, #shape.fields + 1, { table.unpack(shape.fields) })
end

-- Words whose result has words of its own.
local GIVES <const> = { ["run:image"] = "image" }

local MOST <const> = 100 -- faults of one file that are reported

local SAID <const> = {
  env = "there is nothing called '%s'", image = "an image has no '%s'", place = "a place has no '%s'",
  run = "a run has no '%s'",
}

local FEW <const> = 12 -- words that are listed all at once

local function known_of(self, kind)
  if self.words[kind] == nil then self.words[kind] = words_of(kind, self.seen) or false end
  return self.words[kind]
end

local function add(self, line, message, suggestion)
  self.faults[#self.faults + 1] =
    { order = #self.faults, file = self.file, line = line, message = message, suggestion = suggestion }
end

-- The way out: the word that was meant, the other half of a policy that has it, or all words when they are few.
local function way_out(self, kind, word, known, also)
  local meant = closest(word, table.move(known, 1, #known, #(also or {}) + 1, { table.unpack(also or {}) }))
  local other = kind == "place" and "run" or kind == "run" and "place"
  if other and tables.contains(known_of(self, other) or {}, word) then
    return ("only a %s has it: %s"):format(other, other == "run" and "run(run, change)" or "watch(place)")
  elseif meant then
    return ("did you mean %s?"):format(meant)
  elseif kind == "env" and (word == "place" or word == "run") then
    return word == "run" and "run(run, change) is given it" or "watch(place) is given it"
  elseif kind ~= "env" and #known <= FEW then
    table.sort(known)
    return "there are: " .. table.concat(known, ", ")
  end
end

local function judge(self, kind, word, line, also)
  local known = known_of(self, kind)
  if not known or tables.contains(known, word) or #self.faults >= MOST then return end
  local message = (SAID[kind] or kind:gsub("^%l+ ", "") .. " has no '%s'"):format(word)
  add(self, line, message, way_out(self, kind, word, known, also))
end

-- Objects are called with a colon, modules with a dot.
local function misjoined(self, owner, key, mark, line)
  local name = owner:gsub("^%l+ ", "")
  if #self.faults >= MOST then return end
  add(self, line, ("%s%s%s is called with a %s"):format(name, mark, key, mark == "." and "colon" or "dot"),
    ("write %s%s%s(...)"):format(name, mark == "." and ":" or ".", key))
end

local function is_method(kind, key)
  local shape = require("base.facade").shape(kind)
  return shape and tables.contains(shape.methods, key)
end

local function word_of(owner, key, colon)
  return { method = owner .. ":" .. key, owner = owner, key = key, colon = colon }
end

local function is_known(kind) return type(kind) == "string" and kind ~= "env" and kind ~= "require" end

-- The registers' kinds after one instruction, and what it says of words.
local function step(self, proto, upvalues, regs, pc, word, names)
  local op, a, b, c = word & 0x7f, word >> 7 & 0xff, word >> 16 & 0xff, word >> 24 & 0xff
  local key = proto.constants[c + 1] or nil
  local line = proto.lines[pc]
  if op == MOVE then
    regs[a] = not (type(regs[b]) == "table" and regs[b].method) and regs[b] or nil
  elseif op == GETUPVAL then
    regs[a] = upvalues[b]
  elseif op == LOADK then
    regs[a] = proto.constants[(word >> 15) + 1] and { text = proto.constants[(word >> 15) + 1] } or nil
  elseif op == GETTABUP then
    regs[a] = nil
    if upvalues[b] ~= "env" then -- a field of what the function sees from outside
      if is_known(upvalues[b]) and key then
        judge(self, upvalues[b], key, line)
        regs[a] = word_of(upvalues[b], key)
      end
    elseif key then
      judge(self, "env", key, line, names)
      regs[a] = key == "require" and "require" or self.seen.libraries[key] and "library " .. key or nil
    end
  elseif op == GETFIELD or op == SELF then
    local kind = regs[b]
    if kind == "a run" then kind = op == SELF and "run" or nil end -- a run's methods are known by their colon
    local named = key and (op == GETFIELD or word >> 15 & 1 == 1) -- else the name is in a register
    if named and is_known(kind) then judge(self, kind, key, line) end
    regs[a] = named and is_known(kind) and word_of(kind, key, op == SELF) or nil
    if op == SELF then
      regs[a + 1] = kind
      local ours = regs[a] and kind:find("^%l+ ") and not kind:find "^shared " -- a shared table may have methods
      if ours and tables.contains(known_of(self, kind) or {}, key) then
        misjoined(self, kind, key, ":", line)
      end
    end
  elseif op == CALL or op == TAILCALL then
    local called, first = regs[a], b ~= 1 and regs[a + 1] or nil
    if type(called) == "table" and called.method and not called.colon and first ~= called.owner
      and is_method(called.owner, called.key) then
      misjoined(self, called.owner, called.key, ".", line)
    end
    if type(called) == "table" and called.method then
      local from = called.colon and a + 1 or a
      local why = constants.wrong(called.method, table.move(regs, from + 1, from + (b > 0 and b - 1 or 2), 1, {}))
      if why and #self.faults < MOST then add(self, line, why) end
    end
    local module = called == "require" and type(first) == "table" and first.text
    for r in pairs(regs) do
      if r >= a then regs[r] = nil end
    end
    if module then
      local wrong, hint = self.seen.unknown(module)
      if wrong and #self.faults < MOST then add(self, line, wrong, hint) end
    end
    regs[a] = module and (self.seen.shared[module] and "shared " or "module ") .. module
      or type(called) == "table" and GIVES[called.method] or nil
  elseif op == CLOSURE then
    regs[a] = { proto = proto.protos[(word >> 15) + 1] }
  elseif op == SETFIELD then
    local field, value = proto.constants[b + 1], regs[c]
    local half = type(value) == "table" and value.proto
    local constant = word >> 15 & 1 == 1
    if half and self.seen.halves and (field == "watch" or field == "run") and not constant then
      half.given = field == "watch" and "place" or "run"
    end
    local into = type(regs[a]) == "table" and regs[a].items
    if into and field then into[field] = constant and key and { text = key } or not constant and value or nil end
  elseif op == SETLIST then
    for i = 1, type(regs[a]) == "table" and regs[a].items and b or 0 do regs[a].items[i] = regs[a + i] end
  elseif not WRITES_NONE[op] then
    for r in pairs(regs) do
      if r >= a then regs[r] = nil end
    end
    if op == NEWTABLE then regs[a] = { items = {} } end
  end
end

local function follow(self, proto, upvalues)
  local regs, names, closures = {}, {}, {}
  for i, variable in ipairs(proto.locals) do
    names[i] = variable.name
    if i <= proto.params and variable.name == "place" then regs[i - 1] = "place" end -- helpers of a watch
    if i <= proto.params and variable.name == "run" then regs[i - 1] = "a run" end   -- or what place:failed gave
  end
  if proto.given then regs[0] = proto.given end
  for pc, word in ipairs(proto.code) do
    step(self, proto, upvalues, regs, pc, word, names)
    if word & 0x7f == CLOSURE then
      local inner, seen = proto.protos[(word >> 15) + 1], {}
      for i, upvalue in ipairs(inner.upvalues) do
        if upvalue.stack then seen[i - 1] = regs[upvalue.index] else seen[i - 1] = upvalues[upvalue.index] end
      end
      closures[#closures + 1] = { proto = inner, upvalues = seen }
    end
  end
  for _, closure in ipairs(closures) do follow(self, closure.proto, closure.upvalues) end -- watch and run are known now
end

---Finds what a policy's file calls and nothing has.
---@param chunk function The compiled file.
---@param file string
---@param seen {globals: table<string, any>, libraries: table<string, table>, modules: fun(name: string): string[]?,
--- shared: table<string, any>, halves: boolean, unknown: fun(name: string): string?, string?} What the file sees: the
--- words of a module, which are shared ones, whether its functions watch and run are a policy's, and what is wrong with
--- a name of one.
---@return Fault[] faults By line.
function M.faults(chunk, file, seen)
  local proto = bytecode.read(chunk)
  if not proto then return {} end -- another Lua: found when it runs
  local self = { file = file, seen = seen, words = {}, faults = {} }
  follow(self, proto, { [0] = "env" })
  table.sort(self.faults, function(x, y)
    if x.line ~= y.line then return x.line < y.line end
    return x.order < y.order
  end)
  for _, fault in ipairs(self.faults) do fault.order = nil end
  return self.faults
end

return M
