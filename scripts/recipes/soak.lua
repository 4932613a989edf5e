-- Soak: production gets what another environment has run for a while without trouble: the same image, by its digest.
--
--   production = { policy = "soak", settings = { from = "staging", soak = "2d" } }
local time = require "time"

return policy {
  first = "adopt",
  settings = {
    from = { type = "text", default = "staging", doc = "The environment that tries it first." },
    soak = { type = "duration", default = "2d", doc = "How long it must have run there." },
  },

  watch = function(place)
    local from, here = place.settings.from, place:current()
    local there = place:of(from)
    local release = there.release
    if not release or not release.digest or not there.since then return nil, from .. " runs nothing yet" end
    if here and here.digest == release.digest then return nil, "it runs what " .. from .. " runs" end
    local name = release.version or (release.commit or release.digest):sub(1, 7)
    if there.healthy == false then return nil, ("%s is not well on %s"):format(name, from) end
    local ends = there.since + place.settings.soak
    if time.now() < ends then return nil, ("%s soaks on %s until %s"):format(name, from, time.iso(ends)) end
    return {
      key = release.digest, title = ("%s, %s on %s"):format(name, time.words(time.now() - there.since), from),
      commit = release.commit, version = release.version, digest = release.digest,
    }
  end,

  run = function(run, soaked)
    run:release(run:image(soaked.commit, { digest = soaked.digest }), { version = soaked.version })
  end,
}
