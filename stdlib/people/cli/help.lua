-- moontide help: what there is, how a command is used, the reference of the configuration.
local args, commands = require "people.cli.args", require "people.cli.commands"

local M = {}

local function pairs_of(out, list)
  local rows = {}
  for i, item in ipairs(list) do rows[i] = item end
  local width = 0
  for _, row in ipairs(rows) do width = math.max(width, #row[1]) end
  for _, row in ipairs(rows) do
    out:line(("  %s%s  %s"):format(row[1], (" "):rep(width - #row[1]), row[2]))
  end
end

local function flag_rows(flags)
  local rows = {}
  for _, flag in ipairs(flags) do
    if not flag.hidden then
      local words = (flag.short and "-" .. flag.short .. ", " or "") .. "--" .. flag.name
      rows[#rows + 1] = { flag.value and words .. " " .. flag.value or words, flag.doc }
    end
  end
  return rows
end

--- Prints what there is.
---@param out Output
function M.overview(out)
  out:line("moontide watches where code lives, builds what changed, puts it where it runs, checks that it works,")
  out:line("and takes it back when it does not.")
  out:line("")
  out:line(out:paint("bold", "usage: moontide COMMAND [ARGUMENTS] [FLAGS]"))
  out:line("")
  local rows = {}
  for i, name in ipairs(commands.names) do rows[i] = { name, assert(commands.load(name)).summary } end
  pairs_of(out, rows)
  out:line("")
  out:line("flags of every command:")
  pairs_of(out, flag_rows(args.common))
  out:line("")
  out:line("moontide help COMMAND explains one; moontide help config is the reference of the configuration.")
  out:line("exit codes: 0 done, 1 failed, 2 usage or configuration, 3 no running host can be reached")
end

--- Prints how one command is used.
---@param out Output
---@param command LoadedCommand
function M.command(out, command)
  out:line(("moontide %s: %s"):format(command.name, command.summary))
  out:line("")
  out:line("usage:    " .. args.usage(command))
  out:line("example:  " .. command.example)
  if #command.args > 0 or #command.flags > 0 then
    out:line("")
    local rows = {}
    for _, arg in ipairs(command.args) do rows[#rows + 1] = { arg.name, arg.doc } end
    for _, row in ipairs(flag_rows(command.flags)) do rows[#rows + 1] = row end
    pairs_of(out, rows)
  end
  if command.more then
    out:line("")
    out:line(command.more)
  end
  out:line("")
  out:line("flags of every command:")
  pairs_of(out, flag_rows(args.common))
end

local function print_config(ctx)
  local manual = require "config.manual"
  if ctx.json then
    ctx:print_json({ keys = manual.rows() })
  elseif ctx.flags.markdown then
    ctx.out:write(manual.markdown())
  else
    for _, row in ipairs(manual.rows()) do
      local tail = row.required and "required" or row.default and "default " .. row.default or nil
      ctx.out:line(("%s  %s%s"):format(ctx.out:paint("bold", row.path), ctx.out:paint("dim", row.type),
        tail and ", " .. tail or ""))
      ctx.out:line("    " .. row.doc)
      if row.example then ctx.out:line("    " .. ctx.out:paint("dim", "for example " .. row.example)) end
    end
  end
  return 0
end

M.summary = "explain a command, or the configuration"
M.args = { { name = "COMMAND", optional = true, doc = "a command, or `config`" } }
M.flags = { { name = "markdown", doc = "with config: as a Markdown table" } }
M.example = "moontide help rollback"

--- Runs `moontide help`.
---@param ctx CommandContext
---@return integer exit_code
function M.run(ctx)
  local s = require "base.schema"
  local name = ctx.args.COMMAND
  if name == "config" then return print_config(ctx) end
  if not name then
    M.overview(ctx.out)
    return 0
  end
  local command = commands.load(name)
  if not command then
    ctx:complain(("unknown command %s"):format(s.quote(name)), s.meant(name, commands.names))
    return 2
  end
  M.command(ctx.out, command)
  return 0
end

return M
