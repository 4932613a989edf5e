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

---Prints what there is.
---@param out Output
function M.overview(out)
  out:line("moontide watches where code lives, builds what changed, puts it where it runs, checks that it works,")
  out:line("and takes it back when it does not.")
  out:line("")
  out:line(out:paint("bold", "usage: moontide COMMAND [ARGUMENTS] [FLAGS]"))
  out:line("")
  local rows = {}
  for i, name in ipairs(commands.names()) do rows[i] = { name, assert(commands.load(name)).summary } end
  pairs_of(out, rows)
  out:line("")
  out:line("flags of every command:")
  pairs_of(out, flag_rows(args.common))
  out:line("")
  out:line("moontide help COMMAND explains one; moontide help config is the reference of the configuration,")
  out:line("moontide help words that of policies.")
  out:line("exit codes: 0 done, 1 failed, 2 usage or configuration, 3 no running host can be reached")
end

---Prints how one command is used.
---@param out Output
---@param command LoadedCommand
function M.command(out, command)
  out:line(("moontide %s: %s"):format(command.name, command.summary))
  out:line("")
  out:line("usage:    " .. args.usage(command))
  if command.example then out:line("example:  " .. command.example) end
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

-- One word, or all of them, shortly.
local function print_words(ctx, rows)
  if ctx.json then
    ctx:print_json({ words = rows })
    return 0
  end
  for _, word in ipairs(rows) do
    ctx.out:line(ctx.out:paint("bold", word.usage))
    ctx.out:line("    " .. (#rows == 1 and word.doc or word.doc:match("^(.-%.) %u") or word.doc))
    for _, param in ipairs(#rows == 1 and word.params or {}) do
      ctx.out:line(("    %s%s  %s  %s"):format(param.name, param.optional and "?" or "",
        ctx.out:paint("dim", param.type), param.doc))
    end
    for _, value in ipairs(#rows == 1 and word.returns or {}) do
      ctx.out:line(("    gives %s  %s"):format(ctx.out:paint("dim", value.type), value.doc))
    end
  end
  return 0
end

-- `words`, or the name of one.
local function words_of(ctx, name)
  local manual, names = require "policy.manual", {}
  if name == "words" and ctx.flags.markdown then
    ctx.out:write(manual.markdown())
    return 0
  end
  local rows = manual.rows()
  if name == "words" then return print_words(ctx, rows) end
  for i, word in ipairs(rows) do
    if word.name == name then return print_words(ctx, { word }) end
    names[i] = word.name
  end
  local s = require "base.schema"
  ctx:complain(("policies have no word %s"):format(s.quote(name)), s.meant(name, names))
  return 2
end

M.summary = "explain a command, the configuration, or a word of policies"
M.args = { { name = "COMMAND", optional = true, doc = "a command, `config`, `words`, or a word: run:image, http.get" } }
M.flags = { { name = "markdown", doc = "with config or words: as Markdown tables" } }
M.example = "moontide help rollback"

---Runs `moontide help`.
---@param ctx CommandContext
---@return integer exit_code
function M.run(ctx)
  local s = require "base.schema"
  local name = ctx.args.COMMAND
  if not name or not commands.load(name) then ctx:load_config() end -- it may name extensions
  if name == "config" then return print_config(ctx) end
  if name and (name == "words" or name:find("[.:]")) then return words_of(ctx, name) end
  if not name then
    M.overview(ctx.out)
    return 0
  end
  local command = commands.load(name)
  if not command then
    ctx:complain(("unknown command %s"):format(s.quote(name)), s.meant(name, commands.names()))
    return 2
  end
  M.command(ctx.out, command)
  return 0
end

return M
