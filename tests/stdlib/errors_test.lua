-- What may pass and what may not: one judge for errors, statuses and the words of other programs.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local errors, json = require "errors", require "json"
local failure, network = require "images.builder.failure", require "base.network"
local test, eq = check.test, check.eq

test("whether an error may pass is told by its code, its status, or by whoever made it", function()
  for _, code in ipairs { "timeout", "refused", "unreachable", "dns", "reset", "closed", "busy", "rate_limited", "io",
    "full" } do
    eq(errors.passing(errors.new(code, "x")), true, code)
    eq(errors.passing(errors.new(code, "x", { passing = false })), false, code .. ", decided")
  end
  for _, code in ipairs { "unhealthy", "failed", "exit", "denied", "unauthorized", "not_found", "invalid", "conflict",
    "cancelled", "deadline", "budget", "memory", "diverged", "internal", "mismatch", "tls", "exists" } do
    eq(errors.passing(errors.new(code, "x")), false, code)
    eq(errors.passing(errors.new(code, "x", { passing = true })), true, code .. ", decided")
  end
  for status, passes in pairs { [408] = true, [429] = true, [500] = true, [502] = true, [503] = true, [504] = true,
    [400] = false, [401] = false, [404] = false, [409] = false, [501] = false, [505] = false, [200] = false } do
    eq(errors.passing(status), passes, status)
    eq(errors.passing(errors.new("status", "x", { status = status })), passes, status)
  end
  for _, value in ipairs { "refused", { "refused" }, true, 5.5 } do eq(errors.passing(value), false) end
end)

test("whether it may pass survives the journal and what scripts raise, and is written only where it matters", function()
  local there = errors.plain(errors.new("failed", "x", { passing = true }))
  eq(errors.passing(errors.new(there.code, there.message, json.decode(json.encode(there)))), true)
  eq(errors.plain(errors.new("timeout", "x", { passing = false })).passing, false)
  eq(errors.plain(errors.new("timeout", "x")).passing, nil)
  eq(errors.plain(errors.new("status", "x", { status = 503 })).passing, true)
  eq(errors.passing(errors.clean { code = "failed", message = "x", passing = true }), true)
  eq(errors.passing(errors.clean { code = "refused", message = "x", passing = "no" }), true)
  eq(errors.passing(errors.clean(setmetatable({}, { __index = function() error "never" end }))), false)
end)

test("the words of other programs tell what of the network failed", function()
  for words, code in pairs {
    ["dial tcp: lookup registry.example: no such host"] = "dns",
    ["dial tcp: lookup r on 127.0.0.53:53: server misbehaving"] = "dns",
    ['Get "http://127.0.0.1:5999/v2/": dial tcp 127.0.0.1:5999: connect: connection refused'] = "refused",
    ["fatal: unable to access: Failed to connect: Connection refused"] = "refused",
    ["connect: no route to host"] = "unreachable",
    ['Get "https://h/v2/": net/http: TLS handshake timeout'] = "timeout",
    ["read tcp 10.0.0.1:1->10.0.0.2:443: i/o timeout"] = "timeout",
    ["net/http: request canceled (Client.Timeout exceeded while awaiting headers)"] = "timeout",
    ["read: connection reset by peer"] = "reset", ['Get "https://h/v2/": EOF'] = "reset",
    ["toomanyrequests: You have reached your pull rate limit"] = "rate_limited",
    ["received unexpected HTTP status: 503 Service Unavailable"] = "busy",
    ["write /var/lib/x: no space left on device"] = "full",
  } do eq(network.code(words), code, words) end
  for _, words in ipairs { "", "manifest unknown", "unknown instruction: EOF", "unauthorized: authentication required",
    "port is already allocated", 'stat "/foo": no such file or directory' } do
    eq(network.code(words), nil, words)
  end
end)

test("a build that fails for want of the network or of its base image may pass; its own command's failure does not",
  function()
    local about = { op = "image.build" }
    for words, passes in pairs {
      ['creating build container: initializing source docker://h/b: pinging container registry h: Get "http://h/v2/": '
        .. "dial tcp: connect: connection refused"] = true,
      ["creating build container: reading manifest 1 in h/base: manifest unknown"] = true,
      ["failed to solve: h/base:1: failed to resolve source metadata for h/base:1: h/base:1: not found"] = true,
      ["failed to solve with frontend dockerfile.v0: failed to create LLB definition: h/base:1: not found"] = true,
      ["pull access denied for base, repository does not exist or may require 'docker login'"] = true,
      ["manifest for h/base:1 not found: manifest unknown: manifest unknown"] = true,
      ['process "/bin/sh -c curl h | grep connection refused" did not complete successfully: exit code: 7'] = false,
      ["The command '/bin/sh -c echo no such host; false' returned a non-zero code: 1"] = false,
      ['building at STEP "RUN echo i/o timeout": while running runtime: exit status 1'] = false,
      ["dockerfile parse error line 3: unknown instruction: FRM"] = false,
      ['building at STEP "COPY foo /": checking on sources: stat: "/foo": no such file or directory'] = false,
    } do
      eq(errors.passing(failure.new(words, "it failed", about)), passes, words)
    end
    local _, late = failure.too_long("it took longer than 2s", about)
    eq({ late.code, errors.passing(late) }, { "timeout", false })
  end)
