{{/* What the chart calls its Deployment. */}}
{{- define "coder.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The labels that Services and Deployments select by. They are immutable in a Deployment. 0.15.0 had one more for a day. */}}
{{- define "coder.selector" -}}
{{- $own := dict "app.kubernetes.io/name" (include "coder.name" .) "app.kubernetes.io/instance" .Release.Name }}
{{- if semverCompare "=0.15.0" .Chart.Version }}
{{- $own = merge $own (dict "app.kubernetes.io/part-of" (include "coder.name" .)) }}
{{- end }}
{{- $labels := mergeOverwrite $own .Values.testbed.selector }}
{{- range $label, $value := $labels }}
{{- if not $value }}{{ $labels = omit $labels $label }}{{ end }}
{{- end }}
{{- toYaml $labels }}
{{- end }}

{{/* The labels of every object. */}}
{{- define "coder.labels" -}}
{{ include "coder.selector" . }}
{{- if not (semverCompare "=0.15.0" .Chart.Version) }}
app.kubernetes.io/part-of: {{ include "coder.name" . }}
{{- end }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "coder.image" -}}
{{ .Values.coder.image.repo }}:{{ .Values.coder.image.tag | default (printf "v%s" .Chart.AppVersion) }}
{{- end }}

{{/* The environment that the chart sets; what of it `coder.env` names, too, is left to that where the charts do so. */}}
{{- define "coder.ownEnv" -}}
{{- $given := list }}
{{- range .Values.coder.env }}{{ $given = append $given .name }}{{ end }}
{{- $fixed := semverCompare "<2.30.0-0" .Chart.Version }}
- name: CODER_HTTP_ADDRESS
  value: 0.0.0.0:8080
{{- if .Values.testbed.tlsOnly }}
- name: CODER_ADDRESS
  value: 0.0.0.0:8443
- name: CODER_TLS_ENABLE
  value: "true"
{{- end }}
{{- if or $fixed (not (has "CODER_PROMETHEUS_ADDRESS" $given)) }}
- name: CODER_PROMETHEUS_ADDRESS
  value: 0.0.0.0:2112
{{- end }}
{{- if and (not $fixed) (not (has "CODER_PPROF_ADDRESS" $given)) }}
- name: CODER_PPROF_ADDRESS
  value: 0.0.0.0:6060
{{- end }}
{{- with .Values.provisionerDaemon.pskSecretName }}
- name: CODER_PROVISIONER_DAEMON_PSK
  valueFrom:
    secretKeyRef:
      name: {{ . | quote }}
      key: psk
{{- end }}
{{- if and .Values.coder.envUseClusterAccessURL (not (has "CODER_ACCESS_URL" $given)) }}
- name: CODER_ACCESS_URL
  value: {{ if .Values.coder.tls.secretNames }}https{{ else }}http{{ end }}://coder.{{ .Release.Namespace }}.svc.cluster.local
{{- end }}
- name: KUBE_POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: CODER_DERP_SERVER_RELAY_URL
  value: http://$(KUBE_POD_IP):8080
{{- with .Values.coder.tls.secretNames }}
{{- $files := list }}
{{- range . }}{{ $files = append $files (printf "/etc/ssl/certs/coder/%s/tls" .) }}{{ end }}
- name: CODER_TLS_ENABLE
  value: "true"
- name: CODER_TLS_ADDRESS
  value: 0.0.0.0:8443
- name: CODER_TLS_CERT_FILE
  value: {{ range $at, $file := $files }}{{ if $at }},{{ end }}{{ $file }}.crt{{ end }}
- name: CODER_TLS_KEY_FILE
  value: {{ range $at, $file := $files }}{{ if $at }},{{ end }}{{ $file }}.key{{ end }}
{{- end }}
{{- end }}

{{/* A probe of /healthz. Its port is asked in HTTP whatever TLS says, unless there is no such port. */}}
{{- define "coder.probe" -}}
{{- $tls := (index . 0).Values.testbed.tlsOnly }}
httpGet:
  path: /healthz
  port: {{ $tls | default "http" }}
  scheme: {{ if $tls }}HTTPS{{ else }}HTTP{{ end }}
{{- with omit (index . 1) "enabled" }}
{{ toYaml . }}
{{- end }}
{{- end }}
