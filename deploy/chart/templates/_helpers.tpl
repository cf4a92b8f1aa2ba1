{{/* The image, by its digest if there is one. */}}
{{- define "operator.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* An object of files/ with the namespace and the labels of the release: (list ROOT OBJECT NAMESPACE). */}}
{{- define "operator.object" -}}
{{- $root := index . 0 -}}
{{- $object := index . 1 -}}
{{- $labels := dict
  "app.kubernetes.io/name" "coder-upgrade-operator"
  "app.kubernetes.io/part-of" "coder-upgrade-operator"
  "app.kubernetes.io/managed-by" $root.Release.Service
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version) -}}
{{- $_ := set $object.metadata "labels" $labels -}}
{{- with index . 2 -}}
{{- $_ := set $object.metadata "namespace" . -}}
{{- end -}}
{{- range $object.subjects -}}
{{- $_ := set . "namespace" $root.Release.Namespace -}}
{{- end -}}
---
{{ toYaml $object }}
{{ end -}}
