-- Routes of the TCP port that need no token: health for probes and load balancers, metrics, contexts of builds.
local contexts, metrics = require "images.builder.contexts", require "people.control.metrics"
local reply = require "people.control.reply"

local M = {}

---What to say of a path that is not there.
M.HERE = "/healthz, /readyz, /activez and /metrics are here\n"

local function probe(good)
  return function(engine)
    local health = engine:health()
    local fine = good(health)
    local words = health.standby or health.frozen and "ok, " .. health.frozen or "ok"
    return reply.text(fine and 200 or 503, (fine and words or health.reason or health.standby or "not ready") .. "\n")
  end
end

-- Alive: no reason to end it. Ready: it does what it is there for, standing by included; a rollout that waits for this
-- goes on. Active: it is the one that acts, for a load balancer in front of several.
M.routes = {
  ["GET /healthz"] = probe(function(health) return health.live end),
  ["GET /readyz"] = probe(function(health) return health.live and health.ready end),
  ["GET /activez"] = probe(function(health) return health.live and health.ready and not health.standby end),
  ["GET /metrics"] = function(engine)
    return reply.text(200, metrics.text(engine:metrics()), { ["Content-Type"] = metrics.CONTENT_TYPE })
  end,
  ["GET /contexts/:file"] = function(_, request)
    return contexts.answer(request.path) or reply.text(404, M.HERE)
  end,
}

return M
