-- The kinds that we know by name, and the paths of their objects. Others are found by discovery (resources.lua).
--
-- Versions: those that every server since 1.25 has (Kubernetes deprecation guide).
local http = require "http"

local M = {}

---@class KubernetesKind
---@field api_version string "apps/v1"
---@field kind string "Deployment"
---@field plural string "deployments"
---@field namespaced boolean

local KNOWN <const> = {
  { "v1", "ConfigMap", "configmaps", true, "cm" },
  { "v1", "Endpoints", "endpoints", true },
  { "v1", "Event", "events", true },
  { "v1", "LimitRange", "limitranges", true },
  { "v1", "Namespace", "namespaces", false, "ns" },
  { "v1", "Node", "nodes", false, "no" },
  { "v1", "PersistentVolume", "persistentvolumes", false, "pv" },
  { "v1", "PersistentVolumeClaim", "persistentvolumeclaims", true, "pvc" },
  { "v1", "Pod", "pods", true, "po" },
  { "v1", "PodTemplate", "podtemplates", true },
  { "v1", "ReplicationController", "replicationcontrollers", true },
  { "v1", "ResourceQuota", "resourcequotas", true },
  { "v1", "Secret", "secrets", true },
  { "v1", "Service", "services", true, "svc" },
  { "v1", "ServiceAccount", "serviceaccounts", true, "sa" },
  { "admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", false },
  { "admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", false },
  { "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", false, "crd" },
  { "apps/v1", "ControllerRevision", "controllerrevisions", true },
  { "apps/v1", "DaemonSet", "daemonsets", true, "ds" },
  { "apps/v1", "Deployment", "deployments", true, "deploy" },
  { "apps/v1", "ReplicaSet", "replicasets", true, "rs" },
  { "apps/v1", "StatefulSet", "statefulsets", true, "sts" },
  { "autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", true, "hpa" },
  { "batch/v1", "CronJob", "cronjobs", true, "cj" },
  { "batch/v1", "Job", "jobs", true },
  { "coordination.k8s.io/v1", "Lease", "leases", true },
  { "discovery.k8s.io/v1", "EndpointSlice", "endpointslices", true },
  { "networking.k8s.io/v1", "Ingress", "ingresses", true, "ing" },
  { "networking.k8s.io/v1", "IngressClass", "ingressclasses", false },
  { "networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", true, "netpol" },
  { "policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", true, "pdb" },
  { "rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", false },
  { "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", false },
  { "rbac.authorization.k8s.io/v1", "Role", "roles", true },
  { "rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", true },
  { "scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", false, "pc" },
  { "storage.k8s.io/v1", "StorageClass", "storageclasses", false, "sc" },
}

local by_word, by_gvk = {}, {} ---@type table<string, KubernetesKind>, table<string, KubernetesKind>
for _, row in ipairs(KNOWN) do
  local kind = { api_version = row[1], kind = row[2], plural = row[3], namespaced = row[4] }
  by_word[kind.kind:lower()], by_word[kind.plural] = kind, kind
  if row[5] then by_word[row[5]] = kind end
  by_gvk[kind.api_version .. " " .. kind.kind] = kind
end

---Looks a kind up by a word that people use: "deployment", "Deployment", "deployments", "deploy".
---@param word string
---@return KubernetesKind?
function M.find(word) return by_word[word:lower()] end

---Looks a kind up as an object names it.
---@param api_version string "apps/v1"
---@param kind string "Deployment"
---@return KubernetesKind?
function M.of(api_version, kind) return by_gvk[api_version .. " " .. kind] end

---The path of an object, or of a list when there is no name.
---@param kind KubernetesKind
---@param namespace? string nil: all namespaces, or a kind that lives in none
---@param name? string
---@return string
function M.path(kind, namespace, name)
  ---@type string[]
  local parts = { (kind.api_version:find("/", 1, true) and "/apis/" or "/api/") .. kind.api_version }
  if kind.namespaced and namespace then parts[2] = "namespaces/" .. http.escape(namespace) end
  parts[#parts + 1] = kind.plural
  parts[#parts + 1] = name and http.escape(name)
  return table.concat(parts, "/")
end

---What a path is about, for messages.
---@param path string
---@return {resource: string, namespace?: string, name?: string}
function M.about(path)
  local rest = path:match("^/api/[^/]+/(.+)$") or path:match("^/apis/[^/]+/[^/]+/(.+)$")
  if not rest then return { resource = path } end
  local namespace, inside = rest:match("^namespaces/([^/]+)/(.+)$")
  local resource, name, sub = (inside or rest):match("^([^/]+)/?([^/]*)/?(.*)$") ---@cast resource string
  if sub ~= "" then resource = resource .. "/" .. sub end
  return { resource = resource, namespace = namespace, name = name ~= "" and name or nil }
end

return M
