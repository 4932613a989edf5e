---@meta
-- What a test's file has besides what policies have: annotations only. testing/worker.lua makes these words, editors
-- and the reference read them here; `equal`, `has` and `raises` are in testing/words.lua.

---Declares a test: a story in a simulated world of its own, in which it is Monday, 2 March 2026, 8:00 UTC. It fails
---when it raises.
---@param name string What it proves.
---@param fn fun(world: SimulatedWorld) The story.
---@overload fun(name: string, options: table, fn: fun(world: SimulatedWorld)) With keys of the configuration.
function test(name, fn) end

---Tells a story again and again: with the host killed before and after each write of the journal and each effect, and
---with each effect failing once in passing. The end must always be the same. Inside of a test, or beside it as one.
---@param fn fun(world: SimulatedWorld)
---@overload fun(name: string, fn: fun(world: SimulatedWorld))
function everywhere(fn) end

---Tells random stories, each in a world of its own, against what must always hold: never two rollouts of a place at
---once, never back without an order or a bad release, never a bad digest, and every push ends somewhere. A failure says
---the shortest story that shows it, and how to tell it again. Inside of a test, or beside it as one.
---@param seed integer The same seed, the same stories.
---@param count integer How many.
---@param options? ExploreOptions
function explore(seed, count, options) end

---@class ExploreOptions
---@field apps? table<string, table> Apps of the configuration. Default: one with staging and production.
---@field invariant? fun(world: SimulatedWorld) What must hold besides: raises when it does not.

---The id of the commit that a test calls so.
---@param name string
---@return string id 40 hexadecimal digits.
function commit(name) end
