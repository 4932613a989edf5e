-- Promote: production gets the very image that staging proved, when somebody agrees. There are no tags: what is on the
-- branch and runs well on staging may go out.
--
--   production = { policy = "promote", settings = { from = "staging", votes = 1 } }
return policy {
  first = "adopt",
  settings = {
    from = { type = "text", default = "staging", doc = "The environment that proves it." },
    votes = { type = "integer", default = 1, min = 0, max = 20, doc = "How many people must agree." },
  },

  watch = function(place)
    local from, here = place.settings.from, place:current()
    local there = place:of(from)
    local release = there.release
    if not release or not release.commit then return nil, from .. " runs nothing yet" end
    if here and here.digest == release.digest then return nil, "it runs what " .. from .. " runs" end
    local proved, reason = place:proved(from, release.commit)
    if not proved then return nil, reason end
    return {
      key = proved.digest, title = ("%s, as %s proved it"):format(proved.commit:sub(1, 7), from),
      commit = proved.commit, digest = proved.digest,
    }
  end,

  run = function(run, proved)
    if run.settings.votes > 0 then run:approval { votes = run.settings.votes, digest = proved.digest } end
    run:release(run:image(proved.commit, { digest = proved.digest }))
  end,
}
