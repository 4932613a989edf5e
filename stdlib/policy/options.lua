-- Options of words: what nobody reads is a mistake of the policy's, found where it is made.
local M = {}

---Refuses an option that the word does not have: a misspelt one would change what happens without a word. Runs of older
---editions go on with what they began with.
---@param run? Run nil: the word is of places.
---@param word string "run:release"
---@param options any A table, or nil.
---@param known string[]
---@param level integer Where the policy is, as of error.
function M.check(run, word, options, known, level)
  if options == nil or run and not run.steps:since(4) then return end
  if type(options) ~= "table" then error(("usage: the options of %s are a table"):format(word), level + 1) end
  for key in next, options do
    if not require("base.tables").contains(known, key) then
      local meant = require("base.suggest").closest(tostring(key), known)
      error(("%s has no option '%s' (%s)"):format(word, tostring(key),
        meant and ("did you mean %s?"):format(meant) or "there are: " .. table.concat(known, ", ")), level + 1)
    end
  end
end

return M
