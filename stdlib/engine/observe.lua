-- Observing: the snapshot of an app's source for the policies that are asked next. First sight and new tags are written
-- to the journal in pieces, so that other tasks get their turns.
local errors, parted, time = require "errors", require "base.parted", require "time"
local short = require("base.text").short

local extensions = require "extensions"

local M = {}

local PIECE <const> = 500 -- tags that are read or written at once

local function others_turn() time.sleep(0) end

---What polling knows of an app, in memory only.
---@class Seen
---@field polling? boolean
---@field error? Err Why the last observation failed.
---@field polled_at? Wall When one succeeded.
---@field snapshot? table
---@field head? string The commit that the branch points to.
---@field previous_head? string The one before, when the branch moved.
---@field found? any What the source of an extension found.
---@field held? Held References that the source lists no more, and that count as there for now.
---@field known? table The tags, as the journal has them.
---@field listed? integer How many of them the source lists.
---@field forge? GitHubRepository The forge, when its events are followed.
---@field explained? table<string, string> By the two commits.
---@field health? table<string, table> Of health.lua, by environment.
---@field targets? table<string, TargetSeen> Of current.lua, by environment.

---The repository of a place; raises the error of a failed last observation.
---@param place Place
---@return table repository
function M.repository(place)
  if place.seen.error then error(place.seen.error, 0) end
  return place.world.repository(place.app_config)
end

-- How a branch came from one commit to another.
local function way_of(place, before, now)
  local repo = place.world.repository(place.app_config)
  local ok, comparison = pcall(function()
    local forge = place.world.forge(place.app_config)
    return (forge or repo):compare(before, now)
  end)
  local status = ok and type(comparison) == "table" and comparison.status or nil
  return status == "behind" and "was reset" or status == "diverged" and "was forced" or "moved"
end


---How the branch of a place came to where it is, for people; nil when it did not move since we know it.
---@async
---@param place Place
---@param commit string Where it is.
---@return string?
function M.explain(place, commit)
  local seen = place.seen
  local before = place.branch == place.app_config.branch and seen.previous_head
  if not before or before == commit then return nil end
  local known = seen.explained and seen.explained[before .. commit]
  if known then return known end
  known = ("%s %s from %s to %s"):format(place.branch, way_of(place, before, commit), short(before), short(commit))
  seen.explained = { [before .. commit] = known --[[@as string]] }
  return known
end

---Who pushed a commit, if an event of the forge said so.
---@param place Place
---@param commit string
---@param branch string
---@return string?
function M.pusher(place, commit, branch)
  local forge = place.seen.forge
  local event = forge and forge:pushed("refs/heads/" .. branch, commit)
  return event and event.actor
end

---The tags of an app that the journal knows, with the commit each had when it was first seen. They stay in memory.
---@async
---@param journal Journal
---@param state Seen
---@param app AppConfig
---@return table<string, {commit: string, first_sight: boolean, gone: boolean, at: number}> known Not to be changed
function M.known(journal, state, app)
  if state.known then return state.known end
  local known, listed, last = parted.table(), 0, ""
  repeat
    local rows = journal:tags(app.name, last, PIECE)
    for _, row in ipairs(rows) do
      known[row.name] = {
        commit = row.commit_id, first_sight = row.first_sight == 1, gone = row.gone == 1, at = row.at,
      }
      if row.gone == 0 then listed = listed + 1 end
      last = row.name
    end
    if #rows == PIECE then others_turn() end
  until #rows < PIECE
  if not state.known then state.known, state.listed = known, listed end -- else another task read them meanwhile
  return state.known --[[@as table]]
end

-- Calls fn with a piece of the list after the other, and whether it is the last; at least once.
local function in_pieces(list, fn)
  local i = 1
  repeat
    local piece = table.move(list, i, math.min(i + PIECE - 1, #list), 1, {})
    i = i + #piece
    fn(piece, i > #list)
    if i <= #list then others_turn() end
  until i > #list
end

-- Writes what is new, the shape of the repository last: a host that is killed in between sees the rest anew.
local function remember(journal, state, app, shape, new, first_sight)
  local known = M.known(journal, state, app)
  in_pieces(new, function(piece, last)
    journal:remember_repository(app.name, last and shape or nil, piece, first_sight)
    for _, tag in ipairs(piece) do
      known[tag.name] = { commit = tag.commit, first_sight = first_sight, gone = false, at = time.now() }
      state.listed = state.listed + 1
    end
  end)
end

-- Remembers which known tags the repository lists, so that the next host knows what should be there.
local function mark(journal, state, app, names, gone)
  if #names == 0 then return end
  local known = M.known(journal, state, app)
  in_pieces(names, function(piece)
    journal:mark_tags(app.name, piece, gone)
    for _, name in ipairs(piece) do
      known[name].gone = gone
      state.listed = state.listed + (gone and -1 or 1)
    end
  end)
end

-- What a list of tags says beside what is known: new ones, those that came back, those that are gone.
local function compare(known, listed, tags)
  local new, back, gone = {}, {}, {}
  for _, tag in ipairs(tags) do
    local k = known[tag.name]
    if not k then new[#new + 1] = tag elseif k.gone then back[#back + 1] = tag.name end
  end
  if #tags - #new - #back < listed then
    local there = parted.table()
    for _, tag in ipairs(tags) do there[tag.name] = true end
    for name, k in pairs(known) do
      if not k.gone and not there[name] then gone[#gone + 1] = name end
    end
  end
  return new, back, gone
end

-- A first answer is measured against what an earlier host saw.
local function expect(journal, state, app, repo)
  local before = journal:snapshot(app.name)
  if not before then return end
  local known = M.known(journal, state, app)
  local tags = parted.table()
  for name, k in pairs(known) do
    if not k.gone then tags[name] = k.commit end
  end
  local branches = {}
  for _, preview in ipairs(app.templates and journal:previews(app.name) or {}) do
    if not preview.gone_at then branches[preview.branch] = preview.head end
  end
  repo:expect(before.branch, before.head, tags, branches)
end

---Observes an app's git repository.
---@async
---@param journal Journal
---@param world World
---@param state Seen
---@param app AppConfig
function M.git(journal, world, state, app)
  local repo = world.repository(app)
  if not state.snapshot then expect(journal, state, app, repo) end
  local snapshot, err = repo:refs()
  state.error = err
  if not snapshot then return end
  state.polled_at, state.held = time.now(), snapshot.held
  if snapshot == state.snapshot then return end
  local head, tags
  head, err = repo:head(app.branch)
  if not head and not errors.is(err, "not_found") then
    state.error = err
    return
  end
  tags, err = repo:tags()
  if not tags then
    state.error = err
    return
  end
  local before = journal:snapshot(app.name)
  local new, back, gone = compare(M.known(journal, state, app), state.listed, tags)
  local commit = head and head.commit
  if not before or #new > 0 or before.head ~= commit or before.tags ~= #tags or before.branch ~= app.branch then
    state.previous_head = before and before.head
    remember(journal, state, app, { branch = app.branch, head = commit, tags = #tags }, new, before == nil)
  end
  mark(journal, state, app, back, false)
  mark(journal, state, app, gone, true)
  state.snapshot, state.head = snapshot, commit
end

---Observes an app's source. A failure is kept for the policies that ask: those that do not (rollback) go on. The same
---snapshot as before costs nothing more.
---@async
---@param journal Journal
---@param world World
---@param state Seen Of the app.
---@param app AppConfig
function M.observe(journal, world, state, app)
  local source = assert(extensions.get("source", app.follows))
  if source.observe then return source.observe(journal, world, state, app) end
  local found, problem, held = true, nil, nil -- without poll, its policies observe by themselves
  if source.poll then found, problem, held = extensions.call("source", app.follows, "poll", app, world) end
  state.error = problem
  if found then state.found, state.polled_at, state.held = found, time.now(), held end
end

return M
