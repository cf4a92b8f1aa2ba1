{{/* The labels that Services and Deployments select by. They are immutable in a Deployment. */}}
{{- define "coder.selector" -}}
{{- $own := dict "app.kubernetes.io/name" .Chart.Name "app.kubernetes.io/instance" .Release.Name }}
{{- $labels := mergeOverwrite $own .Values.testbed.selector }}
{{- range $label, $value := $labels }}
{{- if not $value }}{{ $labels = omit $labels $label }}{{ end }}
{{- end }}
{{- toYaml $labels }}
{{- end }}

{{/* The labels of every object. */}}
{{- define "coder.labels" -}}
{{ include "coder.selector" . }}
app.kubernetes.io/part-of: {{ .Chart.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "coder.image" -}}
{{ .Values.coder.image.repo }}:{{ .Values.coder.image.tag | default (printf "v%s" .Chart.AppVersion) }}
{{- end }}
