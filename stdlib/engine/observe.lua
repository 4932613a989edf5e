-- Observing: what an app's source looks like now, for the policies that are asked next. First sight and new tags are
-- remembered, a piece at a time: however many there are, others get their turns.
local errors, time = require "errors", require "time"

local M = {}

local PIECE <const> = 500 -- tags that are read or written at once

local function others_turn() time.sleep(0) end

---The tags of an app that the journal knows, with the commit each had when it was first seen. They stay in memory.
---@async
---@param engine table
---@param app AppConfig
---@return table<string, {commit: string, first_sight: boolean, at: number}> known Not to be changed.
function M.known(engine, app)
  local state = engine:app_state(app.name)
  if state.known then return state.known end
  local known, last = {}, ""
  repeat
    local rows = engine.journal:tags(app.name, last, PIECE)
    for _, row in ipairs(rows) do
      known[row.name] = { commit = row.commit_id, first_sight = row.first_sight == 1, at = row.at }
      last = row.name
    end
    if #rows == PIECE then others_turn() end
  until #rows < PIECE
  state.known = state.known or known -- somebody else may have read them meanwhile
  return state.known
end

-- Writes what is new, the shape of the repository last: a host that is killed in between sees the rest anew.
local function remember(engine, app, shape, new, first_sight)
  local journal, known, i = engine.journal, M.known(engine, app), 1
  while true do
    local piece = table.move(new, i, math.min(i + PIECE - 1, #new), 1, {})
    i = i + #piece
    local last = i > #new
    journal:remember_repository(app.name, last and shape or nil, piece, first_sight)
    for _, tag in ipairs(piece) do
      known[tag.name] = { commit = tag.commit, first_sight = first_sight, at = time.now() }
    end
    if last then return end
    others_turn()
  end
end

-- How often the same much shorter list must come before it is taken for news (after a restart; while the host runs,
-- git.lua itself has doubts).
local DOUBTS <const> = 3

local function observe_git(engine, app, state)
  local repo = engine:repository(app)
  local snapshot, err = repo:refs()
  state.error = err
  if not snapshot then return end
  state.polled_at = time.now()
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
  local before = engine.journal:snapshot(app.name)
  local far_fewer = before and before.tags >= 4 and #tags < before.tags / 2
  if far_fewer and not state.snapshot and (state.doubts or 0) < DOUBTS then
    state.doubts = (state.doubts or 0) + 1
    state.error = errors.new("mismatch",
      ("the repository shows %d tags where it had %d: not believed yet"):format(#tags, before.tags),
      { op = "git.tags", target = app.name })
    return
  end
  local known, new = M.known(engine, app), {}
  for _, tag in ipairs(tags) do
    if not known[tag.name] then new[#new + 1] = tag end
  end
  local commit = head and head.commit
  if not before or #new > 0 or before.head ~= commit or before.tags ~= #tags or before.branch ~= app.branch then
    state.previous_head = before and before.head
    remember(engine, app, { branch = app.branch, head = commit, tags = #tags }, new, before == nil)
  end
  state.snapshot, state.head, state.doubts = snapshot, commit, nil
end

---Looks at an app's source. A failure is kept for the policies that ask: those that do not (rollback) go on. The same
---snapshot as before costs nothing more.
---@async
---@param engine table
---@param app AppConfig
---@param state table What polling knows of the app.
function M.observe(engine, app, state)
  if app.follows == "git" then return observe_git(engine, app, state) end
  local ok, problem = true, nil -- its policies look for themselves, and find what was asked for here
  if app.charts then ok, problem = require("charts.follow").poll(app, engine.world, engine.config) end
  state.error = problem
  if ok then state.polled_at = time.now() end
end

return M
