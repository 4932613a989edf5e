-- Runs, releases and states as people read them.

local hold_words = require "journal.words"
local short = require("base.text").short
local term = require "people.terminal"
local time = require "time"

local M = {}

local STYLES = {
  idle = "green", done = "green", running = "cyan", waiting = "cyan", queued = "cyan", new = "dim",
  held = "yellow", superseded = "dim", cancelled = "yellow", failed = "red", diverged = "red bold",
  quarantined = "red bold",
  unhealthy = "red", unreachable = "red", changed = "yellow", error = "red", reverted = "yellow",
  accepted = "green", unchanged = "dim", refused = "yellow", nothing = "dim",
}

---A state or verdict as a coloured cell.
---@param state string
---@return table cell
function M.state(state)
  return { text = state, style = STYLES[state] }
end

---The style of a state, a verdict or a level.
---@param word string
---@return string?
function M.style(word)
  return STYLES[word]
end

---A commit as people quote it.
---@param commit? string
---@return string
function M.commit(commit)
  return commit and commit:sub(1, 9) or ""
end

---A release in a few letters: its version, else its commit, else its digest.
---@param release? Release
---@return string
function M.release(release)
  if not release then return "-" end
  if release.version then
    return release.commit and ("%s (%s)"):format(release.version, M.commit(release.commit)) or release.version
  end
  if release.commit then return M.commit(release.commit) end
  return release.digest and short(release.digest) or "-"
end

---How long a run took, or has taken.
---@param run RunInfo
---@param now Wall
---@return string
function M.took(run, now)
  if not run.started_at then return "" end
  return term.duration((run.ended_at or now) - run.started_at)
end

---A moment as hours and minutes, with the day when it is not today.
---@param at Wall
---@param now Wall
---@return string
function M.clock(at, now)
  local c, today = time.clock(at), time.clock(now)
  local text = ("%02d:%02d:%02d"):format(c.hour, c.minute, c.second)
  if c.year == today.year and c.month == today.month and c.day == today.day then return text end
  return ("%04d-%02d-%02d %s"):format(c.year, c.month, c.day, text)
end

---Why an environment is in its state, in one line.
---@param env EnvironmentStatus
---@param now Wall
---@return string
function M.remark(env, now)
  if env.suspended then return env.suspended end
  if env.hold then
    return ("%s (%s)%s"):format(hold_words.held(env.hold), term.ago(env.hold.at, now),
      env.hold.reason and ": " .. env.hold.reason or "")
  end
  if env.run and env.state == "waiting" then return ("run %d: %s"):format(env.run.id, env.reason) end
  if env.run then
    local progress = env.run.progress and env.run.progress.text or env.run.step
    return ("run %d: %s%s"):format(env.run.id, env.run.title, progress and ", " .. progress or "")
  end
  local text = env.reason
  if not text and env.state == "failed" and env.last and env.last.error then text = env.last.error.message end
  text = text or ""
  if env.retry_at then
    local when = env.retry_at - now < 1.5 and "now" or term.ago(env.retry_at, now)
    text = ("%s%stries again %s"):format(text, text ~= "" and "; " or "", when)
  end
  return text
end

---Prints what each of several targets has.
---@param out Output
---@param where string "web/staging"
---@param env EnvironmentStatus
---@param now Wall
function M.parts(out, where, env, now)
  for _, part in ipairs(env.parts or {}) do
    local how = part.canary and "canary, " or part.pending and "on its way, " or ""
    local seen = part.running and part.running.state and ", " .. term.clean(part.running.state) or ""
    out:line(("%s %s: %s%s"):format(where, part.name, term.clean(M.release(part)),
      part.since and (" (%s%s%s)"):format(how, term.ago(part.since, now), seen) or ""))
  end
end

---Prints the problems that the remark does not cover.
---@param out Output
---@param where string "web/staging"
---@param env EnvironmentStatus
---@param now Wall
function M.problems(out, where, env, now)
  for _, problem in ipairs(env.problems or {}) do
    if problem.text ~= env.reason then
      local since = problem.since and ", first " .. term.ago(problem.since, now) or ""
      out:line(("%s: %s%s"):format(out:paint(problem.state and STYLES[problem.state] or "yellow", where),
        term.clean(problem.text), since))
    end
  end
end

---Prints a table of runs.
---@param out Output
---@param runs RunInfo[]
---@param now Wall
function M.runs(out, runs, now)
  local rows = {}
  for i, run in ipairs(runs) do
    local what = run.title
    if run.error then what = ("%s: %s"):format(what, run.error.message) end
    if run.tries then what = ("%s (tried %s)"):format(what, run.tries > 1 and run.tries .. " times" or "once") end
    rows[i] = {
      run.id, ("%s/%s"):format(run.app, run.environment), M.state(run.state),
      term.ago(run.ended_at or run.started_at or run.queued_at, now), M.took(run, now), run.by or "", what,
    }
  end
  out:table({ "RUN", "WHERE", "STATE", "WHEN", "TOOK", "BY", "WHAT" }, rows, { right = { [1] = true, [5] = true } })
end

---Prints one line of a run's log.
---@param out Output
---@param entry LogEntry
---@param now Wall
function M.entry(out, entry, now)
  local clock = out:paint("dim", M.clock(entry.at, now))
  local text = term.clean(entry.text)
  if entry.kind == "output" then
    out:line(("%s    %s"):format(clock, out:paint(entry.stream == "stderr" and "yellow" or nil, text)))
    return
  end
  local tail = ""
  if entry.elapsed then tail = tail .. "  " .. out:paint("dim", term.duration(entry.elapsed)) end
  if entry.recorded then tail = tail .. "  " .. out:paint("dim", "(from the journal)") end
  if entry.error and not text:find(entry.error.message, 1, true) then
    text = ("%s: %s"):format(text, term.clean(entry.error.message))
  end
  local style = entry.level == "error" and "red" or entry.level == "warn" and "yellow"
    or entry.kind == "run" and "bold" or nil
  out:line(("%s  %s%s"):format(clock, out:paint(style, text), tail))
end

return M
