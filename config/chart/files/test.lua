-- What `helm test` runs beside `moontide check`: the host answers through its service, and says that it is ready.
local http, time = require "http", require "time"
local url = ...
local last
for _ = 1, 30 do
  local answer, err = http.get(url .. "/readyz", { timeout = 5 })
  if answer and answer.status == 200 then
    print(url .. " is ready")
    return 0
  end
  last = answer and ("%d: %s"):format(answer.status, answer.body) or tostring(err)
  time.sleep(2)
end
print(url .. " is not ready: " .. last)
return 1
