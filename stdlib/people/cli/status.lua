-- moontide status: what runs where, and what is under way.
local show = require "people.cli.show"
local term = require "people.terminal"
local time = require "time"

local function add_rows(rows, app, now)
  for _, env in ipairs(app.environments) do
    rows[#rows + 1] = {
      ("%s/%s"):format(app.name, env.name), show.state(env.state), show.release(env.current),
      env.current and term.ago(env.current.at, now) or "", env.host or "", show.remark(env, now),
    }
  end
  if #app.environments == 0 then rows[#rows + 1] = { app.name, show.state("new") } end
end

local function print_host(out, status, reader, now)
  local host = status.host
  if not host then
    out:line(out:paint("yellow", "no host runs") .. (" on %s; this is what its state remembers"):format(reader.state))
    return
  end
  local words = ("moontide %s on %s, pid %d, up %s"):format(host.version, host.hostname, host.pid,
    term.duration(now - host.started_at))
  out:line(out:paint("bold", words))
  if host.standby then
    out:line(out:paint("cyan", "standby: ") .. term.clean(host.leader.holder and host.leader.holder .. " acts"
      or "nobody acts now") .. ("; the Lease is %s"):format(term.clean(host.leader.lease)))
  elseif host.leader then
    out:line(("leads as %s since %s, generation %d"):format(term.clean(host.leader.identity),
      host.leader.since and term.ago(host.leader.since, now) or "now", host.leader.generation or 0))
  end
  if host.leader and host.leader.error then
    out:line(out:paint("red", "the Lease: ") .. term.clean(host.leader.error.message))
  end
  if not host.ready then
    out:line(out:paint("yellow", "not ready: ") .. term.clean(host.reason or "starting"))
  end
  if host.reload_error then
    out:line(out:paint("red", "what is saved is not live; what was loaded before goes on:"))
    for _, fault in ipairs(host.reload_faults or {}) do
      out:line("  " .. term.clean(require("config.load").describe(fault)))
    end
  end
end

---@type Command
return {
  summary = "show what runs where, and what is under way",
  args = { { name = "APP", optional = true, doc = "only this app" } },
  example = "moontide status web",
  run = function(ctx)
    local reader = ctx:reader()
    local status, err = reader:status()
    if not status then return ctx:fail(assert(err)) end
    local apps = {}
    for _, app in ipairs(status.apps) do
      if not ctx.args.APP or app.name == ctx.args.APP then apps[#apps + 1] = app end
    end
    if ctx.args.APP and #apps == 0 and not (status.host and status.host.standby) then
      return ctx:fail(select(2, require("base.unknown").app(status.apps, ctx.args.APP, "status")))
    end
    status.apps = apps
    if ctx.json then
      ctx:print_json(status)
      return 0
    end
    local now = time.now()
    print_host(ctx.out, status, reader, now)
    if status.freeze then
      ctx.out:line(ctx.out:paint("yellow", term.clean(require("journal.words").hold(status.freeze)))
        .. (" (since %s): changes wait everywhere; 'moontide thaw' ends that"):format(term.ago(status.freeze.at, now)))
    end
    if status.host and status.host.standby then return 0 end
    local rows = {}
    for _, app in ipairs(apps) do add_rows(rows, app, now) end
    if #rows == 0 then
      ctx.out:line("no apps")
    else
      ctx.out:table({ "WHERE", "STATE", "RELEASE", "SINCE", "HOST", "" }, rows)
    end
    for _, app in ipairs(apps) do
      for _, env in ipairs(app.environments) do
        show.parts(ctx.out, ("%s/%s"):format(app.name, env.name), env, now)
        show.problems(ctx.out, ("%s/%s"):format(app.name, env.name), env, now)
      end
      if app.poll_error then
        ctx.out:line(ctx.out:paint("red", app.name .. ": ") .. ("the last look at %s failed: %s"):format(
          term.clean(app.source), term.clean(app.poll_error.message)))
      end
    end
    return 0
  end,
}
