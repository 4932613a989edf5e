-- helmsman's command line: the flags it knows, so that ours are right before it runs.
--
-- Go's flag package ends a program with status 2 at a flag that it does not know, and 2 is also helmsman's word for
-- "there are changes": what we hand over is checked here first. Facts: helmsman 4, internal/app/cli.go; package flag.
local suggest = require "base.suggest"

local M = {}

local KINDS <const> = {
  text = "f e target group exclude-target exclude-group spec kubeconfig ns-override context-override",
  number = "diff-context p pending-max-retries",
  switch = "apply dry-run destroy v debug verbose no-banner no-color no-fancy no-ns skip-validation"
    .. " keep-untracked-releases show-diff detailed-exit-code no-env-subst subst-env-values no-recursive-env-expand"
    .. " no-ssm-subst subst-ssm-values update-deps force-upgrades replace-on-rename no-cleanup migrate-context"
    .. " always-upgrade no-update kubectl-diff check-for-chart-updates download-charts skip-ignored skip-pending"
    .. " show-secrets verify parallel-files",
}

local known, names = {}, {} ---@type table<string, string>, string[]
for kind, words in pairs(KINDS) do
  for name in words:gmatch("%S+") do
    known[name], names[#names + 1] = kind, name
  end
end
table.sort(names)

-- Flags that are ours to give, with what the configuration says instead.
local OURS <const> = {
  apply = "we decide when a plan is applied", ["dry-run"] = "we plan before we apply",
  destroy = "moontide destroy does that", f = "name the files in `files`", spec = "name the files in `files`",
  target = "name the apps in `only`", group = "name the groups in `groups`",
  kubeconfig = "name the cluster in `cluster`", ["context-override"] = "set `override_context`",
  ["keep-untracked-releases"] = "set `keep_untracked`", ["detailed-exit-code"] = "it is always given",
  ["no-color"] = "it is always given", ["no-fancy"] = "it is always given", ["no-banner"] = "it is always given",
  debug = "it would write secrets into the log", ["show-secrets"] = "it would write secrets into the log",
  v = "it only shows the version", ["parallel-files"] = "its plans and exit codes would mix",
}

local TRUE <const> = { ["1"] = true, t = true, T = true, ["true"] = true, TRUE = true, True = true }
local FALSE <const> = { ["0"] = true, f = true, F = true, ["false"] = true, FALSE = true, False = true }

---@class HelmsmanFlag
---@field name string
---@field value string|boolean

-- One word and, when it needs one, the next as its value.
local function read(word, following)
  local dashes, name, value = word:match("^(%-%-?)([^=]*)=?(.*)$")
  if not dashes or name == "" or name:find("^%-") then
    return nil, ("%q is no flag"):format(word)
  end
  local inline = word:find("=", 1, true) ~= nil
  local kind = known[name]
  if not kind then
    local meant = suggest.closest(name, names)
    return nil, ("helmsman has no flag -%s"):format(name), meant and ("did you mean -%s?"):format(meant)
  end
  if kind == "switch" then
    if inline and not TRUE[value] and not FALSE[value] then return nil, ("-%s is a switch"):format(name) end
    return { name = name, value = not inline or TRUE[value] == true }, 1
  end
  if not inline then value = following end
  if not value then return nil, ("-%s needs a value"):format(name) end
  if kind == "number" and not value:find("^%-?%d+$") then return nil, ("-%s needs a number"):format(name) end
  return { name = name, value = value }, inline and 1 or 2
end

---Reads flags the way helmsman will.
---@param words string[]
---@return HelmsmanFlag[]? flags
---@return string? wrong
---@return string? suggestion
function M.parse(words)
  local list, i = {}, 1
  while i <= #words do
    local flag, step, suggestion = read(words[i], words[i + 1])
    if not flag then return nil, step, suggestion end
    list[#list + 1] = flag
    i = i + step
  end
  return list
end

---Checks flags of a configuration: known ones, and none of those that are ours to give.
---@param words string[]
---@return string? wrong
---@return string? suggestion
function M.check(words)
  local list, wrong, suggestion = M.parse(words)
  if not list then return wrong, suggestion end
  for _, flag in ipairs(list) do
    if OURS[flag.name] then return ("-%s must not stand here: %s"):format(flag.name, OURS[flag.name]) end
  end
  return nil
end

local function word_of(flag)
  if flag.value == true then return "-" .. flag.name end
  return ("-%s=%s"):format(flag.name, tostring(flag.value))
end

-- What a template may say besides us, until the configuration says it.
local function stays(flag, config)
  if flag.name == "f" or flag.name == "spec" then return not (config.files and config.files[1]) end
  if flag.name == "target" or flag.name == "group" then return not (config.only[1] or config.groups[1]) end
  if flag.name == "context-override" then return not config.override_context end
  return flag.name == "kubeconfig" or not OURS[flag.name]
end

---The flags of a template's container that stay when we give ours: which files, and how they are read.
---@param words string[]
---@param config table The target's configuration.
---@return string[]? kept
---@return string? wrong
function M.kept(words, config)
  local list, wrong = M.parse(words)
  if not list then return nil, wrong end
  local out = {}
  for _, flag in ipairs(list) do
    if stays(flag, config) then out[#out + 1] = word_of(flag) end
  end
  return out
end

---@alias HelmsmanAct "plan"|"apply"|"plan destroy"|"destroy"

-- What goes is known by its names: charts that cannot be found, and versions that are gone, are no reason
-- to leave it there.
local ACTS <const> = {
  plan = {}, apply = { "-apply" }, destroy = { "-destroy", "-skip-validation" },
  ["plan destroy"] = { "-destroy", "-dry-run", "-skip-validation" },
}

---The arguments of one call.
---@param config table The target's configuration.
---@param act HelmsmanAct
---@param kept? string[] What a template's container says already.
---@return string[] words
function M.make(config, act, kept)
  local words = { "-no-banner", "-no-color", "-no-fancy" }
  local function add(...)
    for _, word in ipairs { ... } do words[#words + 1] = word end
  end
  add(table.unpack(ACTS[act]))
  if act == "plan" or act == "plan destroy" then add "-detailed-exit-code" end
  if config.keep_untracked then add "-keep-untracked-releases" end
  if config.override_context then add("-context-override=" .. config.context) end
  add(table.unpack(kept or {}))
  for _, file in ipairs(config.files or {}) do add("-f=" .. file) end
  for _, name in ipairs(config.only) do add("-target=" .. name) end
  for _, name in ipairs(config.groups) do add("-group=" .. name) end
  add(table.unpack(config.flags))
  return words
end

return M
