{{/* The labels that the chart's own objects carry since 1.27. */}}
{{- define "classic.labels" -}}
{{- if semverCompare ">=1.27.0-0" .root.Chart.Version }}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
app.kubernetes.io/part-of: coder
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{ end }}coder.deployment: {{ .name }}
{{- end }}

{{- define "classic.databaseEnv" -}}
{{- $suffix := .Values.services.clusterDomainSuffix }}
{{- if .Values.postgres.default.enable }}
- {name: DB_HOST, value: timescale.{{ .Release.Namespace }}{{ $suffix }}}
- {name: DB_PORT, value: "5432"}
- {name: DB_USER, value: coder}
- {name: DB_DATABASE, value: coder}
- {name: DB_SSL_MODE, value: disable}
{{- else }}
- {name: DB_HOST, value: {{ required "postgres.host is required without postgres.default.enable" .Values.postgres.host | quote }}}
- {name: DB_PORT, value: {{ .Values.postgres.port | default 5432 | quote }}}
- {name: DB_USER, value: {{ .Values.postgres.user | quote }}}
- {name: DB_DATABASE, value: {{ .Values.postgres.database | quote }}}
- {name: DB_SSL_MODE, value: {{ .Values.postgres.sslMode | quote }}}
{{- with .Values.postgres.passwordSecret }}
- name: DB_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ . | quote }}, key: password}
{{- end }}
{{- end }}
{{- end }}

{{/* Values from before 1.21, which 1.28 and later refuse where they are given. */}}
{{- define "classic.refuseOld" -}}
{{- if semverCompare ">=1.28.0-0" .Chart.Version }}
{{- range $key := list "cemanager" "dashboard" "envproxy" "timescale" "storageClassName" "serviceType" "devurls" }}
{{- if get $.Values $key }}{{ fail (printf "%s was replaced in 1.21, and is not taken since 1.27" $key) }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
