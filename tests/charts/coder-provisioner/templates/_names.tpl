{{- define "provisioner.name" -}}
{{ .Values.nameOverride | default .Chart.Name }}
{{- end }}

{{- define "provisioner.selector" -}}
app.kubernetes.io/name: {{ include "provisioner.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "provisioner.labels" -}}
{{ include "provisioner.selector" . }}
app.kubernetes.io/part-of: {{ include "provisioner.name" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What it identifies itself with. */}}
{{- define "provisioner.key" -}}
{{- with .Values.provisionerDaemon }}
{{- if not (or .pskSecretName .keySecretName) }}
{{- fail "name a Secret in provisionerDaemon.pskSecretName or in provisionerDaemon.keySecretName" }}
{{- end }}
{{- if and .keySecretName .pskSecretName (ne .pskSecretName "coder-provisioner-psk") }}
{{- fail "provisionerDaemon.pskSecretName and provisionerDaemon.keySecretName exclude each other" }}
{{- end }}
{{- if and .keySecretName .tags }}
{{- fail "provisionerDaemon.tags belong to a shared key, not to provisionerDaemon.keySecretName" }}
{{- end }}
- name: {{ ternary "CODER_PROVISIONER_DAEMON_KEY" "CODER_PROVISIONER_DAEMON_PSK" (not (empty .keySecretName)) }}
  valueFrom:
    secretKeyRef:
      name: {{ .keySecretName | default .pskSecretName | quote }}
      key: {{ ternary .keySecretKey "psk" (not (empty .keySecretName)) }}
{{- if .tags }}
{{- $tags := list }}
{{- range $key, $value := .tags }}{{ $tags = append $tags (printf "%s=%v" $key $value) }}{{ end }}
- name: CODER_PROVISIONERD_TAGS
  value: {{ join "," $tags | quote }}
{{- end }}
{{- end }}
{{- end }}
