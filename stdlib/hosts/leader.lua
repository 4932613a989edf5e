-- Leader election: of several hosts the one that holds a Lease of the cluster acts. The rules are in
-- hosts/election.lua, the Lease in hosts/lease.lua; hosts/failover.lua is what `moontide run` does with them.
local election, lease = require "hosts.election", require "hosts.lease"
local errors, hash, world = require "errors", require "hash", require "engine.world"
local sys, task, time = require "base.sys", require "task", require "time"

local M = {}

---Who this process is in the election: the host's name, which people know, and something that no other process has. A
---process that is started again does not take what the one before it held: it waits like everybody else.
---@param config LeaderConfig
---@return string
function M.identity(config)
  return ("%s_%s"):format(config.identity or sys.hostname(), hash.hex(hash.random(6)))
end

-- The store opens its cluster when it is first asked: a host whose API server is down stands by and tries again.
local function store_of(config)
  local leader = config.leader
  local store = { name = leader.lease, namespace = leader.namespace, annotations = {} }
  local inner
  local function ask(word)
    return function(_, record)
      if not inner then
        local client, err = world.of(config).cluster(leader.cluster)
        if not client then return nil, err end
        store.namespace = leader.namespace or client.namespace
        -- Each attempt of ours is one request: what a repetition would have hidden, the election wants to know.
        inner = lease.new(client:with { timeout = leader.renew / 2, attempts = 1 }, store.namespace, leader.lease)
        inner.annotations = store.annotations
      end
      return inner[word](inner, record)
    end
  end
  store.get, store.create, store.update = ask "get", ask "create", ask "update"
  return store
end

---Makes the election that a configuration asks for.
---@param config Config
---@param on_change? fun(holder: string?)
---@return Election
function M.open(config, on_change)
  local leader = config.leader or error("the configuration has no leader", 2)
  return election.new {
    store = store_of(config), identity = M.identity(leader), duration = leader.duration, renew = leader.renew,
    retry = leader.retry, on_change = on_change,
  }
end

---Takes the lead for a short time, if it is free: what `moontide once` does. The process ends when the lead cannot
---be kept while it is needed (sys.deadman).
---@async
---@param config Config
---@return {options: table, close: fun()}? lead `options` of engine.open; `close` gives the lead back.
---@return Err? err busy: another host acts.
---@return_overload nil, Err
function M.take(config)
  local e = M.open(config)
  local leads, err = e:try()
  if not leads then
    return nil, err or errors.new("busy", ("another host acts: %s"):format(e:holder() or "it was faster"),
      { op = "leader", target = assert(config.leader).lease })
  end
  local keeping = task.start({ name = "lead", detached = true }, function()
    e:keep(function() sys.deadman(math.max(0.001, e:left() - (e.duration - e.renew) / 2)) end)
  end)
  return {
    options = {
      generation = e.generation, host = e.identity, fence = function() return e:acting() end,
      leader = function() return M.status(e) end,
      outrank = function(generation) return e:raise(generation) and e.generation end,
    },
    close = function()
      keeping:cancel()
      sys.deadman()
      e:release(5)
    end,
  }
end

---The election as status shows it.
---@param e Election
---@return LeaderStatus
function M.status(e)
  local store = e.store
  return {
    holder = e:holder(), identity = e.identity, generation = e.leading and e.generation or nil,
    since = e.leading and e.observed and time.parse_iso(e.observed.acquired or "") or nil,
    lease = ("%s/%s"):format(store.namespace or "?", store.name or "?"),
    error = e.problem and errors.plain(e.problem) or nil,
  }
end

return M
