-- One class of several parts: each part is a module of methods with a duty of its own, and none of them may give a name
-- that the class or another part has.

---Adds the methods of parts to a class; raises when a name is taken.
---@param class table
---@param parts table<string, table> By what they are about, for the error.
return function(class, parts)
  local from = {}
  for name in pairs(class) do from[name] = "the class itself" end
  for part, methods in pairs(parts) do
    for name, method in pairs(methods) do
      if from[name] then error(("%s gives %s, which %s has"):format(part, name, from[name]), 2) end
      from[name], class[name] = part, method
    end
  end
end
