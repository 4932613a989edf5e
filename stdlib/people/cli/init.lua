-- The command line: finds the command, reads its words, runs it, turns what came out into an exit code.
--
-- Exit codes are the same everywhere: 0 done; 1 what was asked for failed; 2 usage or configuration; 3 no
-- running host can be reached. Only `plan` has codes of its own, as its help says.

local args = require "people.cli.args"
local commands = require "people.cli.commands"
local context = require "people.cli.context"
local s = require "base.schema"

local M = {}

M.OK, M.FAILED, M.USAGE, M.DOWN = 0, 1, 2, 3

local function all_flags(command)
  local flags = {}
  for _, flag in ipairs(command and command.flags or {}) do flags[#flags + 1] = flag end
  for _, flag in ipairs(args.common) do flags[#flags + 1] = flag end
  return flags
end

-- A first word like -v or --version is what people try.
local ALIASES = { ["--version"] = "version", ["-v"] = "version", ["-V"] = "version" }

-- The configuration that a command line names, whatever else is in it.
local function named_config(words)
  for i, word in ipairs(words) do
    local file = word == "--config" and words[i + 1] or word:match("^%-%-config=(.+)$")
    if file then return file end
  end
end

---Runs a command line.
---@async
---@param words string[] without the program's name
---@return integer exit_code
function M.main(words)
  local values = {}
  local function usage(message, suggestion, command)
    local ctx = context.new(values, {})
    ctx:complain(message, suggestion)
    ctx.err:line(command and ("usage: " .. args.usage(command)) or "usage: moontide COMMAND; moontide help lists them")
    return command and command.usage_code or M.USAGE
  end

  local alias = ALIASES[words[1]]
  if alias then words = table.move(words, 2, #words, 2, { alias }) end
  local front, next_word, suggestion = args.parse(words, 1, all_flags(nil), values, function(taken)
    return #taken == 1
  end)
  if not front then return usage(next_word, suggestion) end
  local name = front[1] or (values.help and "help") or nil
  if not name then
    require("people.cli.help").overview(context.new(values, {}).err)
    return M.USAGE
  end
  local command = commands.load(name)
  if not command then -- the configuration may name extensions
    context.new({ config = values.config or named_config(words) }, {}):load_config()
    command = commands.load(name)
  end
  if not command then
    return usage(("unknown command %s"):format(s.quote(name)), s.meant(name, commands.names()))
  end

  local taken, rest
  if front[1] then
    taken, rest, suggestion = args.parse(words, next_word, all_flags(command), values, function(list)
      return command.rest == true and #list == #command.args
    end)
    if not taken then return usage(rest, suggestion, command) end
  else
    taken, rest = {}, next_word
  end
  local ctx = context.new(values, taken)
  if values.help and name ~= "help" then
    require("people.cli.help").command(ctx.out, command)
    return M.OK
  end
  for i, arg in ipairs(command.args) do
    if not taken[i] and not arg.optional then return usage(("%s is missing"):format(arg.name), arg.doc, command) end
    ctx.args[arg.name] = taken[i]
  end
  if command.rest then
    ctx.rest = table.move(words, rest, #words, 1, {})
  elseif #taken > #command.args and not (#command.args > 0 and command.args[#command.args].many) then
    return usage(("%s is one word too many"):format(s.quote(assert(taken[#command.args + 1]))), nil, command)
  end
  return command.run(ctx)
end

return M
