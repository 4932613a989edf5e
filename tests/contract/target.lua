-- What hosts may rely on of a target, proved of each by target_test.lua, of Kubernetes by cluster/contract_test.lua.
--
-- What differs on purpose: a simulated target is like docker's where kubernetes differs from it (a workload that is
-- another's by now is a conflict, and cannot be taken down); a simulated release is rolled out at once, so that wait
-- never has to; only kubernetes, of the real ones, remembers the generation of the host; `healthy` may be nil (not
-- known) elsewhere. Which `state` runs is each target's own text.
---@diagnostic disable: need-check-nil, undefined-field -- a nil fails the test
local check = require "check"
local errors, kit, task = require "errors", require "contract.kit", require "task"
local eq, ok, fails = check.eq, check.ok, check.fails

local M = {}

---@class TargetPart
---@field open fun(): Target As a host opens it that has just started.
---@field request fun(name: string, release: integer): TargetRequest An image of that name.
---@field changes fun(): any Equal when nothing was changed.
---@field generations? boolean It remembers the generation of the host.
---@field away? string The code of its errors while it is out of reach.
---@field blind? boolean It does not see what runs.
---@field gone? string The code of waiting for what is not there; "unhealthy" unless it is said.
---@field stays? boolean It cannot be taken down.
---@field occupied? boolean Something runs there before anything was applied.
---@field down? fun()
---@field up? fun()

local function put(target, request)
  ok(target:apply(request))
  ok(target:wait(request))
  ok(target:settle(request))
end

---Registers what every target must do.
---@param parts table<string, fun(): TargetPart>
function M.statements(parts)
  local each = kit.each(parts)

  each("nothing runs before the first release; then what was applied does, and says so", function(part)
    local target, one = part.open(), part.request("one", 1)
    if not part.occupied then eq({ target:current() }, {}) end
    put(target, one)
    local now = ok(target:current())
    eq({ now.digest, now.commit, now.version, now.release, now.image },
      { one.digest, one.commit, one.version, 1, one.image })
    eq({ now.healthy ~= false, type(now.state) }, { true, "string" })
    local two = part.request("two", 2)
    put(target, two)
    now = ok(part.open():current())
    eq({ now.digest, now.commit, now.version, now.release }, { two.digest, two.commit, two.version, 2 })
  end)

  each("what is asked for again changes nothing", function(part)
    local target, one = part.open(), part.request("one", 1)
    put(target, one)
    local before = part.changes()
    put(part.open(), one)
    eq(part.changes(), before)
    eq(ok(target:current()).release, 1)
  end)

  each("a release that is not there, or no longer, is waited for in vain", function(part)
    if part.blind then check.skip "it knows only what it applied itself" end
    local target, one, two = part.open(), part.request("one", 1), part.request("two", 2)
    two.timeout = 2
    put(target, one)
    eq(errors.passing(fails(part.gone or "unhealthy", target:wait(two))), false)
  end)

  each("what ran before comes back under its new number", function(part)
    local target, one = part.open(), part.request("one", 1)
    put(target, one)
    put(target, part.request("two", 2))
    local back = part.request("one", 3)
    back.restored = true
    put(target, back)
    local now = ok(target:current())
    eq({ now.digest, now.commit, now.release, now.healthy ~= false }, { one.digest, one.commit, 3, true })
  end)

  each("a host of an older generation is refused, where the target remembers generations", function(part)
    if not part.generations then check.skip "it does not" end
    local target, one, two = part.open(), part.request("one", 1), part.request("two", 2)
    one.generation, two.generation, two.host = 5, 4, "an old host"
    put(target, one)
    local err = fails("conflict", target:apply(two))
    eq({ err.generation, errors.passing(err) }, { 5, false })
    local now = ok(target:current())
    eq({ now.digest, now.generation, now.host }, { one.digest, 5, one.host })
    two.generation = 6
    put(target, two)
    eq(ok(target:current()).generation, 6)
  end)

  each("what is taken down is gone, and taking it down again is fine", function(part)
    local target = part.open()
    if part.stays then
      fails("unsupported", target:destroy {})
      return
    end
    put(target, part.request("one", 1))
    ok(target:destroy {})
    eq({ target:current() }, {})
    ok(target:destroy {})
  end)

  each("a target out of reach is a passing error", function(part)
    if not part.down then check.skip "it is not put out of reach here" end
    local one = part.request("one", 1)
    put(part.open(), one)
    part.down()
    one.timeout = 1
    local asked = {}
    for _, word in ipairs { "current", "apply", "settle", "wait", "destroy" } do
      local target = part.open()
      asked[#asked + 1] = target[word] and task.spawn(function()
        local err = fails(assert(part.away), target[word](target, one))
        eq({ word, errors.passing(err) }, { word, true })
        return true
      end)
    end
    for _, asking in ipairs(asked) do ok(asking:join()) end
    part.up()
    eq(ok(part.open():current()).digest, one.digest)
  end)
end

return M
