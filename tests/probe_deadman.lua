-- Sets the dead man's switch and then does what it is told: busy, asleep, stopped; alive sets it again and again.
local sys, time = require "base.sys", require "time"
local what = ...
assert(sys.deadman(0.3))
print("set")
local last = time.monotonic() + 1
if what == "busy" then
  while true do last = last + 1 end
elseif what == "alive" then
  while time.monotonic() < last do
    time.sleep(0.05)
    sys.deadman(0.3)
  end
  sys.deadman()
  time.sleep(0.5)
else
  time.sleep(5)
end
return 0
