-- What Moontide delivers, and where. `moontide check` reads it and says what is wrong, all at once;
-- `moontide help config` explains every key. The same shape may be written as JSON or YAML.
--
-- Secrets never stand here: only { env = "NAME" } or { file = "/path" }, where they are found when they are needed.

-- What both environments have in common. A configuration is a Lua program that can compute, and nothing else.
local function container(port)
  return { kind = "docker", ports = { ("127.0.0.1:%d:8080"):format(port) } }
end

local function answers(port)
  return { http = ("http://127.0.0.1:%d/"):format(port), status = 200, within = "30s" }
end

return {
  poll = "30s",
  listen = "127.0.0.1:8420", -- /healthz, /readyz, /metrics
  -- state = "/var/lib/moontide",
  -- scripts = "../scripts", -- policies of your own instead of those inside the program

  -- registries = {
  --   ["ghcr.io"] = { username = "team", password = { env = "REGISTRY_TOKEN" } },
  --   ["127.0.0.1:5000"] = { plain_http = true },
  -- },
  -- credentials = { ["git.example.com"] = { username = "moontide", password = { file = "/run/secrets/git" } } },
  -- chart_repositories = { main = { url = "https://charts.example.com" } }, -- moontide help charts
  -- github = { token = { env = "GITHUB_TOKEN" } }, -- reads who pushed what, writes commit statuses
  -- notify = { ops = { kind = "slack", url = { env = "SLACK_URL" } } },

  apps = {
    hello = {
      source = "https://github.com/example/hello.git",
      branch = "main",
      image = "127.0.0.1:5000/example/hello",
      environments = {
        -- Every push to the branch, forwards and back.
        staging = {
          policy = "staging",
          target = container(8081),
          verify = { answers(8081) },
        },
        -- Every new version tag above the one that runs.
        production = {
          policy = "production",
          accept = "minor", -- not to 2.0.0 by itself
          settings = { proven_by = "staging" }, -- only what staging has run well, and that very image
          watch_for = "10m",
          target = container(8082),
          verify = { answers(8082) },
        },
      },
    },
  },
}
