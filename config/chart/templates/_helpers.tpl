{{- define "moontide.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "moontide.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "moontide.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "moontide.selector" -}}
app.kubernetes.io/name: {{ include "moontide.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "moontide.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "moontide.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "moontide.account" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "moontide.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "moontide.image" -}}
{{- $i := .Values.image -}}
{{- if $i.digest -}}
{{- printf "%s@%s" $i.repository $i.digest -}}
{{- else -}}
{{- printf "%s:%s" $i.repository (default .Chart.AppVersion $i.tag) -}}
{{- end -}}
{{- end -}}

{{- define "moontide.claim" -}}
{{- default (include "moontide.fullname" .) .Values.persistence.existingClaim -}}
{{- end -}}

{{- /* Moontide's configuration: the values', and what the chart decides. */ -}}
{{- define "moontide.config" -}}
{{- $c := deepCopy .Values.config -}}
{{- $_ := set $c "state" "/var/lib/moontide/state" -}}
{{- $_ := set $c "listen" "0.0.0.0:8420" -}}
{{- $name := include "moontide.fullname" . -}}
{{- $names := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) -}}
{{- if .Values.ingress.enabled }}{{ $names = concat $names .Values.ingress.hosts }}{{ end -}}
{{- $_ := set $c "hosts" (concat $names (default list $c.hosts) | uniq) -}}
{{- if .Values.policies -}}
{{- $_ := set $c "scripts" "/etc/moontide/scripts" -}}
{{- end -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- $given := default dict $c.leader -}}
{{- $_ := set $c "leader" (merge (deepCopy $given) (dict "lease" (include "moontide.fullname" .) "namespace" .Release.Namespace)) -}}
{{- end -}}
{{- toPrettyJson $c -}}
{{- end -}}

{{- /* Security context of a container, as pod security "restricted" asks. */ -}}
{{- define "moontide.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}
