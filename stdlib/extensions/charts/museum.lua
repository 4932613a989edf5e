-- ChartMuseum's API: one small answer for one chart, where an index of everything would be megabytes.
--
-- With several tenants or a context path the API lies somewhere inside of the repository's address; it is looked for
-- once. Rules: ChartMuseum's README and routes, `GET /api[/repo]/charts/NAME`.
local errors, http, json = require "errors", require "http", require "json"
local index = require "extensions.charts.index"

local M = {}

local MAX_BODY <const> = 8 << 20
local MAX_PREFIXES <const> = 8 -- parts of a path; GitLab puts seven before its own

---The addresses where the API of a repository may be: `/api` before all of its path, or behind one of its parts.
---@param url string Without a slash at the end.
---@return string[] bases
function M.bases(url)
  local origin, path = url:match("^(%a+://[^/?#]+)([^?#]*)") ---@cast path string
  local parts, bases = {}, {}
  for part in path:gmatch("[^/]+") do parts[#parts + 1] = part end
  for i = 0, math.min(#parts, MAX_PREFIXES) do
    local before, after = table.concat(parts, "/", 1, i), table.concat(parts, "/", i + 1)
    bases[#bases + 1] = table.concat {
      origin, before ~= "" and "/" .. before or "", "/api", after ~= "" and "/" .. after or "",
    }
  end
  return bases
end

-- What an answer to `GET .../charts/NAME` is: "list", "missing" (the API is there, the chart is not), or nil: this is
-- not the API.
local function judge(answer)
  if answer.status ~= 200 and answer.status ~= 404 then return nil end
  local body = json.decode(answer.body or "")
  if answer.status == 200 then return json.is_array(body) and "list" or nil, body end
  return type(body) == "table" and body.error == "chart not found" and "missing" or nil
end

---Asks for the versions of a chart.
---@async
---@param repo ChartRepository
---@param name string
---@return {list: ChartVersion[], notes: string[]}|false|nil found false: no API was found here.
---@return Err? err not_found when the repository has no such chart; with false: why it may be there all the same
function M.versions(repo, name)
  local unsure
  for _, base in ipairs(repo.api and { repo.api } or M.bases(repo.url)) do
    local answer, err = repo:send { url = base .. "/charts/" .. http.escape(name), max_body = MAX_BODY }
    if not answer then return nil, err end
    local what, body = judge(answer)
    if what == "list" then
      repo.api = base
      local list, notes = {}, {}
      for _, item in ipairs(body) do
        local version, why = index.version(item, name, repo.url)
        list[#list + 1], notes[#notes + 1] = version, why
      end
      return { list = list, notes = notes }
    elseif what == "missing" then
      repo.api = base
      return errors.fail("not_found", "the repository has no chart " .. name,
        { op = "charts.versions", target = repo.url })
    elseif repo.api and (errors.passing(answer.status) or answer.status == 401 or answer.status == 403) then
      return nil, repo:failure(answer) -- it was here before, and will be again
    elseif errors.passing(answer.status) then
      unsure = repo:failure(answer)
    end
  end
  repo.api = nil
  return false, unsure
end

return M
