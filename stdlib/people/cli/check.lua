-- moontide check: every fault of the configuration and the policies, without touching anything.
local function count(n, word)
  return ("%d %s%s"):format(n, word, n == 1 and "" or "s")
end

---@type Command
return {
  summary = "check the configuration and the policies, touch nothing",
  example = "moontide check --config config/moontide.lua",
  run = function(ctx)
    local config, faults = ctx:load_config()
    faults = faults or {}
    -- A policy may be judged although the configuration has faults, but not without knowing where it is.
    if config then
      for _, fault in ipairs(require("engine").check(config)) do faults[#faults + 1] = fault end
    end
    if ctx.json then
      ctx:print_json({ ok = #faults == 0, faults = faults })
      return #faults == 0 and 0 or 2
    end
    if #faults > 0 then
      for _, fault in ipairs(faults) do ctx:show_fault(fault) end
      ctx.err:line(ctx.err:paint("red", count(#faults, "fault")))
      return 2
    end
    assert(config)
    local environments = 0
    for _, app in ipairs(config.app_list) do environments = environments + #app.environment_list end
    ctx.out:line(("%s %s: %s, %s"):format(ctx.out:paint("green", "ok"), require("people.terminal").clean(config.file),
      count(#config.app_list, "app"), count(environments, "environment")))
    return 0
  end,
}
