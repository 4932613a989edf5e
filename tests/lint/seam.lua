-- The seam to the world: only engine/world.lua opens repositories, registries, clusters, container engines and forges,
-- and starts what acts on them. Everybody else is given the world. A module's own folder may call its own door.
local seam = {}

-- Doors: what opens something outside, by module.
local DOORS <const> = {
  ["sources.git"] = { "repository" }, ["sources.git.configured"] = { "repository" },
  ["sources.github"] = { "repository", "configured" }, ["images.registry"] = { "repository" },
  ["kubernetes"] = { "open" }, ["containers.engine"] = { "open" },
  ["containers.api"] = { "request", "version", "answers" }, ["extensions.charts.repository"] = { "repository" },
  ["targets"] = { "open" }, ["images.image"] = { "ensure" }, ["images.removal.all"] = { "run" },
  ["checks.verify"] = { "run" }, ["tell.notify"] = { "send" },
}

-- Whose folder is another one than that of the module's name.
local FOLDERS <const> = {
  ["sources.git.configured"] = "sources/git/", ["kubernetes"] = "cluster/", ["containers.engine"] = "containers/",
  ["containers.api"] = "containers/", ["extensions.charts.repository"] = "extensions/charts/",
}

-- The modules that a text gives names to: `local a, b = require "x", require "y"`.
local function names_of(text)
  local found = {}
  for names, at in text:gmatch("local%s+([%w_,%s]-)%s*=%s*()require") do
    for name in names:gmatch("[%w_]+") do
      local module, after = text:match('^%s*require%s*%(?%s*"([%w_.]+)"%s*%)?()', at)
      if not module then break end
      if not text:find("^[.:]", after) then found[name] = module end
      at = text:match("^%s*,()", after) or #text + 1
    end
  end
  return found
end

-- Whether a file lies where the module does: it is the module, or of its folder.
local function owns(path, module)
  local folder = FOLDERS[module] or module:gsub("%.", "/") .. "/"
  return path:sub(1, #folder) == folder
end

---The doors that files open which are not theirs: a list of `{ path, line, text }`. `sources` are the lines of each
---file, without comments, by its path below stdlib.
function seam.faults(sources)
  local list = {}
  for path, lines in pairs(sources) do
    local named = names_of(table.concat(lines, "\n"))
    for i, line in ipairs(path ~= "engine/world.lua" and lines or {}) do
      local function look(module, call)
        if not module or owns(path, module) then return end
        for _, door in ipairs(DOORS[module] or {}) do
          if call == door then
            list[#list + 1] = { path, i, ("opens the world past engine/world.lua: %s.%s"):format(module, door) }
          end
        end
      end
      for name, call in line:gmatch("%f[%w_.]([%w_]+)%.([%w_]+)%s*%f[%({\"]") do look(named[name], call) end
      for module, call in line:gmatch('require%s*%(?"([%w_.]+)"%)?%.([%w_]+)') do look(module, call) end
    end
  end
  table.sort(list, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
  return list
end

return seam
