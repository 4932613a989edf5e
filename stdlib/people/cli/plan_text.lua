-- A plan as people read it: each place with its decisions, and under a change the steps of its run.
local hold_words, term = require "journal.words", require "people.terminal"

local M = {}

local MOST_REFUSED <const> = 5 -- candidates of a policy that are shown one by one

local MARKS <const> = {
  create = { "+", "green" }, change = { "~", "yellow" }, remove = { "-", "red" }, none = { "=", "dim" },
  ["do"] = { ".", nil }, fail = { "!", "red" }, unknown = { "?", "cyan" },
}

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
  local head = ("%s: %s"):format(run.policy, run.title)
  if run.reason then head = ("%s (%s)"):format(head, run.reason) end
  if run.id then head = ("%s, run %d"):format(head, run.id) end
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
  for _, run in ipairs(told.runs) do print_run(out, run, told.hold, now) end
  print_decisions(out, told.decisions)
end

local function counted(n, one, many) return ("%d %s"):format(n, n == 1 and one or many) end

local function print_summary(out, summary)
  local text = ("%s, %s unchanged, %d refused"):format(counted(summary.changes, "change", "changes"),
    counted(summary.unchanged, "place", "places"), summary.refused)
  if summary.errors > 0 then text = ("%s, %s"):format(text, counted(summary.errors, "error", "errors")) end
  out:line("")
  out:line(out:paint(summary.errors > 0 and "red" or "bold", text))
end

---Prints a plan.
---@param out Output
---@param plan Plan
---@param now Wall
function M.print(out, plan, now)
  for _, told in ipairs(plan.places) do print_place(out, told, now) end
  for _, trouble in ipairs(plan.troubles) do out:line(out:paint("red", "! " .. term.clean(trouble.text))) end
  print_summary(out, plan.summary)
end

return M
