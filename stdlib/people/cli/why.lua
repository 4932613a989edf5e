-- moontide why: what the policies decided, and where they decided it.
local show = require "people.cli.show"
local term = require "people.terminal"
local time = require "time"

local function print_why(out, why, now)
  for _, env in ipairs(why.environments) do
    out:line(("%s  %s  %s  %s"):format(out:paint("bold", ("%s/%s"):format(why.app, env.name)),
      out:paint(show.style(env.state), env.state), term.clean(show.release(env.current)),
      out:paint("dim", ("policy %s"):format(term.clean(env.policy)))))
    local remark = show.remark(env, now)
    if remark ~= "" then out:line("  " .. term.clean(remark)) end
    show.parts(out, "  " .. env.name, env, now)
    show.problems(out, "  " .. env.name, env, now)
    local run = env.run or env.last
    for _, words in ipairs(run and run.metrics or {}) do
      out:line(("  %s run %d: %s"):format(env.name, run.id, term.clean(words)))
    end
  end
  for _, fault in ipairs(why.reload_faults or {}) do
    out:line(out:paint("red", "what is saved is not live: ") .. term.clean(require("config.load").describe(fault)))
  end
  if #why.decisions == 0 then
    out:line("no decision has been made yet")
    return
  end
  local rows = {}
  for i, decision in ipairs(why.decisions) do
    local where = decision.file and ("%s:%s"):format(decision.file, decision.line or "?") or ""
    local when = term.ago(decision.at, now)
    if (decision.count or 1) > 1 then when = ("%s, %d times"):format(when, decision.count) end
    rows[i] = {
      decision.environment, decision.policy, show.state(decision.verdict), decision.subject or "", when,
      where ~= "" and ("%s  [%s]"):format(decision.reason, where) or decision.reason,
    }
  end
  out:line("")
  for _, decision in ipairs(why.decisions) do
    for line in (decision.traceback or ""):gmatch("[^\n]+") do out:line(out:paint("dim", "  " .. term.clean(line))) end
  end
  out:table({ "ENV", "POLICY", "VERDICT", "CANDIDATE", "WHEN", "WHY" }, rows)
end

---@type Command
return {
  summary = "explain what the policies decided, and why",
  args = {
    { name = "APP", doc = "the app" },
    { name = "POLICY", optional = true, doc = "only this policy or environment" },
  },
  example = "moontide why web production",
  run = function(ctx)
    local why, err = ctx:reader():why(ctx.args.APP, ctx.args.POLICY)
    if not why then return ctx:fail(assert(err)) end
    if ctx.json then ctx:print_json(why) else print_why(ctx.out, why, time.now()) end
    return 0
  end,
}
