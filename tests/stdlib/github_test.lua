-- GitHub: what is asked, how often, and what is made of the answers. Against the stand-in of fixture/github.lua.
---@diagnostic disable: inject-field, need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: access-invisible -- sets clocks and counters behind the words, instead of waiting
local check = require "check"
local fixture = require "fixture.github"
local github = require "sources.github"
local task = require "task"
local time = require "time"
local test, eq, ok, fails, raises = check.test, check.eq, check.ok, check.fails, check.raises

local A, B, C = ("a"):rep(40), ("b"):rep(40), ("c"):rep(40)
local count = 0

-- A stand-in and a client for it, with a token of their own: accounts and feeds are shared by token.
local function open(fields)
  count = count + 1
  local token = "MOONCANARY-github-" .. count
  local hub = fixture.open { owner = "team", name = "web", token = token }
  check.defer(function() hub:close() end)
  local gh = github.repository { owner = "team", name = "web", api = hub.api, token = token }
  for key, value in pairs(fields or {}) do hub[key] = value end
  return hub, gh, token
end

-- Lets the feed be asked again at once; GitHub's own wish still counts.
local function hurry(hub, gh)
  hub.poll_interval = 0
  gh.feed.interval = 0
end

test("knows which addresses name a repository on GitHub", function()
  for _, address in ipairs { "https://github.com/team/web", "https://github.com/team/web.git",
    "https://GitHub.com/team/web.git/", "git@github.com:team/web.git", "ssh://git@github.com/team/web.git",
    "https://www.github.com/team/web" } do
    local owner, name = github.parse_source(address)
    eq({ owner, name }, { "team", "web" }, address)
  end
  for _, address in ipairs { "https://gitlab.com/team/web", "https://github.com/team", "https://github.com/team/web/x",
    "https://github.com.evil.com/team/web", "https://evil.com/github.com/team/web", "https://github.com/../web",
    "https://github.com/team/..", "https://github.com/-team/web", "/team/web", "", "https://github.com/te am/web" } do
    eq(github.parse_source(address), nil, address)
  end
  eq({ github.parse_source("git@ghe.example.com:a/b.c.git", "ghe.example.com") }, { "a", "b.c" })
  eq(github.parse_source("git@github.com:a/b", "ghe.example.com"), nil)
end)

test("mistakes of the caller are raised", function()
  raises("usage: github.repository", github.repository, {})
  raises("usage: github.repository", github.repository, { owner = "a/b", name = "c" })
  raises("bad option colour", github.repository, { owner = "a", name = "b", colour = "red" })
  raises("not sent over plain http", github.repository, { owner = "a", name = "b", api = "http://api.example.com" })
  raises("api is not an address", github.repository, { owner = "a", name = "b", api = "ftp://x" })
  local _, gh = open()
  raises("full commit ids", gh.compare, gh, "main", A)
  raises("usage: gh:set_status", gh.set_status, gh, A, { state = "great" })
  raises("usage: gh:set_status", gh.set_status, gh, "main", { state = "success" })
  raises("http or https address", gh.set_status, gh, A, { state = "success", url = "javascript:alert(1)" })
  raises("usage: gh:deploy", gh.deploy, gh, A, {})
  raises("usage: gh:set_deployment_status", gh.set_deployment_status, gh, "1", { state = "success" })
end)

test("every request says who asks, in which version, with the token", function()
  local hub, gh, token = open()
  ok(gh:events())
  local headers = hub:drain()[1].headers
  eq(headers["accept"], "application/vnd.github+json")
  eq(headers["x-github-api-version"], "2022-11-28")
  eq(headers["user-agent"], "moontide")
  eq(headers["authorization"], "Bearer " .. token)
end)

-- Events ------------------------------------------------------------------------------------------------------

test("the first look finds out where now is, later ones tell the news in their order", function()
  local hub, gh = open()
  hub:push("refs/heads/main", C, A, "before")
  eq(ok(gh:events()), {})
  hurry(hub, gh)
  gh.feed.next_at = 0
  hub:push("refs/heads/main", A, B, "ada")
  hub:create("tag", "v1.0.0", "bob")
  hub:delete("branch", "old", "eve")
  local news = ok(gh:events())
  eq(#news, 3)
  eq({ news[1].kind, news[1].ref, news[1].before, news[1].head, news[1].actor },
    { "push", "refs/heads/main", A, B, "ada" })
  eq({ news[2].kind, news[2].ref, news[2].actor }, { "create", "refs/tags/v1.0.0", "bob" })
  eq({ news[3].kind, news[3].ref }, { "delete", "refs/heads/old" })
  eq(ok(gh:events()), {})
  eq(gh:pushed("refs/heads/main", B).actor, "ada")
  eq(gh:pushed("refs/heads/main", A).actor, "before")
  eq(gh:pushed("refs/heads/other", B), nil)
end)

test("GitHub is not asked before its own interval is over", function()
  local hub, gh = open { poll_interval = 90 }
  ok(gh:events())
  ok(gh:next_poll() > 89 and gh:next_poll() <= 90)
  for _ = 1, 5 do eq(ok(gh:events()), {}) end
  eq(#hub:drain(), 1)
  local other, impolite = open { poll_interval = 1 }
  ok(impolite:events())
  ok(impolite:next_poll() > 59, "never more often than each minute, whatever the header says")
  eq(#other:drain(), 1)
  local _, huge = open { poll_interval = "99999999999999999999" }
  ok(huge:events())
  ok(huge:next_poll() <= 3600)
end)

test("an unchanged feed costs nothing: the tag comes back, the answer is 304", function()
  local hub, gh = open()
  hub:push("refs/heads/main", A, B)
  ok(gh:events())
  hurry(hub, gh)
  gh.feed.next_at = 0
  local left = hub.rate.remaining
  eq(ok(gh:events()), {})
  eq(hub.rate.remaining, left)
  local requests = hub:drain()
  eq(requests[1].headers["if-none-match"], nil)
  check.has(requests[2].headers["if-none-match"], 'W/"')
end)

test("an event is told once, however often it is sent and in whatever order", function()
  local hub, gh = open()
  ok(gh:events())
  hurry(hub, gh)
  gh.feed.next_at = 0
  local first, second = hub:push("refs/heads/main", A, B), hub:push("refs/heads/main", B, C)
  hub.events = { first, second, first }
  local news = ok(gh:events())
  eq({ #news, news[1].head, news[2].head }, { 2, B, C })
  hub.events = { second, first, hub:create("tag", "v2"), second }
  news = ok(gh:events())
  eq({ #news, news[1].ref }, { 1, "refs/tags/v2" })
end)

test("many events since the last look are read page by page, until one is known", function()
  local hub, gh = open { page_size = 2 }
  hub:push("refs/heads/main", C, A)
  ok(gh:events())
  hurry(hub, gh)
  gh.feed.next_at = 0
  for i = 1, 3 do hub:create("tag", "v" .. i) end
  hub:drain()
  eq(#ok(gh:events()), 3)
  local requests = hub:drain()
  eq(#requests, 2)
  eq(requests[2].path, "/repositories/1296269/events")
  for i = 1, 20 do hub:create("tag", "w" .. i) end
  eq(#ok(gh:events()), 6, "at most three pages")
  eq(#hub:drain(), 3)
end)

test("a link that leads elsewhere is not followed", function()
  local hub, gh = open { page_size = 1 }
  local thief = fixture.open { owner = "team", name = "web" }
  check.defer(function() thief:close() end)
  ok(gh:events())
  hurry(hub, gh)
  gh.feed.next_at = 0
  for i = 1, 3 do hub:create("tag", "v" .. i) end
  local genuine = hub.api
  hub.api = thief.api
  fails("redirect", gh:events())
  hub.api = genuine
  eq(thief:drain(), {})
end)

test("malformed and hostile events are left out", function()
  local hub, gh = open()
  ok(gh:events())
  hurry(hub, gh)
  gh.feed.next_at = 0
  for _, ref in ipairs { "main", "refs/heads/a\nb", "refs/heads/\27[31m", "refs/heads/..", "", ("x"):rep(5000) } do
    hub:push(ref, A, B)
  end
  hub:push("refs/heads/main", "zero", B)
  hub:push("refs/heads/main", A, A:upper())
  hub:event("PushEvent", "ada", { ref = 7 })
  hub:event("CreateEvent", "ada", { ref_type = "repository" })
  hub:event("IssuesEvent", "ada", { action = "opened" })
  hub:event("PushEvent", "ada", { ref = "refs/heads/main", head = B, before = A }, { id = ("9"):rep(100) })
  hub:event("PushEvent", "ada", { ref = "refs/heads/main", head = B, before = A }, { created_at = "yesterday" })
  hub:push("refs/heads/main", A, B, "e\27[2Jve")
  local news = ok(gh:events())
  eq(#news, 2)
  eq({ news[1].at, news[1].actor, news[2].actor }, { 0, "ada", "e [2Jve" })
end)

test("all who watch a repository with one token share its feed, and each gets all news", function()
  local hub, one, token = open()
  local two = github.repository { owner = "Team", name = "Web", api = hub.api .. "/", token = token }
  ok(one:events())
  ok(two:events())
  eq(#hub:drain(), 1)
  hurry(hub, one)
  one.feed.next_at = 0
  hub:push("refs/heads/main", A, B)
  eq(#ok(one:events()), 1)
  one.feed.next_at = time.monotonic() + 60
  eq(#ok(two:events()), 1)
  eq(#hub:drain(), 1)
end)

test("another token has another memory: tags belong to tokens", function()
  local hub, gh, token = open()
  hub:push("refs/heads/main", A, B)
  ok(gh:events())
  hub.token = "fresh-" .. token
  local fresh = github.repository { owner = "team", name = "web", api = hub.api, token = hub.token }
  ok(fresh:events())
  eq(hub:drain()[2].headers["if-none-match"], nil)
end)

test("following calls back on news, outlives failures and ends when it is cancelled", function()
  local hub, gh = open()
  local calls = {}
  gh.feed.interval = 0
  hub.poll_interval = 0
  local following = task.spawn(function() gh:follow(function(events) calls[#calls + 1] = #events end) end)
  check.eventually(function() return #hub.requests > 0 end)
  hub.intercept = function() return { status = 500, body = "boom" } end
  time.sleep(1.1)
  hub.intercept = nil
  hub:push("refs/heads/main", A, B)
  check.eventually(function() return #calls > 0 end, 5)
  eq(calls[1], 1)
  following:cancel()
  local seen = #hub.requests
  time.sleep(1.2)
  eq(#hub.requests, seen)
end)

-- Compare -----------------------------------------------------------------------------------------------------

test("tells a push from a reset from a forced push", function()
  local hub, gh = open()
  hub.comparisons = { [A .. "..." .. B] = { ahead = 3, behind = 0 }, [B .. "..." .. A] = { ahead = 0, behind = 3 },
    [A .. "..." .. C] = { ahead = 2, behind = 1 } }
  eq(ok(gh:compare(A, B)), { status = "ahead", kind = "push", ahead = 3, behind = 0 })
  eq(ok(gh:compare(B, A)), { status = "behind", kind = "reset", ahead = 0, behind = 3 })
  eq(ok(gh:compare(A, C)), { status = "diverged", kind = "force", ahead = 2, behind = 1 })
  eq(#hub:drain(), 3)
  eq(ok(gh:compare(A, A)), { status = "identical", kind = "none", ahead = 0, behind = 0 })
  eq(#hub:drain(), 0, "not asked")
  local gone = ok(gh:compare(C, A))
  eq({ gone.kind, gone.missing }, { "force", true })
  local request = hub:drain()[1]
  eq({ request.query.per_page, request.query.page }, { "1", "2" })
end)

-- Reports -----------------------------------------------------------------------------------------------------

test("sets a commit status", function()
  local hub, gh = open()
  ok(gh:set_status(A, { state = "success", context = "moontide/staging", url = "https://web.example.com/",
    description = "released\n" .. ("x"):rep(200) }))
  local status = hub.statuses[A][1]
  eq({ status.state, status.context, status.target_url }, { "success", "moontide/staging", "https://web.example.com/" })
  eq(#status.description, 140)
  check.has(status.description, "released x")
end)

test("a deployment merges nothing, waits for no checks and is found again by its key", function()
  local hub, gh = open()
  local id = ok(gh:deploy(A, { environment = "a b/ü", production = true, key = "run-7", description = "v1" }))
  local sent = hub:drain()
  eq({ sent[1].method, sent[1].query.environment }, { "GET", "a b/ü" })
  eq({ sent[2].body.auto_merge, sent[2].body.required_contexts, sent[2].body.ref, sent[2].body.payload.key },
    { false, {}, A, "run-7" })
  eq(ok(gh:deploy(A, { environment = "a b/ü", key = "run-7" })), id)
  eq(#hub.deployments, 1)
  ok(ok(gh:deploy(A, { environment = "a b/ü", key = "run-8" })) ~= id)
  ok(gh:set_deployment_status(id, { state = "in_progress", log_url = "https://moontide.example.com/run/7" }))
  ok(gh:set_deployment_status(id, { state = "success", description = ("ü"):rep(200) }))
  eq(hub.states, { "in_progress", "success" })
  fails("not_found", gh:set_deployment_status(99999, { state = "success" }))
end)

test("reports go one after the other, at least a second apart", function()
  local hub, gh = open()
  local at = {}
  hub.intercept = function() at[#at + 1] = time.monotonic() end
  local tasks = {}
  for i = 1, 3 do
    tasks[i] = task.spawn(function() ok(gh:set_status(A, { state = "pending", context = "c" .. i })) end)
  end
  for _, t in ipairs(tasks) do t:join() end
  eq(#at, 3)
  ok(at[3] - at[1] >= 1) -- 2 s, and the first may have been late to arrive
end)

-- Limits ------------------------------------------------------------------------------------------------------

test("when the hour's requests are spent, everybody with the token waits until the reset", function()
  local hub, gh, token = open()
  hub.rate = { limit = 5000, remaining = 0, reset = math.floor(time.now()) + 1234 }
  local err = fails("rate_limited", gh:compare(A, B))
  ok(err.retry_after > 1200 and err.retry_after < 1234 * 1.11, tostring(err.retry_after))
  check.has(tostring(err.message), "API rate limit exceeded")
  eq(#hub:drain(), 1)
  local neighbour = github.repository { owner = "team", name = "other", api = hub.api, token = token }
  fails("rate_limited", neighbour:set_status(A, { state = "success" }))
  fails("rate_limited", gh:events())
  ok(gh:next_poll() > 1200)
  eq(#hub:drain(), 0, "nobody asked meanwhile")
end)

test("the last request of the hour is answered, the next is not sent", function()
  local hub, gh = open()
  hub.rate.remaining, hub.rate.limit = 1, 60
  hub.comparisons = { [A .. "..." .. B] = { ahead = 1, behind = 0 } }
  ok(gh:compare(A, B))
  eq(gh:quota().remaining, 0)
  fails("rate_limited", gh:compare(A, B))
  eq(#hub:drain(), 1)
end)

test("secondary limits: the named time, or a minute that doubles", function()
  local hub, gh = open()
  hub.intercept = function()
    return { status = 429, headers = { ["Retry-After"] = "7" }, body = { message = "slow down" } }
  end
  local err = fails("rate_limited", gh:compare(A, B))
  ok(err.retry_after >= 7 and err.retry_after <= 7.7)
  hub, gh = open()
  hub.intercept = function()
    return { status = 403, body = { message = "You have exceeded a secondary rate limit. Please wait." } }
  end
  err = fails("rate_limited", gh:compare(A, B))
  ok(err.retry_after >= 60 and err.retry_after <= 66)
  gh.account.share.held_until = 0
  err = fails("rate_limited", gh:compare(A, B))
  ok(err.retry_after >= 120 and err.retry_after <= 132)
end)

test("absurd limits are clamped", function()
  for _, headers in ipairs { { ["Retry-After"] = "99999999" }, { ["X-RateLimit-Remaining"] = "0",
    ["X-RateLimit-Reset"] = "99999999999" } } do
    local hub, gh = open()
    hub.intercept = function() return { status = 403, headers = headers, body = { message = "no" } } end
    local held = fails("rate_limited", gh:compare(A, B)).retry_after
    ok(held <= 3600 * 1.1, tostring(held))
  end
  local hub, gh = open()
  hub.rate = { limit = 10, remaining = 0, reset = 1 }
  ok(fails("rate_limited", gh:compare(A, B)).retry_after <= 1.1)
end)

-- Troubles ----------------------------------------------------------------------------------------------------

test("a refusal is an error in GitHub's own words, without anything foul in them", function()
  local hub, gh, token = open()
  local function answer(status, body, headers)
    hub.intercept = function() return { status = status, body = body, headers = headers } end
    gh.account.share.held_until = 0
    gh.account.share.failures = 0
    return gh:compare(A, B)
  end
  local err = fails("unauthorized", answer(401, { message = "Bad credentials" }))
  check.has(err.message, "Bad credentials")
  err = fails("denied", answer(403, { message = "Resource not accessible by integration" },
    { ["X-Accepted-GitHub-Permissions"] = "contents=read" }))
  check.has(err.message, "contents=read")
  err = fails("invalid", answer(422, { message = "Validation Failed", errors = { { field = "sha", code = "missing" },
    "words", { message = "No commit found" } } }))
  check.has(err.message, "missing (sha); words; No commit found")
  err = fails("conflict", answer(409, { message = "Git Repository is \27[31mempty\n.\0" }))
  check.has(err.message, "is [31mempty .")
  fails("unsupported", answer(410, { message = "gone" }))
  err = fails("status", answer(502, "<html>Unicorn!</html>"))
  eq(err.status, 502)
  fails("protocol", answer(200, "<html>sign in</html>"))
  fails("protocol", answer(200, "7"))
  fails("protocol", answer(200, { ahead_by = "many" }))
  fails("status", answer(500, { message = { "not", "text" } }))
  fails("too_large", answer(200, ('"' .. ("x"):rep(9 * 1024 * 1024) .. '"')))
  eq(tostring(err):find(token, 1, true), nil)
end)

test("a renamed repository is followed for good", function()
  local hub, gh = open()
  hub.comparisons = { [A .. "..." .. B] = { ahead = 1, behind = 0 } }
  hub.moved = true
  eq(ok(gh:compare(A, B)).kind, "push")
  local requests = hub:drain()
  eq({ #requests, requests[2].path, requests[2].query.page },
    { 2, ("/repositories/1296269/compare/%s...%s"):format(A, B), "2" })
  ok(gh:set_status(A, { state = "success" }))
  eq(#hub:drain(), 1)
end)

test("a report to a renamed repository arrives, once", function()
  local hub, gh = open()
  hub.moved = true
  ok(gh:set_status(A, { state = "success" }))
  eq(#hub.statuses[A], 1)
  eq(hub:drain()[2].body.state, "success")
end)

test("the token goes to nobody else", function()
  local hub, gh = open()
  local thief = fixture.open { owner = "team", name = "web" }
  check.defer(function() thief:close() end)
  for _, status in ipairs { 301, 302, 307, 308 } do
    for _, location in ipairs { thief.api .. "/x", "//127.0.0.1:" .. thief.server.port .. "/x",
      "https://127.0.0.1:" .. thief.server.port, "", "ftp://x/y" } do
      hub.intercept = function() return { status = status, body = "", headers = { Location = location } } end
      local value, err = gh:compare(A, B)
      eq(value, nil)
      ok(err.code)
      gh.account.share.held_until, gh.account.share.failures = 0, 0
    end
  end
  eq(thief:drain(), {})
end)

test("redirects in a circle end", function()
  local hub, gh = open()
  hub.intercept = function(request)
    return { status = 302, body = "", headers = { Location = hub.api .. request.path } }
  end
  fails("redirect", gh:compare(A, B))
  ok(#hub:drain() <= 4)
end)

test("a dead GitHub is an error with its reason", function()
  local hub, gh = open()
  hub:close()
  local err = fails("refused", gh:compare(A, B))
  eq(err.op, "github.compare")
end)
