{{/* The ServiceAccount of cemanager and envproxy: one each before 1.16, then the shared `coder`. */}}
{{- define "coder.account" -}}
{{- if semverCompare "<1.16.0-0" .root.Chart.Version }}{{ .service }}{{ else }}coder{{ end }}
{{- end }}

{{/* The Secret that cemanager and envproxy share: none before 1.16, renamed in 1.16.2, none since 1.21. */}}
{{- define "coder.tokenSecret" -}}
{{- if or (semverCompare "<1.16.0-0" .Chart.Version) (include "coder.single" .) }}
{{- else if semverCompare "<1.16.2-0" .Chart.Version }}local-envproxy-token
{{- else }}built-in-envproxy-token
{{- end }}
{{- end }}

{{/* Since 1.21 one service does it all, and nothing of nginx, dashboard, envproxy and web-ingress is left. */}}
{{- define "coder.single" -}}
{{- if semverCompare ">=1.21.0-0" .Chart.Version }}true{{ end }}
{{- end }}

{{/* The Deployment of the API. */}}
{{- define "coder.api" -}}
{{- if include "coder.single" . }}coderd{{ else }}cemanager{{ end }}
{{- end }}

{{/* The Service of the API. Since 1.21 users reach it directly; the address of an older chart's Service is kept by its name,
which only a cluster that has it can tell. */}}
{{- define "coder.apiService" -}}
{{- if and (include "coder.single" .) (lookup "v1" "Service" .Release.Namespace "ingress-nginx") }}ingress-nginx
{{- else }}{{ include "coder.api" . }}
{{- end }}
{{- end }}

{{/* Since 1.16 the database is migrated by an init container and not by cemanager itself. */}}
{{- define "coder.migratesInInit" -}}
{{- if semverCompare ">=1.16.0-0" .Chart.Version }}true{{ end }}
{{- end }}

{{/* cemanager, envproxy and dashboard come in one image. */}}
{{- define "coder.image" -}}
{{ .image | default (printf "docker.io/coderenvs/coder-service:%s" .root.Chart.AppVersion) }}
{{- end }}

{{/* The labels, and the selector, of one of Coder's services. */}}
{{- define "coder.selector" -}}
coder.deployment: {{ . }}
{{- end }}

{{- define "coder.nginxSelector" -}}
app.kubernetes.io/name: ingress-nginx
app.kubernetes.io/part-of: ingress-nginx
{{- end }}

{{/* Whether the chart brings its own database. Since 1.27 it asks a value of another name, and ignores the old one. */}}
{{- define "coder.bringsDatabase" -}}
{{- if semverCompare ">=1.27.0-0" .Chart.Version }}{{ if .Values.postgres.default.enable }}true{{ end }}
{{- else if .Values.postgres.useDefault }}true
{{- end }}
{{- end }}

{{/* Where the database is, for the services that use it. */}}
{{- define "coder.databaseEnv" -}}
{{- if include "coder.bringsDatabase" . }}
- name: DB_HOST
  value: timescale.{{ .Release.Namespace }}{{ .Values.clusterDomainSuffix }}
- name: DB_PORT
  value: "5432"
- name: DB_USER
  value: coder
- name: DB_DATABASE
  value: coder
- name: DB_SSL_MODE
  value: disable
{{- else }}
- name: DB_HOST
  value: {{ required "postgres.host is required when postgres.useDefault is false" .Values.postgres.host | quote }}
- name: DB_PORT
  value: {{ .Values.postgres.port | default 5432 | quote }}
- name: DB_USER
  value: {{ .Values.postgres.user | quote }}
- name: DB_DATABASE
  value: {{ .Values.postgres.database | quote }}
- name: DB_SSL_MODE
  value: {{ .Values.postgres.sslMode | quote }}
{{- with .Values.postgres.passwordSecret }}
- name: DB_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: password
{{- end }}
{{- end }}
{{- end }}

{{/* The token that envproxy identifies itself with. */}}
{{- define "coder.tokenEnv" -}}
{{- with include "coder.tokenSecret" . }}
- name: ENVPROXY_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: token
{{- end }}
{{- end }}
