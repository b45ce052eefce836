{{/* Name of the release's objects, before what they are. */}}
{{- define "celery-platform.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods of one part: (dict "root" $ "part" "beat"). Never changes while a release lives. */}}
{{- define "celery-platform.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{/* All labels of one part; the common ones never replace ours. */}}
{{- define "celery-platform.labels" -}}
{{- $ours := include "celery-platform.selector" . | fromYaml -}}
{{- $_ := set $ours "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- $_ := set $ours "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $ours "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) -}}
{{- merge $ours .root.Values.commonLabels | toYaml -}}
{{- end -}}

{{- define "celery-platform.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "celery-platform.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "celery-platform.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What a pool has: `workers`, key by key replaced by the pool's own. Sprig's merge would lose a zero and a false. */}}
{{- define "celery-platform.pool" -}}
{{- $pool := dict -}}
{{- range $key, $value := .root.Values.workers }}{{ $_ := set $pool $key $value }}{{ end -}}
{{- range $key, $value := .own }}{{ $_ := set $pool $key $value }}{{ end -}}
{{- toYaml $pool -}}
{{- end -}}

{{/* One setting as the text of an environment variable. Helm reads numbers as floats: 1048576 must not become 1e+06. */}}
{{- define "celery-platform.setting" -}}
{{- if kindIs "slice" . -}}
{{- join "," . -}}
{{- else if kindIs "map" . -}}
{{- $pairs := list -}}
{{- range $pattern, $queue := . }}{{ $pairs = append $pairs (printf "%s=%s" $pattern $queue) }}{{ end -}}
{{- join "," $pairs -}}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* Environment of every container. */}}
{{- define "celery-platform.env" -}}
{{- range $name, $from := dict "BROKER" .Values.broker "RESULT" .Values.results "STATE" .Values.state }}
{{- if $from.existingSecret }}
- name: PLATFORM_{{ $name }}_URL
  valueFrom:
    secretKeyRef:
      name: {{ $from.existingSecret }}
      key: {{ $from.key }}
{{- end }}
{{- end }}
{{- range $key, $value := .Values.settings }}
{{- $text := include "celery-platform.setting" $value }}
{{- if $text }}
- name: PLATFORM_{{ $key | snakecase | upper }}
  value: {{ $text | quote }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What every container has, beside its words: what the `restricted` standard asks for, and the environment. */}}
{{- define "celery-platform.container" -}}
image: {{ include "celery-platform.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
{{- end -}}

{{/* What every pod has, beside its containers. */}}
{{- define "celery-platform.pod" -}}
serviceAccountName: {{ include "celery-platform.serviceAccount" . }}
automountServiceAccountToken: false
# A Service called "flower" would become FLOWER_PORT=tcp://… in every pod, and Flower reads that.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
volumes:
  - name: tmp
    emptyDir:
      sizeLimit: {{ .Values.tmpSizeLimit }}
{{- end -}}
