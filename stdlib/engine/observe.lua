-- Observing: what an app's source looks like now, for the policies that are asked next. First sight and new tags are
-- remembered, a piece at a time: however many there are, others get their turns.
local errors, parted, time = require "errors", require "base.parted", require "time"

local M = {}

local PIECE <const> = 500 -- tags that are read or written at once

local function others_turn() time.sleep(0) end

---The tags of an app that the journal knows, with the commit each had when it was first seen. They stay in memory.
---@async
---@param engine table
---@param app AppConfig
---@return table<string, {commit: string, first_sight: boolean, gone: boolean, at: number}> known Not to be changed
function M.known(engine, app)
  local state = engine:app_state(app.name)
  if state.known then return state.known end
  local known, listed, last = parted.table(), 0, ""
  repeat
    local rows = engine.journal:tags(app.name, last, PIECE)
    for _, row in ipairs(rows) do
      known[row.name] = {
        commit = row.commit_id, first_sight = row.first_sight == 1, gone = row.gone == 1, at = row.at,
      }
      if row.gone == 0 then listed = listed + 1 end
      last = row.name
    end
    if #rows == PIECE then others_turn() end
  until #rows < PIECE
  if not state.known then state.known, state.listed = known, listed end -- else somebody else read them meanwhile
  return state.known
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
local function remember(engine, app, shape, new, first_sight)
  local state, known = engine:app_state(app.name), M.known(engine, app)
  in_pieces(new, function(piece, last)
    engine.journal:remember_repository(app.name, last and shape or nil, piece, first_sight)
    for _, tag in ipairs(piece) do
      known[tag.name] = { commit = tag.commit, first_sight = first_sight, gone = false, at = time.now() }
      state.listed = state.listed + 1
    end
  end)
end

-- Remembers which known tags the repository lists, so that the next host knows what should be there.
local function mark(engine, app, names, gone)
  if #names == 0 then return end
  local state, known = engine:app_state(app.name), M.known(engine, app)
  in_pieces(names, function(piece)
    engine.journal:mark_tags(app.name, piece, gone)
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

-- An answer is measured against what an earlier host saw, when this one has seen nothing yet.
local function expect(engine, app, state, repo)
  local before = engine.journal:snapshot(app.name)
  if state.snapshot or not before then return before end
  local known = M.known(engine, app)
  local tags = parted.table()
  for name, k in pairs(known) do
    if not k.gone then tags[name] = k.commit end
  end
  repo:expect(before.branch, before.head, tags)
  return before
end

local function observe_git(engine, app, state)
  local repo = engine.world.repository(app)
  local before = expect(engine, app, state, repo)
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
  local new, back, gone = compare(M.known(engine, app), state.listed, tags)
  local commit = head and head.commit
  if not before or #new > 0 or before.head ~= commit or before.tags ~= #tags or before.branch ~= app.branch then
    state.previous_head = before and before.head
    remember(engine, app, { branch = app.branch, head = commit, tags = #tags }, new, before == nil)
  end
  mark(engine, app, back, false)
  mark(engine, app, gone, true)
  state.snapshot, state.head = snapshot, commit
end

---Looks at an app's source. A failure is kept for the policies that ask: those that do not (rollback) go on. The same
---snapshot as before costs nothing more.
---@async
---@param engine table
---@param app AppConfig
---@param state table What polling knows of the app.
function M.observe(engine, app, state)
  if app.follows == "git" then return observe_git(engine, app, state) end
  local ok, problem, held = true, nil, nil -- its policies look for themselves, and find what was asked for here
  if app.charts then ok, problem, held = require("extensions.charts.follow").poll(app, engine.world) end
  state.error = problem
  if ok then state.polled_at, state.held = time.now(), held end
end

return M
