-- moontide logs: what a run did and printed, to its end if asked to follow.
local show = require "people.cli.show"
local term = require "people.terminal"
local time = require "time"

-- Shows a piece of the log; a terminal also gets what the run is doing right now.
local function print_piece(ctx, piece)
  local now = time.now()
  for _, entry in ipairs(piece.entries) do
    if ctx.json then ctx:print_json(entry) else show.entry(ctx.out, entry, now) end
  end
  if ctx.json then return end
  local run = piece.run
  if piece.done and run.ended_at then
    ctx.out:clear()
    ctx.out:line(("%s  run %d %s%s"):format(ctx.out:paint("dim", show.clock(run.ended_at or now, now)), run.id,
      ctx.out:paint(show.style(run.state), run.state),
      run.ended_at and run.started_at and " after " .. term.duration(run.ended_at - run.started_at) or ""))
  elseif run.progress then
    ctx.out:progress(run.id, run.progress.text, run.progress.done, run.progress.total)
  end
end

local function outcome(run)
  return (run.state == "failed" or run.state == "diverged" or run.state == "quarantined") and 1 or 0
end

---@type Command
return {
  summary = "show what a run did and printed",
  args = { { name = "RUN", doc = "number of the run, as in history" } },
  flags = { { name = "follow", short = "f", doc = "go on until the run ends; then exit 1 if it failed" } },
  example = "moontide logs 42 --follow",
  run = function(ctx)
    local id = #ctx.args.RUN <= 15 and ctx.args.RUN:find("^%d+$") and math.tointeger(tonumber(ctx.args.RUN)) or nil
    if not id or id < 1 then
      ctx:complain("a run is a number", "moontide history lists them")
      return 2
    end
    local reader, offset = ctx:reader(), 0
    local last ---@type RunInfo
    while true do
      local piece, err = reader:run_log(id, offset)
      if not piece then return ctx:fail(assert(err)) end
      print_piece(ctx, piece)
      offset, last = piece.next, piece.run
      if piece.done or #piece.entries == 0 then break end
    end
    if not ctx.flags.follow then return 0 end
    if last.ended_at then return outcome(last) end
    if reader.down then
      ctx:complain("the run is unfinished, and no host runs that would go on with it")
      return 3
    end
    local ok, err = reader.client:follow(id, offset, function(piece)
      last = piece.run
      print_piece(ctx, piece)
    end)
    ctx.out:clear()
    if not ok then return ctx:fail(err) end
    return outcome(last)
  end,
}
