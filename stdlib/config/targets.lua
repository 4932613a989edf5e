-- The keys of each built-in kind of targets.
local names = require "config.names"
local s = require "base.schema"
local shapes = require "config.shapes"

local with, text, argument, command, file = shapes.with, shapes.text, shapes.argument, shapes.command, shapes.file
local folder_path, env_map, plain_env = shapes.folder_path, shapes.env_map, shapes.plain_env

local port = s.text {
  plural = "published ports", what = "a published port",
  verify = function(value, at)
    if not names.published(value) then
      return at:fault("is not a published port", 'for example "8080:80" or "127.0.0.1:8080:80"')
    end
    return value
  end,
}

local size = function(doc)
  return text(doc, {
    what = "a size",
    verify = function(value, at)
      local number, unit = value:match("^(%d+)([kmg]?)$")
      if not number or #number > 12 then return at:fault("is not a size", 'for example "64m" or "1g"') end
      local factors <const> = { [""] = 1, k = 1024, m = 1048576, g = 1073741824 }
      return math.tointeger(tonumber(number)) --[[@as integer]] * factors[unit]
    end,
  })
end

local container_name = with(function(value)
  if not value:find("^[%w][%w_.-]*$") then return "is not a container name" end
end)

local function cross_docker(target, environment, at, cross)
  target.name = target.name or table.concat({ environment.app, environment.name, environment.part }, "-")
  cross.claim("this container name", target.socket .. " " .. target.name, at, "name", "give each its own name")
  for i, published in ipairs(target.ports or {}) do
    local it = names.published(published)
    if it then
      cross.claim("this port", ("%s %s %d"):format(target.socket, it.protocol, it.host), at:child("ports"):child(i),
        nil, "give each environment a port of its own")
    end
  end
end

return {
  docker = s.record({
    { "name", text("Base name of the container. Default: APP-ENVIRONMENT.", { verify = container_name, max = 100 }) },
    { "socket", text("Socket of the Docker Engine.", { default = "/var/run/docker.sock" }) },
    { "ports", s.list(port, { doc = "Ports to publish.", default = {} }) },
    { "network", text("Network of the container. Default: the engine's.") },
    { "env", env_map "Environment of the container; secrets by reference." },
    { "volumes", s.list(s.text { plural = "text" }, { doc = 'Mounts, "source:/path[:ro]".', default = {} }) },
    { "command", command "Arguments instead of the image's own." },
    { "user", text("User inside the container.") },
    { "memory", size 'Limit, for example "256m".' },
    { "labels", s.map(s.text(), argument, { doc = "Labels of the container.", default = {} }) },
    { "restart", s.choice({ "no", "always", "unless-stopped", "on-failure" },
      { doc = "When the engine starts it again.", default = "unless-stopped" }) },
    { "stop_timeout", s.duration { doc = "Time to stop before it is killed.", default = "10s", max = 3600 } },
    { "timeout", s.duration { doc = "Time for a new container to become healthy.", default = "2m", min = 1 } },
  }, { doc = "A container of the Docker Engine, through its socket.", cross = cross_docker }),
  podman = s.record({
    { "yaml", file("Kubernetes YAML to play; the image in it is replaced by digest.",
      { required = true, example = '"web.yaml"' }) },
    { "container", text("Name of the container that gets the image. Default: the only one.") },
    { "network", text("Network to join.") },
    { "env", plain_env "Environment of the podman command." },
    { "timeout", s.duration { doc = "Time for the pod to run.", default = "2m", min = 1 } },
  }, { doc = "Pods of podman on this machine, through `podman kube play`." }),
  command = s.record({
    { "apply", command("Puts a release in place. IMAGE, DIGEST, COMMIT, VERSION, APP and ENVIRONMENT are in its"
      .. " environment.", { required = true, example = '{ "/srv/deploy", "apply" }' }) },
    { "current", command("Prints the digest that runs, or nothing.") },
    { "wait", command("Exits with 0 when the release runs.") },
    { "destroy", command("Takes down what runs, for orders and for branches that are gone.") },
    { "cwd", folder_path "Folder to run them in. Default: the configuration's." },
    { "env", env_map "Further environment of the programs." },
    { "timeout", s.duration { doc = "Time for each of them.", default = "10m", min = 1 } },
  }, { doc = "Programs of your own." }),
  kubernetes = s.record({
    { "cluster", text("Cluster it runs in: a name of `clusters`.", { default = "default" }) },
    { "namespace", text("Namespace. Default: the cluster's.",
      { what = "a namespace", verify = with(names.namespace) }) },
    { "workload", text("What gets the image: deployment/NAME, statefulset/NAME, daemonset/NAME or cronjob/NAME.",
      { required = true, what = "a workload", verify = shapes.workload, example = '"deployment/web"' }) },
    { "containers", s.list(s.text { plural = "container names", verify = shapes.label_name },
      { doc = "Containers that get the image. Default: the only one.", default = {} }) },
    { "init_containers", s.list(s.text { plural = "container names", verify = shapes.label_name },
      { doc = "Init containers that get it too.", default = {} }) },
    { "manifests", shapes.inside("Manifests in the repository, a folder or a file: applied whole at the released"
      .. " commit. Left out: only the image is changed.") },
    { "server_side", s.boolean { doc = "Change the image by server-side apply, taking it from other field managers,"
      .. " instead of by a strategic merge.", default = false } },
    { "patience", s.duration { doc = "How long a pod may fail (pull, crash) before the release does.",
      default = "30s", min = 0 } },
    { "timeout", s.duration { doc = "Time for a rollout.", default = "10m", min = 1 } },
  }, { doc = "A workload of a Kubernetes cluster.", cross = shapes.cross_workload }),
}
