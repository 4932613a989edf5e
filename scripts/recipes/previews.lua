-- Previews: an environment for each branch that matches, which comes with the branch and goes with it; people are told
-- where it is. (The program's own policy `preview` does the same without a word.)
--
--   feature = {
--     policy = "previews", branches = "feature/*", at_most = 10, host = "{branch}.preview.example.com",
--     target = { kind = "docker", network = "web" }, -- a proxy that follows containers' labels finds them
--     settings = { address = "http://{branch}.preview.example.com/" },
--   }
return policy {
  settings = {
    address = { type = "text", doc = "Where people find it." },
  },

  watch = function(place)
    return place:head()
  end,

  run = function(run, head)
    run:release(run:image(head.commit))
    if run.settings.address then run:notify("%s is at %s", head.title, run.settings.address) end
  end,
}
