-- The places of branches (engine/previews.lua): which branch each is for, since when, and when the branch went. Methods
-- of the journal. A place that was taken down keeps its row: its name stays its branch's.
local previews, time = require "config.previews", require "time"

---@class (partial) Journal
local Previews = {}

---@class Preview
---@field app string
---@field environment string The place's name.
---@field template string
---@field branch string
---@field label string
---@field head? string The commit that the branch was at last.
---@field gone_at? Wall The branch is gone.
---@field run? integer That takes the place down.
---@field down_at? Wall It was taken down.

local SELECT <const> = "SELECT app, environment, template, branch, label, head, gone_at, run, down_at FROM previews "

---The places of an app that have not been taken down, in the order in which they came.
---@param app string
---@return Preview[]
function Previews:previews(app)
  return self:rows(SELECT .. "WHERE app = ? AND down_at IS NULL ORDER BY at, environment", app)
end

---Gives the apps of a configuration the places that the journal knows, and no others.
---@param config Config
function Previews:restore_places(config)
  for _, app in ipairs(config.app_list) do
    if app.templates then previews.clear(app) end
    for _, preview in ipairs(app.templates and self:previews(app.name) or {}) do
      local template = previews.template_of(app, preview.template)
      if template and not app.environments[preview.environment] then previews.come(app, template, preview) end
    end
  end
end

---The place that a branch has, or had.
---@param app string
---@param template string
---@param branch string
---@return Preview?
function Previews:preview_of(app, template, branch)
  return self:row(SELECT .. "WHERE app = ? AND template = ? AND branch = ?", app, template, branch)
end

---@param app string
---@param environment string
---@return boolean
function Previews:preview_named(app, environment)
  return self:row("SELECT 1 AS yes FROM previews WHERE app = ? AND environment = ?", app, environment) ~= nil
end

---A branch has a place from now on.
---@param preview {app: string, environment: string, template: string, branch: string, label: string, head: string}
function Previews:add_preview(preview)
  self:synced("preview", function()
    self:write([[INSERT INTO previews (app, environment, template, branch, label, head, at) VALUES (?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT DO UPDATE SET head = excluded.head, at = excluded.at, gone_at = NULL, run = NULL, down_at = NULL]],
      preview.app, preview.environment, preview.template, preview.branch, preview.label, preview.head, time.now())
    return true
  end)
end

---Where the branch of a place is now.
---@param app string
---@param environment string
---@param head? string nil: the branch is gone.
function Previews:preview_at(app, environment, head)
  self:lazily("preview", function()
    self:write([[UPDATE previews SET head = coalesce(?1, head), gone_at = CASE WHEN ?1 IS NULL THEN ?2 END
      WHERE app = ?3 AND environment = ?4]], head, time.now(), app, environment)
    return true
  end)
end

---A run takes the place down.
---@param app string
---@param environment string
---@param run integer
function Previews:preview_goes(app, environment, run)
  self:lazily("preview", function()
    self:write("UPDATE previews SET run = ? WHERE app = ? AND environment = ?", run, app, environment)
    return true
  end)
end

---How far the order is that takes a place down: that run, or the last that tried it again.
---@param preview Preview
---@return {state: RunState, ended_at?: Wall}?
function Previews:preview_order(preview)
  return self:row([[SELECT state, ended_at FROM runs WHERE app = ? AND environment = ? AND policy = 'destroy'
    AND id >= ? ORDER BY id DESC LIMIT 1]], preview.app, preview.environment, preview.run)
end

---A place was taken down: what its policies handled, and that it is held, is over. Its history stays.
---@param app string
---@param environment string
function Previews:preview_down(app, environment)
  self:synced("preview", function()
    self:write("UPDATE previews SET down_at = ? WHERE app = ? AND environment = ?", time.now(), app, environment)
    self:write("DELETE FROM watches WHERE app = ? AND environment = ?", app, environment)
    self:write("DELETE FROM holds WHERE app = ? AND environment = ?", app, environment)
    return true
  end)
end

return Previews
