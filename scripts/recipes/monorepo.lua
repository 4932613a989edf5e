-- Monorepo: of a repository with many apps, each is released only for commits that touch its folders. A commit whose
-- message holds "[skip ci]" counts as one that touches nothing.
--
--   staging = { policy = "monorepo", settings = { paths = { "web/", "shared/" } } }

-- Whether a commit changed a file below one of the paths.
local function touches(commit, paths)
  if commit.message:find("[skip ci]", 1, true) then return false end
  for _, changed in ipairs(commit.paths) do
    for _, path in ipairs(paths) do
      if changed:sub(1, #path) == path then return true end
    end
  end
  return false
end

return policy {
  settings = {
    paths = { type = "list", required = true, min = 1, doc = "Beginnings of paths: \"web/\", \"go.mod\"." },
  },

  watch = function(place)
    local head, current = place:head(), place:current()
    if not current or not current.commit then return head end
    local commits = place:commits(current.commit, head.commit)
    if commits.status ~= "ahead" or commits.cut then return head end -- a reset, a force push, or very many commits
    for _, commit in ipairs(commits) do
      if touches(commit, place.settings.paths) then return head end
    end
    return nil, ("none of %d new commits touches %s"):format(#commits, table.concat(place.settings.paths, ", "))
  end,

  run = function(run, head)
    run:release(run:image(head.commit))
  end,
}
