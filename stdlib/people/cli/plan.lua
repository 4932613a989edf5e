-- moontide plan: what the next poll would do, with nothing written anywhere.
local errors, fs = require "errors", require "fs"
local term, time = require "people.terminal", require "time"

local NOTHING <const>, FAILED <const>, CHANGES <const> = 0, 1, 2

-- The policies of the --policy flags, by name: NAME=FILE, or a FILE that has the policy's name.
---@return table<string, EditedPolicy>? policies
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
    local lua, wrong = require("base.text").of_file(text)
    if not lua then return errors.fail("invalid", tostring(wrong), { op = "plan", target = file }) end
    found[name] = { file = file, text = lua }
  end
  return found
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
      require("people.cli.plan_text").print(ctx.out, plan, time.now())
    end
    return code_of(plan.summary)
  end,
}
