-- Tells whether this build has kill points: it does not survive the one called "probe".
require("sys").killpoint("probe")
return 0
