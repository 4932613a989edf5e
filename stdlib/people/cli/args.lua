-- Words of a command line to flags and arguments, by a command's own description.

local s = require "base.schema"

local M = {}

---@class Flag
---@field name string without dashes
---@field value? string what it takes, in capitals; absent: a switch
---@field choices? string[]
---@field number? {min: integer, max: integer}
---@field many? boolean It may come several times: its values are a list.
---@field short? string one letter
---@field doc string
---@field hidden? boolean

---@class Argument
---@field name string In capitals.
---@field optional? boolean
---@field many? boolean The last one may come several times.
---@field doc string

---@class Command
---@field summary string
---@field rest? boolean everything after the arguments is passed on, flags too
---@field example? string
---@field more? string further text of its help
---@field usage_code? integer Exit code of a wrong usage, where it is not 2.
---@field run fun(ctx: CommandContext): integer
---@field args? Argument[]
---@field flags? Flag[]

---@class LoadedCommand: Command
---@field name string
---@field args Argument[]
---@field flags Flag[]

---Flags that every command takes.
---@type Flag[]
M.common = {
  { name = "config", value = "FILE", doc = "configuration (default: config/moontide.lua, .yaml, .json; moontide.lua)" },
  { name = "state", value = "DIR", doc = "folder of the journal, instead of the configuration's" },
  { name = "scripts", value = "DIR", doc = "folder of policies, instead of the configuration's" },
  { name = "output", short = "o", value = "FORM", choices = { "text", "json" }, doc = "text or json" },
  { name = "help", short = "h", doc = "show how the command is used" },
  { name = "stdlib", value = "DIR", hidden = true, doc = "modules that replace those inside the program" },
}

local function find(flags, word)
  for _, flag in ipairs(flags) do
    if word == "--" .. flag.name or (flag.short and word == "-" .. flag.short) then return flag end
  end
  return nil
end

local function convert(flag, value)
  if flag.choices then
    for _, choice in ipairs(flag.choices) do
      if choice == value then return value end
    end
    return nil, ("--%s must be one of %s"):format(flag.name, table.concat(flag.choices, ", ")),
      s.meant(value, flag.choices)
  end
  if flag.number then
    local number = #value <= 15 and value:find("^%-?%d+$") and math.tointeger(tonumber(value)) or nil
    if not number or number < flag.number.min or number > flag.number.max then
      return nil, ("--%s must be a whole number between %d and %d"):format(flag.name, flag.number.min,
        flag.number.max)
    end
    return number
  end
  if value == "" then return nil, ("--%s must not be empty"):format(flag.name) end
  return value
end

---Reads the words after the program's name up to the command's, or after it.
---@param words string[]
---@param first integer where to begin
---@param flags Flag[]
---@param values table flags go here
---@param stop fun(taken: string[]): boolean true when the next word is not ours any more
---@return string[]? taken
---@return string|integer next_or_message
---@return string? suggestion
---@return_overload nil, string, string?
---@return_overload string[], integer
function M.parse(words, first, flags, values, stop)
  local taken, i, plain = {}, first, false
  while i <= #words do
    local word = words[i] --[[@as string]]
    if not plain and word == "--" then
      plain = true
      if stop(taken) then return taken, i + 1 end
    elseif not plain and word:find("^%-.") then
      if stop(taken) then return taken, i end
      local name, inline = word:match("^(%-%-?[^=]+)=(.*)$")
      name = name or word
      local flag = find(flags, name)
      if not flag then
        local names = {}
        for _, known in ipairs(flags) do
          if not known.hidden then names[#names + 1] = "--" .. known.name end
        end
        return nil, ("unknown flag %s"):format(s.quote(name)), s.meant(name, names)
      end
      if not flag.value then
        if inline then return nil, ("--%s takes no value"):format(flag.name) end
        values[flag.name] = true
      else
        local value = inline
        if not value then
          i = i + 1
          value = words[i]
          if not value then return nil, ("--%s needs a value: --%s %s"):format(flag.name, flag.name, flag.value) end
        end
        local good, wrong, suggestion = convert(flag, value)
        if good == nil then return nil, wrong, suggestion end
        if flag.many then
          values[flag.name] = values[flag.name] or {}
          table.insert(values[flag.name], good)
        else
          values[flag.name] = good
        end
      end
    else
      if stop(taken) then return taken, i end
      taken[#taken + 1] = word
    end
    i = i + 1
  end
  return taken, i
end

---One line of how a command is used.
---@param command LoadedCommand
---@return string
function M.usage(command)
  local parts = { "moontide " .. command.name }
  for _, arg in ipairs(command.args) do
    parts[#parts + 1] = (arg.optional and "[" .. arg.name .. "]" or arg.name) .. (arg.many and "..." or "")
  end
  if command.rest then parts[#parts + 1] = "[ARGUMENTS]" end
  for _, flag in ipairs(command.flags) do
    if not flag.hidden then
      parts[#parts + 1] = flag.value and ("[--%s %s]"):format(flag.name, flag.value) or ("[--%s]"):format(flag.name)
    end
  end
  return table.concat(parts, " ")
end

return M
