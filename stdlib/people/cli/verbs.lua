-- Operators' orders to the running host, one verb each: its arguments, and what it prints of the outcome.
local show = require "people.cli.show"
local time = require "time"

---Follows a run to its end on the terminal.
---@async
---@param ctx CommandContext
---@param host Client
---@param run RunInfo
---@return integer exit_code
local function watch(ctx, host, run)
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

---Gives an order that starts a run.
---@async
---@param ctx CommandContext
---@param verb "rollback"|"release"|"retry"|"apply"|"destroy"
---@param what? string
---@param versions? table<string, string>
---@return integer exit_code
local function order(ctx, verb, what, versions)
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
  return watch(ctx, host, run)
end

---Gives an order about holding.
---@async
---@param ctx CommandContext
---@param verb "hold"|"unhold"
---@return integer exit_code
local function hold(ctx, verb)
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

---Gives an order about everything.
---@async
---@param ctx CommandContext
---@param verb "freeze"|"thaw"
---@return integer exit_code
local function freeze(ctx, verb)
  local given = ctx.flags["for"]
  local seconds = given and require("base.schema").seconds(given)
  if given and (not seconds or seconds <= 0) then
    ctx:complain(("%s is not a duration"):format(require("base.schema").quote(given)), "for example 90m, 12h or 2d")
    return 2
  end
  local host = ctx:host()
  local done, err = host[verb](host, { reason = ctx.args.REASON, seconds = seconds, by = ctx.by() })
  if not done then ---@cast err Err
    return ctx:fail(err)
  end
  if ctx.json then
    ctx:print_json(done)
  elseif verb == "freeze" then
    ctx.out:line(require("journal.words").hold(done))
  else
    ctx.out:line(("thawed; it was %s"):format(require("journal.words").hold(done)))
  end
  return 0
end

---Orders a run to end.
---@async
---@param ctx CommandContext
---@return integer exit_code
local function cancel(ctx)
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

---Gives an order about what waits for approval.
---@async
---@param ctx CommandContext
---@param verb "approve"|"reject"
---@return integer exit_code
local function vote(ctx, verb)
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

-- NAME=VERSION words; nil and the one that is none.
local function versions_of(words)
  local versions
  for _, word in ipairs(words) do
    local name, version = word:match("^([^=]+)=(.+)$")
    if not name then return nil, word end
    versions = versions or {}
    versions[name] = version
  end
  return versions
end

local APP <const> = { name = "APP", doc = "the app" }
local ENV <const> = { name = "ENV", doc = "the environment" }
local function env(default)
  return { name = "ENV", optional = true, doc = ("the environment (default: %s)"):format(default) }
end
local NO_WAIT <const> = { name = "no-wait", doc = "return when the order is accepted" }

---@type table<string, Command>
return {
  rollback = {
    summary = "put the release before the present one back, and hold it",
    args = { APP, env "the only one, or production" },
    flags = { NO_WAIT },
    example = "moontide rollback web production",
    more = "No build is needed: the image is known by its digest. The environment is then held until the "
      .. "source moves on.",
    run = function(ctx) return order(ctx, "rollback") end,
  },
  release = {
    summary = "release a version or a commit, whatever the policy would say",
    args = { APP, ENV, { name = "VERSION|COMMIT",
      doc = "a version (a tag, v1.4.0) or a commit; of charts \"api=1.2.3 web=2.0.0\"" } },
    flags = { NO_WAIT },
    example = "moontide release web production v1.4.0",
    run = function(ctx) return order(ctx, "release", ctx.args["VERSION|COMMIT"]) end,
  },
  retry = {
    summary = "try again what failed for good, was cancelled, or was marked bad",
    args = { APP, env "the only one, or production" },
    flags = { NO_WAIT },
    example = "moontide retry web production",
    more = "It puts out the newest that the environment's policy would choose if nothing were known of "
      .. "failures. When it proves itself, its digest is no longer marked bad. A rejection by a person is "
      .. "final.",
    run = function(ctx) return order(ctx, "retry") end,
  },
  cancel = {
    summary = "end a run: one that waits, builds, or has not begun",
    args = { { name = "RUN", doc = "its number, as history and status show it" } },
    flags = { { name = "reason", value = "TEXT", doc = "what history and why will say" } },
    example = "moontide cancel 12",
    more = "What the run was just putting out is taken back by the environment's rollback policy; nothing is "
      .. "marked bad. The change is not tried again by itself: `moontide retry` does that.",
    run = function(ctx) return cancel(ctx) end,
  },
  apply = {
    summary = "bring an environment to what should be there: now, and once more if it is there already",
    args = { APP, ENV },
    flags = {
      { name = "versions", value = "LIST", doc = "of charts: api=1.2.3,web=2.0.0; default: what is wanted" },
      NO_WAIT,
    },
    example = "moontide apply shop staging --versions api=1.2.3",
    more = "An environment that `moontide destroy` took down comes up again, and its policies work on.",
    run = function(ctx)
      local words = {}
      for word in (ctx.flags.versions or ""):gmatch("[^,%s]+") do words[#words + 1] = word end
      local versions, wrong = versions_of(words)
      if wrong then
        ctx:complain(("%q is not NAME=VERSION"):format(wrong))
        return 2
      end
      return order(ctx, "apply", nil, versions)
    end,
  },
  destroy = {
    summary = ("take down everything of an environment (targets of kind %s)"):format(
      table.concat(require("targets").that_go(), ", ")),
    args = { APP, ENV },
    flags = { { name = "yes", doc = "yes, take it down" }, NO_WAIT },
    example = "moontide destroy shop staging --yes",
    more = "It is held afterwards: nothing comes up until `moontide apply`. A protected environment is never "
      .. "taken down.",
    run = function(ctx)
      if not ctx.flags.yes then
        ctx:complain(("this takes down everything of %s %s"):format(ctx.args.APP, ctx.args.ENV), "say --yes")
        return 2
      end
      return order(ctx, "destroy")
    end,
  },
  hold = {
    summary = "keep what runs: no policy releases until unhold",
    args = { APP, env "all of the app" },
    flags = { { name = "reason", value = "TEXT", doc = "what status and why will say" } },
    example = 'moontide hold web production --reason "sale until Monday"',
    more = "A run under way stops before its next effect, and goes on after unhold. Rollbacks and orders of "
      .. "people pass.",
    run = function(ctx) return hold(ctx, "hold") end,
  },
  unhold = {
    summary = "let the policies release again",
    args = { APP, env "all of the app" },
    example = "moontide unhold web production",
    run = function(ctx) return hold(ctx, "unhold") end,
  },
  freeze = {
    summary = "hold everything: no policy releases anywhere until thaw",
    args = { { name = "REASON", optional = true, doc = "what status and why will say" } },
    flags = { { name = "for", value = "DURATION", doc = "thaw by itself after that: 90m, 12h, 2d" } },
    example = 'moontide freeze "the audit" --for 2d',
    more = "As hold, for every environment of every app, those found later, too: a run under way stops before its "
      .. "next effect; rollbacks and orders of people pass. Another freeze takes the place of the one before.",
    run = function(ctx) return freeze(ctx, "freeze") end,
  },
  thaw = {
    summary = "end a freeze",
    args = { { name = "REASON", optional = true, doc = "what people are told" } },
    example = "moontide thaw",
    more = "What is held by itself stays held.",
    run = function(ctx) return freeze(ctx, "thaw") end,
  },
  approve = {
    summary = "vote for a change that waits for approval",
    args = { APP, env "the one where something waits" },
    flags = {
      { name = "id", value = "ID", doc = "which one, when several wait: its id or its version" },
      { name = "by", value = "NAME", doc = "who votes (default: you); a second vote of one name counts nothing" },
    },
    example = "moontide approve shop/web",
    run = function(ctx) return vote(ctx, "approve") end,
  },
  reject = {
    summary = "turn down a change that waits for approval; that is final",
    args = { APP, env "the one where something waits" },
    flags = {
      { name = "id", value = "ID", doc = "which one, when several wait: its id or its version" },
      { name = "by", value = "NAME", doc = "who rejects (default: you)" },
      { name = "reason", value = "TEXT", doc = "what why and history will say" },
    },
    example = 'moontide reject shop/web --reason "breaks the checkout"',
    run = function(ctx) return vote(ctx, "reject") end,
  },
}
