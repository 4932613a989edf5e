-- Images by a real BuildKit over TLS, as the other builders make them.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
local check, lab = require "check", require "lab"
local builders = require "lab.builders"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

builders.tests { "buildkit" }

test("buildkit without our certificate, or not there, is told as it is", function()
  local w = builders.world("buildkit", builders.shared(), "strangers")
  local commit = w.source:commit(lab.app { version = "one", dockerfile = builders.SCRATCH })
  local good = w.cfg.builder
  local function with(changes)
    w.cfg.builder = setmetatable(changes, { __index = good })
    return w.ensure(commit)
  end
  local refused = select(2, with { cert = false, key = false })
  has(tostring(refused), "buildctl ended with")
  -- The server's alert, or its end of the connection: whichever buildctl sees first.
  ok(refused.code == "failed" or refused.code == "reset", tostring(refused))
  has(tostring(fails("refused", with { address = "tcp://127.0.0.1:" .. lab.port() })), "buildctl ended with")
  fails("not_found", with { command = { "/nonexistent/buildctl" } })
  fails("not_found", w.registry:digest("sha-" .. commit))
  w.cfg.builder = good
  eq(ok(w.ensure(commit)).built, true)
  eq(require("images.builder.buildkit").available { builder = good }, true)
end, 120)

test("what buildctl says is read line by line, whatever it is", function()
  local out, progress = {}, {}
  local line, words = require("images.builder.buildkit").reader {
    output = function(stream, text) out[#out + 1] = stream .. " " .. text end,
    progress = function(text) progress[#progress + 1] = text end,
  }
  line('{"vertexes":[{"digest":"sha256:a","name":"[1/2] FROM x","started":"2026"}]}')
  line('{"vertexes":[{"digest":"sha256:a","name":"[1/2] FROM x","started":"2026","completed":"2026","cached":true}]}')
  line('{"vertexes":[{"digest":"sha256:a","name":"[1/2] FROM x","started":"2026","completed":"2026","cached":true}]}')
  line('{"logs":[{"vertex":"sha256:a","stream":2,"data":"b25lCnR3bwo="}]}')
  for _, hostile in ipairs {
    "{", '{"vertexes":7}', '{"vertexes":[7,null,{"digest":1,"name":{}}],"logs":[{"data":7},{"data":"%%"}]}', "{}", "",
    '{"logs":{"a":1}}',
  } do
    line(hostile)
  end
  eq(progress, { "[1/2] FROM x" })
  eq(out, { "stdout cached [1/2] FROM x", "stderr one", "stderr two", "stderr {" })
  line('{"vertexes":[{"digest":"sha256:b","name":"RUN x","error":"exit code: 1"}]}')
  eq(words(), "RUN x: exit code: 1")
end)
