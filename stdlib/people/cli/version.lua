-- moontide version.
local sys = require "base.sys"

---@type Command
return {
  summary = "show the version of this program",
  example = "moontide version",
  run = function(ctx)
    if ctx.json then
      ctx:print_json({ version = sys.version, lua = _VERSION, api = require("people.control.wire").VERSION })
    else
      ctx.out:line(("moontide %s (%s)"):format(sys.version, _VERSION))
    end
    return 0
  end,
}
