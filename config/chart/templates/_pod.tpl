{{- /* The mounts of the configuration and of what it names; for the host and for the test. */ -}}
{{- define "moontide.mounts" -}}
- { name: config, mountPath: /etc/moontide/config, readOnly: true }
{{- if .Values.policies }}
- { name: policies, mountPath: /etc/moontide/scripts, readOnly: true }
{{- end }}
{{- range .Values.secrets }}
- { name: secret-{{ . }}, mountPath: /etc/moontide/secrets/{{ . }}, readOnly: true }
{{- end }}
{{- range .Values.certificates }}
- { name: certificates-{{ . }}, mountPath: /etc/moontide/certificates/{{ . }}, readOnly: true }
{{- end }}
- { name: tmp, mountPath: /tmp }
{{- end -}}

{{- define "moontide.volumes" -}}
- name: config
  configMap: { name: {{ include "moontide.fullname" . }} }
{{- if .Values.policies }}
- name: policies
  configMap: { name: {{ include "moontide.fullname" . }}-policies }
{{- end }}
{{- range .Values.secrets }}
- name: secret-{{ . }}
  secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- range .Values.certificates }}
- name: certificates-{{ . }}
  configMap: { name: {{ . }} }
{{- end }}
- name: tmp
  emptyDir: { sizeLimit: 1Gi }
{{- end -}}

{{- define "moontide.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65534
runAsGroup: 65534
fsGroup: 65534
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "moontide.env" -}}
{{- range $name, $from := .Values.secretEnv }}
- name: {{ $name }}
  valueFrom: { secretKeyRef: { name: {{ $from.secret }}, key: {{ $from.key }} } }
{{- end }}
{{- range $name, $value := .Values.extraEnv }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
- name: POD_IP
  valueFrom: { fieldRef: { fieldPath: status.podIP } }
{{- end -}}
