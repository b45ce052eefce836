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

{{/* Name of the account of one part. */}}
{{- define "celery-platform.serviceAccount" -}}
{{- $account := .root.Values.serviceAccount -}}
{{- if $account.create -}}
{{- printf "%s-%s" ($account.name | default (include "celery-platform.fullname" .root)) .account -}}
{{- else -}}
{{- $account.name | default "default" -}}
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

{{/* What a pool has: `workers`, key by key replaced by the pool's own; `autoscaling` one level deeper. Sprig's merge would
lose a zero and a false. */}}
{{- define "celery-platform.pool" -}}
{{- $pool := dict -}}
{{- range $key, $value := .root.Values.workers }}{{ $_ := set $pool $key $value }}{{ end -}}
{{- range $key, $value := .own }}{{ if ne $key "autoscaling" }}{{ $_ := set $pool $key $value }}{{ end }}{{ end -}}
{{- $scaling := dict -}}
{{- range $way, $common := .root.Values.workers.autoscaling -}}
{{- $words := dict -}}
{{- range $key, $value := $common }}{{ $_ := set $words $key $value }}{{ end -}}
{{- range $key, $value := index ($.own.autoscaling | default dict) $way }}{{ $_ := set $words $key $value }}{{ end -}}
{{- $_ := set $scaling $way $words -}}
{{- end -}}
{{- $_ := set $pool "autoscaling" $scaling -}}
{{- /* What outlasts the hard time limit is killed anyway: nobody waits longer than that. */ -}}
{{- $soft := .root.Values.settings.softShutdown -}}
{{- if not (kindIs "invalid" $pool.softShutdown) }}{{ $soft = $pool.softShutdown }}{{ end -}}
{{- if gt (float64 $soft) (float64 .root.Values.settings.timeLimit) }}{{ $soft = .root.Values.settings.timeLimit }}{{ end -}}
{{- $_ := set $pool "grace" (add (ceil $soft) 15) -}}
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

{{/* A variable that is a key of a Secret: (dict "name" "PLATFORM_BROKER_URL" "from" .Values.broker). */}}
{{- define "celery-platform.secret" -}}
{{- if .from.existingSecret }}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .from.existingSecret }}
      key: {{ .from.key }}
{{- end }}
{{- end -}}

{{/* Environment of every container: (dict "root" $ "pool" $pool), of which `pool` may be left out. */}}
{{- define "celery-platform.env" -}}
{{- $values := .root.Values -}}
{{- $secrets := dict "BROKER_URL" $values.broker "RESULT_URL" $values.results "STATE_URL" $values.state -}}
{{- $_ := set $secrets "ENCRYPTION_KEYS" $values.encryption -}}
{{- $_ := set $secrets "SENTRY_DSN" $values.sentry -}}
{{- if .database }}{{ $_ := set $secrets "DATABASE_URL" $values.database }}{{ end -}}
{{- range $name, $from := $secrets }}
{{- include "celery-platform.secret" (dict "name" (printf "PLATFORM_%s" $name) "from" $from) }}
{{- end }}
{{- $settings := dict -}}
{{- range $key, $value := $values.settings }}{{ $_ := set $settings $key $value }}{{ end -}}
{{- with .pool -}}
{{- if not (kindIs "invalid" .softShutdown) }}{{ $_ := set $settings "softShutdown" .softShutdown }}{{ end -}}
{{- if .memoryLimit }}{{ $_ := set $settings "memoryLimit" .memoryLimit }}{{ end -}}
{{- end -}}
{{- range $key, $value := $settings }}
{{- $text := include "celery-platform.setting" $value }}
{{- if $text }}
- name: PLATFORM_{{ $key | snakecase | upper }}
  value: {{ $text | quote }}
{{- end }}
{{- end }}
{{- if not .portless }}
- name: PLATFORM_HEALTH_PORT
  value: "8080"
- name: PLATFORM_METRICS_PORT
  value: "9100"
{{- end }}
{{- with $values.extraEnv }}
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
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Ports and probes of a container whose main process answers to them. Nothing is asked of a server: an outage of the
broker makes pods not ready, and restarts none. */}}
{{- define "celery-platform.probes" -}}
ports:
  - name: health
    containerPort: 8080
  - name: metrics
    containerPort: 9100
startupProbe:
  httpGet: {path: /startup, port: health}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /live, port: health}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /ready, port: health}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end -}}

{{/* Labels and annotations of a pod. The checksum replaces pods when the settings, which are in their environment,
change elsewhere too: in the hook's objects and in what `extraObjects` makes. */}}
{{- define "celery-platform.podMetadata" -}}
labels:
  {{- include "celery-platform.labels" . | nindent 2 }}
annotations:
  checksum/settings: {{ list .root.Values.settings .root.Values.extraObjects | toJson | sha256sum }}
  {{- with .root.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* What every pod has, beside its containers: (dict "root" $ "account" "worker"). */}}
{{- define "celery-platform.pod" -}}
{{- with .account }}
serviceAccountName: {{ include "celery-platform.serviceAccount" $ }}
{{- end }}
automountServiceAccountToken: false
# A Service called "flower" would become FLOWER_PORT=tcp://… in every pod, and Flower reads that.
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
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
      sizeLimit: {{ .root.Values.tmpSizeLimit }}
  {{- with .root.Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Spreads the pods of one part over nodes and zones, softly. */}}
{{- define "celery-platform.spread" -}}
topologySpreadConstraints:
  {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "celery-platform.selector" $ | nindent 8 }}
  {{- end }}
{{- end -}}

{{/* Queues of a pool as a pattern of PromQL. */}}
{{- define "celery-platform.queuePattern" -}}
{{- range $index, $queue := . }}{{ if $index }}|{{ end }}{{ regexQuoteMeta $queue | replace "\\" "\\\\" }}{{ end -}}
{{- end -}}

{{/* Up at once, down slowly: a pod that goes gives its calls time to end. */}}
{{- define "celery-platform.behavior" -}}
behavior:
  scaleUp:
    stabilizationWindowSeconds: 0
  scaleDown:
    stabilizationWindowSeconds: 300
    policies:
      - {type: Percent, value: 25, periodSeconds: 60}
{{- end -}}

{{/* Queries of PromQL over the exporter's metrics, for queues such as `queue_name=~"a|b"`. */}}
{{- define "celery-platform.workQuery" -}}
(sum(celery_queue_length{ {{- . -}} } unless on (queue_name) platform_queue_paused{ {{- . -}} } == 1) or vector(0))
* (sum(rate(celery_task_runtime_sum[10m])) / (sum(rate(celery_task_runtime_count[10m])) > 0) or vector(1))
{{- end -}}
{{- define "celery-platform.ageQuery" -}}
max(platform_queue_oldest_age_seconds{ {{- . -}} } unless on (queue_name) platform_queue_paused{ {{- . -}} } == 1)
or vector(0)
{{- end -}}
