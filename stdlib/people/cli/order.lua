-- What rollback, release, hold and unhold share: give the order to the running host, show what became of it.

local show = require "people.cli.show"
local time = require "time"

local M = {}

--- Follows a run to its end on the terminal.
---@async
---@param ctx CommandContext
---@param host Client
---@param run RunInfo
---@return integer exit_code
function M.watch(ctx, host, run)
  local last = run
  local ok, err = host:follow(run.id, 0, function(piece)
    last = piece.run
    local now = time.now()
    for _, entry in ipairs(piece.entries) do
      if ctx.json then ctx:print_json(entry) else show.entry(ctx.out, entry, now) end
    end
    if not ctx.json and piece.run.progress then
      ctx.out:progress(run.id, piece.run.progress.text, piece.run.progress.done, piece.run.progress.total)
    end
  end)
  ctx.out:clear()
  if not ok then return ctx:fail(err) end
  if not ctx.json then
    ctx.out:line(("run %d %s"):format(last.id, ctx.out:paint(show.style(last.state), last.state)))
  end
  return last.state == "done" and 0 or 1
end

--- Gives an order that starts a run.
---@async
---@param ctx CommandContext
---@param verb "rollback"|"release"|"retry"|"apply"|"destroy"
---@param what string?
---@param versions table<string, string>?
---@return integer exit_code
function M.run(ctx, verb, what, versions)
  local host = ctx:host()
  local run, err = host[verb](host, {
    app = ctx.args.APP, environment = ctx.args.ENV, what = what, versions = versions, by = ctx.by(),
  })
  if not run then return ctx:fail(err) end
  if ctx.json then
    ctx:print_json(run)
  else
    ctx.out:line(("run %d: %s in %s/%s"):format(run.id,
      require("people.terminal").clean(run.title), run.app, run.environment))
  end
  if ctx.flags["no-wait"] then return 0 end
  return M.watch(ctx, host, run)
end

--- Gives an order about holding.
---@async
---@param ctx CommandContext
---@param verb "hold"|"unhold"
---@return integer exit_code
function M.hold(ctx, verb)
  local host = ctx:host()
  local done, err = host[verb](host, {
    app = ctx.args.APP, environment = ctx.args.ENV, reason = ctx.flags.reason, by = ctx.by(),
  })
  if not done then return ctx:fail(err) end
  if ctx.json then
    ctx:print_json(done)
    return 0
  end
  for _, env in ipairs(done.environments) do
    ctx.out:line(("%s/%s is %s"):format(ctx.args.APP, env.name, verb == "hold" and "held" or "free again"))
  end
  return 0
end

--- Orders a run to end.
---@async
---@param ctx CommandContext
---@return integer exit_code
function M.cancel(ctx)
  local id = #ctx.args.RUN <= 15 and ctx.args.RUN:find("^%d+$") and math.tointeger(tonumber(ctx.args.RUN))
  if not id then
    ctx:complain(("%s is no number of a run"):format(require("base.schema").quote(ctx.args.RUN)))
    return 2
  end
  local run, err = ctx:host():cancel { run = id, reason = ctx.flags.reason, by = ctx.by() }
  if not run then return ctx:fail(err) end
  if ctx.json then
    ctx:print_json(run)
  else
    local open = run.state ~= "cancelled" and ", and ends when its present step lets go" or ""
    ctx.out:line(("run %d is %s%s"):format(run.id, run.state, open))
  end
  return 0
end

--- Gives an order about what waits for approval.
---@async
---@param ctx CommandContext
---@param verb "approve"|"reject"
---@return integer exit_code
function M.approval(ctx, verb)
  local host = ctx:host()
  local approval, err = host[verb](host, {
    app = ctx.args.APP, environment = ctx.args.ENV, what = ctx.flags.id, reason = ctx.flags.reason,
    by = ctx.flags.by or ctx.by(),
  })
  if not approval then return ctx:fail(err) end
  if ctx.json then
    ctx:print_json(approval)
    return 0
  end
  local name = require("people.terminal").clean(approval.name)
  if approval.state == "pending" then
    ctx.out:line(("%s has %d of %d votes"):format(name, #approval.voters, approval.votes))
  else
    ctx.out:line(("%s is %s"):format(name, approval.state))
  end
  return 0
end

return M
