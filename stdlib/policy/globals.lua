---@meta
-- What a policy's file has without `require`: annotations only. policy/load.lua makes it, editors and the reference
-- read it here.

---What a policy returns from `watch`: plain data, at most 1 MiB. The run gets it back from the journal.
---@class Change
---@field key string What should be: a commit, a version with its commit, a digest. Another key is another change.
---@field title? string One line for people. Default: the key.
---@field by? string Who caused it.
---@field [string] any Whatever else the run should know; `reason` is for people.

---What `policy` takes.
---@class PolicyFile
---@field watch fun(place: Place): (change: Change?, reason: string?) Says what should be: reads, and changes nothing.
---@field run fun(run: Run, change: Change) Does the work. Each of its effects is a step of the journal.
---@field queue? "latest"|"all" Whether a newer change takes the place of one that waits. Default: latest.
---@field first? "release"|"adopt" What first sight does: release, or keep what runs. Default: release.
---@field settings? table<string, SettingShape> What place.settings and run.settings hold; `check` judges them.

---The shape of one setting.
---@class SettingShape
---@field type string "text", "number", "integer", "boolean", "duration", "choice", "list", "map", "record".
---@field default? any What it is when it is left out.
---@field required? boolean
---@field doc? string What it means.
---@field min? number|string The least, in the unit of the type.
---@field max? number|string
---@field words? string[] Of a choice: what it may be.
---@field of? SettingShape Of a list or a map: what its items are.
---@field keys? table<string, SettingShape> Of a record.
---@field multiline? boolean Of a text.

---Declares a policy; a policy's file ends with `return policy { ... }`.
---@param definition PolicyFile
---@return PolicyFile
function policy(definition) end
