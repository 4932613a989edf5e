-- moontide apply: brings an environment to what should be there, by order of a person.
local order = require "people.cli.order"

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

---@type Command
return {
  summary = "bring an environment to what should be there: now, and once more if it is there already",
  args = {
    { name = "APP", doc = "the app" },
    { name = "ENV", doc = "the environment" },
  },
  flags = {
    { name = "versions", value = "LIST", doc = "of charts: api=1.2.3,web=2.0.0; default: what is wanted" },
    { name = "no-wait", doc = "return when the order is accepted" },
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
    return order.run(ctx, "apply", nil, versions)
  end,
}
