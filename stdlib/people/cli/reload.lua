-- moontide reload: has the running host load what is saved, and prints what came of it.
local term = require "people.terminal"

local function count(n, word) return ("%d %s%s"):format(n, word, n == 1 and "" or "s") end

---@type Command
return {
  summary = "load configuration and scripts again, and print what changed",
  example = "moontide reload",
  more = "The host does so by itself when a file is saved, unless the configuration says `watch = false`. All is read, "
    .. "checked and tested first: with a fault nothing changes, the faults are printed, and the exit status is 2.",
  run = function(ctx)
    local done, err = ctx:host():reload()
    if not done then
      local status = ctx:fail(err)
      return err.faults and 2 or status
    end
    if ctx.json then
      ctx:print_json(done)
      return 0
    end
    for _, words in ipairs(done.changed) do ctx.out:line(term.clean(words)) end
    ctx.out:line(("%s %s, %d policies%s"):format(ctx.out:paint("green", "loaded:"), count(done.apps, "app"),
      done.policies, #done.changed == 0 and "; nothing changed" or ""))
    return 0
  end,
}
