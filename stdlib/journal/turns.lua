-- The journal's turns: each host that works on a state folder takes the next generation. Methods of the journal.
--
-- The lock file keeps two hosts apart on one machine; where a shared volume does not honour it, the generation does:
-- the host with the latest one owns the journal, and the writes of earlier ones fail from then on.
local errors, time = require "errors", require "time"
local words = require("journal.words").kept

---@class (partial) Journal
---@field generation? integer Of this host, once it took its turn.
local Turns = {}

local KEPT <const> = 100

---Takes the next generation: above every one before it here, and at least `least`.
---@param host string Who takes it, for people.
---@param least? integer What the outside knows already.
---@return integer generation
function Turns:take_turn(host, least)
  local generation = self:synced("turn", function()
    local last = self:count("SELECT coalesce(max(generation), 0) AS n FROM turns")
    local own = math.max(last + 1, least or 1)
    self:write("INSERT INTO turns (generation, host, at) VALUES (?, ?, ?)", own, words(host), time.now())
    self:write("DELETE FROM turns WHERE generation <= ?", own - KEPT)
    return own
  end)
  self.generation = generation
  return generation
end

---Raises when another host has taken a turn since; called inside of every synced transaction.
function Turns:still_ours()
  local own = self.generation
  if not own then return end
  local last = self:row("SELECT generation, host FROM turns ORDER BY generation DESC LIMIT 1")
  if last and last.generation == own then return end
  error(errors.new("conflict", ("the state was taken over by another host (%s, generation %d; ours was %d)"):format(
    last and last.host or "unknown", last and last.generation or 0, own),
    { op = "store.turn", target = self.path, fenced = true }), 0)
end

---@return integer generation Of the host before this one; 0 when there was none.
function Turns:generation_before()
  return self:count("SELECT coalesce(max(generation), 0) AS n FROM turns WHERE generation < ?",
    self.generation)
end

return Turns
