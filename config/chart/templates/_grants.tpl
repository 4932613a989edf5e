{{- /*
What Moontide needs in which namespace, as JSON: NAMESPACE -> {
  workloads: { PLURAL: { NAME: may it patch } }, discover: bool, jobs: bool, cronjobs: { NAME: true }, pods: bool,
  events: bool, manifests: bool, lease: NAME }
*/ -}}
{{- define "moontide.grants" -}}
{{- $own := .Release.Namespace -}}
{{- $grants := dict -}}
{{- $plurals := dict "deployment" "deployments" "statefulset" "statefulsets" "daemonset" "daemonsets" "cronjob" "cronjobs" -}}
{{- $c := include "moontide.config" . | fromJson -}}
{{- range $app := $c.apps -}}
{{- range $environment := default dict $app.environments -}}
{{- $t := default dict $environment.target -}}
{{- if and (has $t.kind (list "kubernetes" "keel")) (eq (default "default" $t.cluster) "default") -}}
  {{- $ns := default $own $t.namespace -}}
  {{- $g := default (dict "workloads" dict "cronjobs" dict) (get $grants $ns) -}}
  {{- if $t.workload -}}
  {{- $parts := splitList "/" $t.workload -}}
  {{- $plural := get $plurals (lower (first $parts)) -}}
  {{- $named := default dict (get $g.workloads $plural) -}}
  {{- $patch := or (eq $t.kind "kubernetes") (eq "true" (toString (get $named (last $parts)))) -}}
  {{- $_ := set $named (last $parts) $patch -}}
  {{- $_ := set $g.workloads $plural $named -}}
  {{- end -}}
  {{- $_ := set $g "pods" true -}}
  {{- $_ := set $g "events" true -}}
  {{- if $t.manifests }}{{ $_ := set $g "manifests" true }}{{ end -}}
  {{- $_ := set $grants $ns $g -}}
{{- else if and (eq (default "" $t.kind) "helmsman") (kindIs "map" $t.run) (eq (default "default" $t.cluster) "default") -}}
  {{- $parts := splitList "/" $t.run.cronjob -}}
  {{- $ns := ternary (first $parts) $own (gt (len $parts) 1) -}}
  {{- $g := default (dict "workloads" dict "cronjobs" dict) (get $grants $ns) -}}
  {{- $_ := set $g.cronjobs (last $parts) true -}}
  {{- $_ := set $g "jobs" true -}}
  {{- $_ := set $grants $ns $g -}}
{{- end -}}
{{- range $check := default list $environment.verify -}}
{{- if and $check.job (eq (default "default" $check.cluster) "default") -}}
  {{- $ns := default (default $own $t.namespace) $check.namespace -}}
  {{- $g := default (dict "workloads" dict "cronjobs" dict) (get $grants $ns) -}}
  {{- if hasPrefix "cronjob/" (toString $check.job) }}{{ $_ := set $g.cronjobs (trimPrefix "cronjob/" $check.job) true }}{{ end -}}
  {{- $_ := set $g "jobs" true -}}
  {{- $_ := set $grants $ns $g -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if eq "job" (toString (default dict $c.builder).kind) -}}
{{- if eq (default "default" $c.builder.cluster) "default" -}}
  {{- $ns := default $own $c.builder.namespace -}}
  {{- $g := default (dict "workloads" dict "cronjobs" dict) (get $grants $ns) -}}
  {{- $_ := set $g "jobs" true -}}
  {{- $_ := set $grants $ns $g -}}
{{- end -}}
{{- end -}}
{{- if and $c.keel (eq (default "default" $c.keel.cluster) "default") -}}
{{- range $ns := default list $c.keel.namespaces -}}
  {{- $g := default (dict "workloads" dict "cronjobs" dict) (get $grants $ns) -}}
  {{- $_ := set $g "discover" true -}}
  {{- $_ := set $grants $ns $g -}}
{{- end -}}
{{- end -}}
{{- if $c.leader -}}
{{- if eq (default "default" $c.leader.cluster) "default" -}}
  {{- $ns := default $own $c.leader.namespace -}}
  {{- $g := default (dict "workloads" dict "cronjobs" dict) (get $grants $ns) -}}
  {{- $_ := set $g "lease" $c.leader.lease -}}
  {{- $_ := set $grants $ns $g -}}
{{- end -}}
{{- end -}}
{{- toJson $grants -}}
{{- end -}}

{{- /* Whether keel's annotations are looked for in all namespaces: the one thing that needs a ClusterRole. */ -}}
{{- define "moontide.everywhere" -}}
{{- $c := include "moontide.config" . | fromJson -}}
{{- if hasKey $c "keel" -}}
{{- if and (not (default list $c.keel.namespaces)) (eq (default "default" $c.keel.cluster) "default") -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Whether keel's annotations are obeyed, and images must fit the nodes: those have no namespace. */ -}}
{{- define "moontide.nodes" -}}
{{- $c := include "moontide.config" . | fromJson -}}
{{- if hasKey $c "keel" -}}
{{- if and (ne "false" (toString (get $c.keel "platforms"))) (eq (default "default" $c.keel.cluster) "default") -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Whether the pod needs a token of its service account. */ -}}
{{- define "moontide.token" -}}
{{- if or (include "moontide.everywhere" .) .Values.rbac.extra (ne "{}" (include "moontide.grants" .)) -}}true{{- else -}}false{{- end -}}
{{- end -}}

{{- define "moontide.discover" -}}
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets]
  verbs: [get, list, watch, patch]
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, list, watch, patch]
{{- end -}}

{{- /* The rules of one namespace's grant, as YAML. */ -}}
{{- define "moontide.rules" -}}
{{- $g := .grant }}
{{- if $g.discover }}
{{ include "moontide.discover" . }}
{{- end }}
{{- range $plural := keys $g.workloads | sortAlpha }}
{{- $named := get $g.workloads $plural }}
{{- range $patch := list true false }}
{{- $names := list }}
{{- range $name, $may := $named }}{{ if eq $may $patch }}{{ $names = append $names $name }}{{ end }}{{ end }}
{{- if $names }}
- apiGroups: [{{ ternary "batch" "apps" (eq $plural "cronjobs") }}]
  resources: [{{ $plural }}]
  resourceNames: [{{ join ", " (sortAlpha $names) }}]
  verbs: [get, list, watch{{ if $patch }}, patch{{ end }}]
{{- end }}
{{- end }}
{{- end }}
{{- if $g.manifests }}
- apiGroups: [apps]
  resources: [{{ without (keys $g.workloads | sortAlpha) "cronjobs" | join ", " }}]
  verbs: [create]
{{- range .root.Values.rbac.manifests }}
- apiGroups: {{ toJson .apiGroups }}
  resources: {{ toJson .resources }}
  verbs: [get, create, patch]
{{- end }}
{{- end }}
{{- if $g.cronjobs }}
- apiGroups: [batch]
  resources: [cronjobs]
  resourceNames: [{{ keys $g.cronjobs | sortAlpha | join ", " }}]
  verbs: [get]
{{- end }}
{{- if $g.jobs }}
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, get, list, watch, delete]
{{- else if hasKey $g.workloads "cronjobs" }}
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch]
{{- end }}
{{- if or $g.pods $g.jobs $g.discover }}
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch{{ if and .root.Values.rbac.deleteStuckPods (hasKey $g.workloads "statefulsets") }}, delete{{ end }}]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end }}
{{- if or $g.pods $g.discover }}
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}
{{- if $g.lease }}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ $g.lease }}]
  verbs: [get, update]
{{- end }}
{{- end -}}
