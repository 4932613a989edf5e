-- Words of policies: run:approval { votes = 2 }.
local known_options, schema = require("policy.options").check, require "base.schema"

local M = { place = {}, run = {} }

---Waits until enough people agree; a restart of the host does not begin the wait again. Raises "denied" when it is
---rejected, "deadline" when the votes are late; ends as superseded when a newer change is waiting.
---@async
---@param run Run
---@param request {votes: integer, deadline?: Seconds|string, id?: string, title?: string, digest?: string,
--- from?: string, to?: string} id: what people approve, the change's key by default.
function M.run.approval(run, request)
  local given = type(request) == "table" and request or {}
  local deadline = given.deadline and schema.seconds(given.deadline)
  if math.type(given.votes) ~= "integer" or not deadline and given.deadline ~= nil
    or given.id ~= nil and type(given.id) ~= "string" then
    error("usage: run:approval { votes = 2 [, deadline = \"1h30m\", id =, title =, digest =, from =, to =] }", 3)
  end
  known_options(run, "run:approval", given, { "votes", "deadline", "id", "title", "digest", "from", "to" }, 2)
  if given.votes > 0 then
    require("policy.approval").wait(run, {
      id = given.id or run.row.key or run.row.title, votes = given.votes --[[@as integer]],
      deadline = deadline, title = given.title,
      digest = given.digest, from = given.from, to = given.to,
    })
  end
end

return M
