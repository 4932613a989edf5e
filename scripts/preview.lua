-- Preview: the place of a branch is whatever the branch says (`moontide help previews`).
--
-- As staging, but no tag of the registry moves: many branches have a place, and there would be one tag.
return policy {
  watch = function(place)
    return place:head()
  end,

  run = function(run, head)
    run:release(run:image(head.commit))
  end,
}
