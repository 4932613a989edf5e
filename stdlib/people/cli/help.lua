-- moontide help: what there is, how a command is used, the pages of the manual, the words of policies and tests.
local args, commands = require "people.cli.args", require "people.cli.commands"
local manual, term = require "people.manual", require "people.terminal"

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
  out:line("moontide help COMMAND explains one, moontide help TOPIC shows a page of the manual, and")
  out:line("moontide help place:head what a policy may call. Topics:")
  out:line("")
  local topics = {}
  for i, topic in ipairs(manual.topics()) do topics[i] = { topic.name, topic.title } end
  pairs_of(out, topics)
  out:line("")
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

-- Prints a long text: collects it first, so that it can be paged.
local function paged(ctx, print_all)
  local out, parts = ctx.out, {}
  if not out.tty or ctx.json or ctx.flags["no-pager"] then return print_all(out) end
  print_all(term.open(1, {
    tty = true, color = out.color, width = out.width, write = function(text) parts[#parts + 1] = text end,
  }))
  require("people.pager").print(out, table.concat(parts))
end

local WIDEST <const> = 100 -- columns; longer lines are hard to read

local function print_page(out, topic)
  local paint = function(style, text) return out:paint(style, text) end
  local options = { width = math.min(out.width, WIDEST), paint = paint }
  for _, line in ipairs(require("people.markdown").render(topic.text, options)) do out:line(line) end
end

local function print_config(out)
  for _, row in ipairs(require("config.manual").rows()) do
    local tail = row.required and "required" or row.default and "default " .. row.default or nil
    out:line(("%s  %s%s"):format(out:paint("bold", row.path), out:paint("dim", row.type), tail and ", " .. tail or ""))
    out:line("    " .. term.clean(row.doc))
    if row.example then out:line("    " .. out:paint("dim", "for example " .. row.example)) end
  end
end

-- What a word does, below its name.
local function prose(out, text)
  local function plain(_, words) return words end
  local options = { width = math.min(out.width, WIDEST) - 4, paint = plain }
  for _, line in ipairs(require("people.markdown").render(text, options)) do out:line("    " .. line) end
end

local function print_word(out, word)
  out:line(out:paint("bold", term.clean(word.usage)))
  prose(out, word.doc)
  for line in (word.example or ""):gmatch("[^\n]+") do
    out:line("        " .. out:paint("green", term.clean(line)))
  end
  local function typed(indent, name, value)
    out:line(("%s%s%s  %s  %s"):format(indent, name, value.optional and "?" or "",
      out:paint("dim", term.clean(value.type)), term.clean(value.doc)))
  end
  for _, param in ipairs(word.params) do typed("    ", param.name, param) end
  for _, value in ipairs(word.returns) do typed("    ", "gives", value) end
  for _, described in ipairs(word.types or {}) do
    out:line("    " .. out:paint("bold", described.name))
    for _, field in ipairs(described.fields) do typed("      ", field.name, field) end
  end
end

local function print_words(out, rows)
  for _, word in ipairs(rows) do
    out:line(out:paint("bold", term.clean(word.usage)))
    prose(out, word.doc:match("^(.-%.) [%u`]") or word.doc)
  end
end

-- The word of that name; else those that begin so (`place:`), all of an object or module (`place`) that is nothing
-- else, or all words.
local function words_of(name, other)
  local reference, rows, begins = require "policy.manual", {}, name:find("[.:]") ~= nil
  local whole = reference.word(name)
  if whole then return { whole } end
  for _, word in ipairs(reference.rows()) do
    local of = begins and word.name:sub(1, #name) == name or not other and word.name:match("^(.-)[.:]") == name
    if of or name == "words" then rows[#rows + 1] = word end
  end
  return rows
end

local function names()
  local list = commands.names()
  for _, topic in ipairs(manual.topics()) do list[#list + 1] = topic.name end
  for _, word in ipairs(require("policy.manual").rows()) do list[#list + 1] = word.name end
  return list
end

-- What people may have meant: the same word of another object, else what is written alike.
local function meant(name)
  local s, all = require "base.schema", names()
  local word = name:match("[.:]([%w_]+)$")
  for _, other in ipairs(word and all or {}) do
    if other:match("[.:]([%w_]+)$") == word then return s.meant(other, { other }) end
  end
  return s.meant(name, all)
end

local function print_markdown(out, topic, words)
  if topic and topic.name == "config" then return out:write(require("config.manual").markdown()) end
  if topic and topic.text then out:write(topic.text) end
  if #words > 0 then out:write(require("policy.manual").markdown(words)) end
end

local function topics_of()
  local list = {}
  for i, topic in ipairs(manual.topics()) do list[i] = { name = topic.name, title = topic.title } end
  return list
end

local function print_json(ctx, topic, words)
  local answer = { words = #words > 0 and words or nil } ---@type table
  if topic and topic.name == "config" then answer.keys = require("config.manual").rows() end
  if topic and topic.text then answer.topic = { name = topic.name, title = topic.title, text = topic.text } end
  ctx:print_json(answer)
end

M.summary = "explain a command, a topic of the manual, or a word of policies"
M.args = { { name = "TOPIC", optional = true, doc = "a command, a topic, or a word: rollback, policies, run:image" } }
M.flags = {
  { name = "markdown", doc = "print a topic or words as Markdown" },
  { name = "no-pager", doc = "print at once, however long it is" },
}
M.example = "moontide help policies"

---Runs `moontide help`.
---@param ctx CommandContext
---@return integer exit_code
function M.run(ctx)
  local name = ctx.args.TOPIC
  if not name or not commands.load(name) then ctx:load_config() end -- it may name extensions
  if not name then
    if ctx.json then
      ctx:print_json { commands = commands.names(), topics = topics_of() }
    else
      paged(ctx, M.overview)
    end
    return 0
  end
  local command, topic = commands.load(name), manual.topic(name)
  local words = words_of(name, command or topic)
  if not command and not topic and #words == 0 then
    local s = require "base.schema"
    ctx:complain(("there is no command, topic or word %s"):format(s.quote(name)), meant(name))
    return 2
  end
  if ctx.json then
    print_json(ctx, topic, words)
  elseif ctx.flags.markdown then
    print_markdown(ctx.out, topic, words)
  else
    paged(ctx, function(out)
      if command then M.command(out, command) end
      if command and (topic or #words > 0) then out:line("") end
      if topic and topic.text then print_page(out, topic) end
      if topic and topic.name == "config" then print_config(out) end
      if topic and #words > 0 and topic.name ~= "words" then out:line("") end
      if #words == 1 and words[1].types then print_word(out, words[1]) else print_words(out, words) end
    end)
  end
  return 0
end

return M
