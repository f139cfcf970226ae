{{- define "candlefish.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "candlefish.labels" -}}
app.kubernetes.io/name: candlefish
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* What selects the pods of one process: call with (list . "gateway"). */}}
{{- define "candlefish.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "candlefish.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "candlefish.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Probes of the operations port. */}}
{{- define "candlefish.probes" -}}
readinessProbe:
  httpGet: {path: /readyz, port: ops}
  periodSeconds: 2
livenessProbe:
  httpGet: {path: /healthz, port: ops}
  periodSeconds: 10
  failureThreshold: 6
{{- end }}

{{- define "candlefish.commonEnv" -}}
{{- with .Values.secrets.nats }}
- name: CANDLEFISH_NATS_URL
  valueFrom: {secretKeyRef: {name: {{ . }}, key: url}}
{{- else }}
- {name: CANDLEFISH_NATS_URL, value: {{ .Values.nats.url | quote }}}
{{- end }}
- {name: CANDLEFISH_LOG_FORMAT, value: {{ .Values.logFormat | quote }}}
{{- with .Values.otlpEndpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{- define "candlefish.blobsEnv" -}}
- {name: CANDLEFISH_BLOBS, value: {{ .Values.blobs | quote }}}
- {name: AWS_REGION, value: {{ .Values.s3.region | quote }}}
{{- with .Values.s3.endpoint }}
- {name: CANDLEFISH_S3_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- with .Values.secrets.s3 }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ . }}, key: access-key-id}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ . }}, key: secret-access-key}}
{{- end }}
{{- end }}

{{/* What a process is told besides, by name. */}}
{{- define "candlefish.env" -}}
{{- range $name, $value := . }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{/* What routes to a pod learns a little after the signal that it ends. */}}
{{- define "candlefish.leaving" -}}
lifecycle:
  preStop: {exec: {command: [sleep, "5"]}}
{{- end }}

{{- define "candlefish.deployEnv" -}}
{{ include "candlefish.commonEnv" . }}
{{ include "candlefish.blobsEnv" . }}
- {name: CANDLEFISH_NATS_REPLICAS, value: {{ .Values.nats.replicas | default 1 | int | quote }}}
- {name: CANDLEFISH_LISTEN, value: "0.0.0.0:7201"}
- {name: CANDLEFISH_OPS_LISTEN, value: "0.0.0.0:7290"}
- {name: CANDLEFISH_IDENTITY_KEY, value: /identity/key.pem}
- {name: CANDLEFISH_TRUSTED_KEYS, value: /trusted}
- {name: CANDLEFISH_GATEWAY_URL, value: "http://{{ .Release.Name }}-gateway:7180"}
- {name: CANDLEFISH_DOMAIN, value: {{ .Values.domain | quote }}}
- {name: CANDLEFISH_SITE_PORT, value: {{ .Values.sitePort | quote }}}
- {name: CANDLEFISH_LEASE_MS, value: {{ .Values.orchestrator.leaseMs | int | quote }}}
{{- include "candlefish.env" .Values.orchestrator.env }}
- name: CANDLEFISH_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.secrets.databases }}, key: deploy}}
{{- with .Values.publicUrl }}
- {name: CANDLEFISH_PUBLIC_URL, value: {{ . | quote }}}
{{- end }}
{{- with .Values.secrets.github }}
- {name: CANDLEFISH_GITHUB_API, value: {{ $.Values.github.api | quote }}}
{{- if $.Values.github.appId }}
- {name: CANDLEFISH_GITHUB_APP_ID, value: {{ $.Values.github.appId | quote }}}
- {name: CANDLEFISH_GITHUB_APP_KEY, value: /github/key.pem}
{{- else }}
- name: CANDLEFISH_GITHUB_TOKEN
  valueFrom: {secretKeyRef: {name: {{ . }}, key: token}}
{{- end }}
{{- end }}
{{- end }}

{{- define "candlefish.gatewayEnv" -}}
{{ include "candlefish.commonEnv" . }}
- {name: CANDLEFISH_NATS_REPLICAS, value: {{ .Values.nats.replicas | default 1 | int | quote }}}
- {name: CANDLEFISH_LISTEN, value: "0.0.0.0:8090"}
- {name: CANDLEFISH_OPS_LISTEN, value: "0.0.0.0:7190"}
- {name: CANDLEFISH_INTERNAL_LISTEN, value: "0.0.0.0:7180"}
- {name: CANDLEFISH_IDENTITY_KEY, value: /identity/key.pem}
- {name: CANDLEFISH_TRUSTED_KEYS, value: /trusted}
- {name: CANDLEFISH_ORCHESTRATOR_URL, value: "http://{{ .Release.Name }}-deploy-orchestrator:7201"}
{{- include "candlefish.env" .Values.gateway.env }}
- name: CANDLEFISH_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.secrets.databases }}, key: gateway}}
- name: CANDLEFISH_BOOTSTRAP_TOKEN
  valueFrom: {secretKeyRef: {name: {{ .Values.secrets.bootstrap }}, key: token}}
{{- with .Values.secrets.githubWebhook }}
- name: CANDLEFISH_GITHUB_WEBHOOK_SECRET
  valueFrom: {secretKeyRef: {name: {{ . }}, key: current}}
- name: CANDLEFISH_GITHUB_WEBHOOK_SECRET_PREVIOUS
  valueFrom: {secretKeyRef: {name: {{ . }}, key: previous, optional: true}}
{{- end }}
{{- end }}

{{/* Its own key; and, for who is called, everybody's public ones: call with (list . "gateway"). */}}
{{- define "candlefish.keyVolumes" -}}
{{- $root := index . 0 -}}
- name: identity
  secret:
    secretName: {{ $root.Values.secrets.identity }}
    items: [{key: {{ index . 1 }}.pem, path: key.pem}]
    defaultMode: 0440
{{- if ne (index . 1) "edge" }}
- name: trusted
  secret:
    secretName: {{ $root.Values.secrets.trusted }}
    defaultMode: 0444
{{- end }}
{{- end }}

{{- define "candlefish.keyMounts" -}}
- {name: identity, mountPath: /identity, readOnly: true}
{{- if ne . "edge" }}
- {name: trusted, mountPath: /trusted, readOnly: true}
{{- end }}
{{- end }}
