lua
local staging = { policy = "staging", target = { kind = "docker", ports = { "8081:80" } } }
return {
  poll = "30s", state = "state", listen = "127.0.0.1:8420",
  registries = { ["127.0.0.1:5101"] = { username = "u", password = { env = "PATH" }, plain_http = true } },
  notify = { ops = { kind = "slack", url = { env = "PATH" } } },
  apps = {
    web = {
      source = "https://example.com/team/web.git", branch = "main", image = "127.0.0.1:5101/team/web",
      build = { args = { A = "1" }, timeout = "10m" },
      environments = { staging = staging, production = {
        accept = "minor", rollback = false, notify = { "ops" }, host = "web.example.com",
        target = { kind = "command", apply = { "/srv/deploy", "apply" } },
        verify = { { http = "http://127.0.0.1:8091/", status = 200, within = "30s", every = "1s" } },
      } },
    },
  },
}
