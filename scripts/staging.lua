-- Staging is whatever the branch says, forwards or back.
--
-- Only the head's commit matters. A push, a force push and a branch reset all look the same from here: the head is
-- another commit than the one handled last. After a reset the image of the older commit is still in the registry, so
-- going back builds nothing.
return policy {
  watch = function(place)
    return place:head()
  end,

  run = function(run, head)
    local image = run:image(head.commit)
    image:tag("staging")
    run:publish(head.commit)
    run:release(image)
  end,
}
