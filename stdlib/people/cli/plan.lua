-- moontide plan: what the next poll would do, with nothing written anywhere.
local errors, fs, hold_words = require "errors", require "fs", require "journal.words"
local term = require "people.terminal"
local time = require "time"

local NOTHING <const>, FAILED <const>, CHANGES <const> = 0, 1, 2
local MOST_REFUSED <const> = 5 -- candidates of a policy that are shown one by one

local MARKS <const> = {
  create = { "+", "green" }, change = { "~", "yellow" }, remove = { "-", "red" }, none = { "=", "dim" },
  ["do"] = { ".", nil }, fail = { "!", "red" }, unknown = { "?", "cyan" },
}

-- ---- what is asked for ----

-- The policies of the --policy flags, by name: NAME=FILE, or a FILE that has the policy's name.
---@return table<string, {file: string, text: string}>? policies
---@return Err? err
local function edited(flags)
  local found = {}
  for _, given in ipairs(flags or {}) do
    local name, file = given:match("^([%w_-]+)=(.+)$")
    if not name then name, file = given:match("([^/]+)%.lua$") or given:match("[^/]+$"), given end
    local text, err = fs.read(file)
    if not text then
      return errors.fail(err.code, ("--policy %s: %s"):format(given, err.message), { op = "plan", target = file })
    end
    local wrong
    text, wrong = require("base.text").of_file(text)
    if not text then return errors.fail("invalid", wrong, { op = "plan", target = file }) end
    found[name] = { file = file, text = text }
  end
  return found
end

-- ---- what is printed ----

local function where_of(decision)
  return decision.file and ("  (%s:%s)"):format(decision.file, decision.line or "?") or ""
end

local function print_step(out, planned)
  local mark, style = MARKS[planned.action][1], MARKS[planned.action][2]
  local text = ("    %s %s"):format(mark, term.clean(planned.text))
  out:line(out:paint(planned.recorded and "dim" or style, text))
end

local STATES <const> = { queued = "waits for its turn", running = "is under way", held = "is held" }

local function print_traceback(out, err)
  for line in (err or ""):gmatch("[^\n]+") do out:line(out:paint("dim", "      " .. term.clean(line))) end
end

local function print_run(out, run, hold, now)
  local head = run.title
  if run.reason then head = ("%s (%s)"):format(head, run.reason) end
  if run.id then head = ("run %d: %s"):format(run.id, head) end
  if run.by then head = ("%s, by %s"):format(head, run.by) end
  local state = STATES[run.state]
  if run.state == "held" and hold then state = "is " .. hold_words.hold(hold) end
  if run.not_before and run.not_before > now then state = "is tried again " .. term.ago(run.not_before, now) end
  if state then head = ("%s -- it %s"):format(head, state) end
  out:line("  " .. out:paint("bold", term.clean(head)))
  for _, id in ipairs(run.superseded or {}) do
    out:line(out:paint("yellow", ("    - run %d, which waits, is superseded"):format(id)))
  end
  for _, planned in ipairs(run.steps) do print_step(out, planned) end
  if run.ends then out:line(out:paint("cyan", "    ? " .. term.clean(run.ends))) end
  if run.error then
    out:line(out:paint("red", ("    ! it would fail: %s"):format(term.clean(run.error.message))))
    print_traceback(out, run.error.traceback)
  end
end

local function print_decision(out, d, style)
  local subject = d.subject ~= "" and d.subject .. " " or ""
  out:line("  " .. out:paint(style, term.clean(("%s: %s%s%s"):format(d.policy, subject,
    d.verdict == "refused" and subject ~= "" and "refused: " .. d.reason or d.reason, where_of(d)))))
  print_traceback(out, d.traceback)
end

local STYLES <const> = { refused = "yellow", error = "red", held = "yellow" }

-- What was decided; a change is shown with its run.
local function print_decisions(out, decisions)
  local refused, hidden = {}, {}
  for _, d in ipairs(decisions) do
    if d.subject ~= "" and d.verdict == "refused" then
      refused[d.policy] = (refused[d.policy] or 0) + 1
      if refused[d.policy] > MOST_REFUSED and not d.alarm then
        hidden[d.policy] = (hidden[d.policy] or 0) + 1
      else
        print_decision(out, d, STYLES.refused)
      end
    elseif d.verdict ~= "accepted" and not (d.verdict == "held" and d.subject == "") then
      if hidden[d.policy] then
        out:line(("  %s: %d more were refused; --output json has them"):format(d.policy, hidden[d.policy]))
      end
      print_decision(out, d, STYLES[d.verdict])
    elseif hidden[d.policy] then
      out:line(("  %s: %d more were refused; --output json has them"):format(d.policy, hidden[d.policy]))
    end
  end
end

local OUTCOMES <const> = {
  change = { "~", "yellow" }, refused = { " ", nil }, unchanged = { " ", nil }, error = { "!", "red" },
}

local function print_place(out, told, now)
  local mark, style = OUTCOMES[told.outcome][1], OUTCOMES[told.outcome][2]
  out:line(out:paint(style, mark) .. " " .. out:paint("bold", ("%s/%s"):format(told.app, told.environment)))
  if told.trouble then out:line("  " .. out:paint("red", term.clean(tostring(told.trouble)))) end
  if told.hold and #told.runs == 0 then
    out:line("  " .. out:paint("yellow", term.clean(hold_words.hold(told.hold))))
  end
  print_decisions(out, told.decisions)
  for _, run in ipairs(told.runs) do print_run(out, run, told.hold, now) end
end

local function counted(n, one, many) return ("%d %s"):format(n, n == 1 and one or many) end

local function print_summary(out, summary)
  local text = ("%s, %s unchanged, %d refused"):format(counted(summary.changes, "change", "changes"),
    counted(summary.unchanged, "place", "places"), summary.refused)
  if summary.errors > 0 then text = ("%s, %s"):format(text, counted(summary.errors, "error", "errors")) end
  out:line("")
  out:line(out:paint(summary.errors > 0 and "red" or "bold", text))
end

local function progress_of(ctx)
  local ends = term.open(2, { color = ctx.err.color })
  return function(done, apps)
    ends:progress("plan", done < apps and "planning" or nil, done, apps)
  end
end

local function code_of(summary)
  return summary.errors > 0 and FAILED or summary.changes > 0 and CHANGES or NOTHING
end

---@type Command
return {
  summary = "show what the next poll would do, change nothing",
  args = {
    { name = "APP", optional = true, doc = "only this app" },
    { name = "ENV", optional = true, doc = "only this environment of it" },
  },
  flags = {
    { name = "policy", value = "FILE", many = true,
      doc = "an edited file in place of the policy of its name, or NAME=FILE; it may come several times" },
  },
  example = "moontide plan web production --policy scripts/production.lua",
  more = "Sources, registries and targets are read, and nothing is written: not there, and not in the state folder,"
    .. " whether a host works on it or not. Exit codes of this command alone: 0 nothing to do, 2 changes, 1 an error,"
    .. " a wrong usage included.",
  usage_code = FAILED,
  run = function(ctx)
    require("extensions").show(require("engine.plan_world").module)
    local config = ctx:config()
    if not config then return FAILED end
    local policies, err = edited(ctx.flags.policy)
    local plan
    if policies then
      plan, err = require("engine.plan").make {
        config = config, app = ctx.args.APP, environment = ctx.args.ENV, policies = policies,
        on_progress = not ctx.json and progress_of(ctx) or nil,
      }
    end
    if not plan then
      ctx:fail(assert(err))
      return FAILED
    end
    if ctx.json then
      ctx:print_json(plan)
    else
      local now = time.now()
      for _, told in ipairs(plan.places) do print_place(ctx.out, told, now) end
      print_summary(ctx.out, plan.summary)
    end
    return code_of(plan.summary)
  end,
}
