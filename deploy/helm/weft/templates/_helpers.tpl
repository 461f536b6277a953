{{- /* Labels of every object; the argument is [context, name, component]. */}}
{{- define "weft.labels" -}}
{{- $top := index . 0 -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/component: {{ index . 2 }}
{{ include "weft.commonLabels" $top }}
{{- end }}

{{- define "weft.commonLabels" -}}
app.kubernetes.io/part-of: weft
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* Labels of pods: without those of Helm, so that a new chart of the same version
       restarts nothing. The argument is [context, name, component, more]. */}}
{{- define "weft.podLabels" -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/component: {{ index . 2 }}
app.kubernetes.io/part-of: weft
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
{{- with index . 3 }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The argument is [context, image of the component]. */}}
{{- define "weft.image" -}}
{{- $top := index . 0 -}}
{{- $image := index . 1 -}}
{{- with $top.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $top.Values.image.tag | default $top.Chart.AppVersion }}{{ end -}}
{{- end }}
