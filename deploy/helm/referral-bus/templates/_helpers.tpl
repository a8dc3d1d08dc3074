{{/* The secrets each service is given besides its database role, as in README.md; a test holds both to be the same. */}}
{{- define "refbus.given" -}}
intake: [master_key, intake_key, operations_public_key]
matching: [facts_key, operations_public_key]
notifier: [master_key]
projections: [master_key]
{{- end -}}

{{/* The services with an HTTP interface. They are the ones that verify tokens. */}}
{{- define "refbus.http" -}}
{{- list "intake" "notifier" "projections" | toJson -}}
{{- end -}}

{{/* With the longest part behind it no more than the 52 characters that a CronJob's name may have. */}}
{{- define "refbus.name" -}}
{{- $name := .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- if contains "refbus" $name -}}{{ $name }}{{- else -}}{{ $name | trunc 33 | trimSuffix "-" }}-refbus{{- end -}}
{{- end -}}

{{- define "refbus.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "refbus.labels" -}}
{{ include "refbus.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Name and labels of what belongs to one part: a dictionary of root and part. */}}
{{- define "refbus.metadata" -}}
name: {{ include "refbus.name" .root }}-{{ .part }}
labels:
  {{- include "refbus.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "refbus.image" -}}
{{- $own := (index .root.Values .service).image -}}
{{- $tag := .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- $own | default (printf "%s-%s:%s" .root.Values.image.repository .service $tag) -}}
{{- end -}}

{{/* No root, nothing to write to, no right to more. */}}
{{- define "refbus.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* What every pod of the bus has. */}}
{{- define "refbus.pod" -}}
automountServiceAccountToken: false
# A Service named refbus would set REFBUS_PORT, which is a setting.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .Values.pod.user }}
  runAsGroup: {{ .Values.pod.user }}
  fsGroup: {{ .Values.pod.user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.pod.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.pod.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "refbus.podMetadata" -}}
labels:
  {{- include "refbus.selector" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .part }}
{{- with .root.Values.pod.annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The settings all parts have: a dictionary of root and part. */}}
{{- define "refbus.common" -}}
{{- $kafka := .root.Values.kafka -}}
- {name: REFBUS_BUS, value: {{ .root.Values.bus | quote }}}
- {name: REFBUS_KAFKA, value: {{ $kafka.bootstrap | quote }}}
{{- if ne $kafka.protocol "PLAINTEXT" }}
- {name: REFBUS_KAFKA_PROTOCOL, value: {{ $kafka.protocol }}}
{{- if $kafka.ca }}
- {name: REFBUS_KAFKA_CA, value: /run/refbus/kafka/ca.pem}
{{- end }}
{{- end }}
{{- if eq $kafka.protocol "SASL_SSL" }}
- {name: REFBUS_KAFKA_MECHANISM, value: {{ $kafka.mechanism }}}
- {name: REFBUS_KAFKA_USER, value: {{ (include "refbus.user" . | fromJson).name | quote }}}
- {name: REFBUS_KAFKA_PASSWORD_FILE, value: /run/refbus/kafka/password}
{{- end }}
{{- end -}}

{{/* Who a part is at Kafka, as JSON: a dictionary of root and part. */}}
{{- define "refbus.user" -}}
{{- if not (hasKey .root.Values.kafka.users .part) -}}
{{- fail (printf "kafka.protocol is SASL_SSL, and kafka.users has nobody for %s: add its name and password." .part) -}}
{{- end -}}
{{- index .root.Values.kafka.users .part | toJson -}}
{{- end -}}

{{/* Where a part finds what Kafka is reached with, or nothing where that is in the clear. */}}
{{- define "refbus.kafkaMount" -}}
{{- $kafka := .root.Values.kafka -}}
{{- if or (eq $kafka.protocol "SASL_SSL") (and $kafka.ca (ne $kafka.protocol "PLAINTEXT")) -}}
- {name: kafka, mountPath: /run/refbus/kafka, readOnly: true}
{{- end -}}
{{- end -}}

{{- define "refbus.kafkaVolume" -}}
{{- $kafka := .root.Values.kafka -}}
{{- if include "refbus.kafkaMount" . -}}
- name: kafka
  projected:
    defaultMode: 0440
    sources:
      {{- with $kafka.ca }}
      {{- include "refbus.source" (dict "reference" . "path" "ca.pem") | nindent 6 }}
      {{- end }}
      {{- if eq $kafka.protocol "SASL_SSL" }}
      {{- include "refbus.source" (dict "reference" (include "refbus.user" . | fromJson).password "path" "password") | nindent 6 }}
      {{- end }}
{{- end -}}
{{- end -}}

{{- define "refbus.source" -}}
- secret:
    name: {{ .reference.secret }}
    items: [{key: {{ .reference.key | quote }}, path: {{ .path | quote }}}]
{{- end -}}

{{/* A job by night, which works on Kafka: a dictionary of root, part, values (its own: schedule, resources, volume), image (the service's
whose it is) and command; database_url, if it works on one; folder, where the volume is, if it has one; and found, the exit code that says not
that it could not do its work but what it found, if it has one. */}}
{{- define "refbus.nightly" -}}
apiVersion: batch/v1
kind: CronJob
metadata:
  {{- include "refbus.metadata" . | nindent 2 }}
spec:
  schedule: {{ .values.schedule | quote }}
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      # What makes it fail is not mended by trying again: the next is the next night's.
      backoffLimit: 0
      # One that does not end, or whose pod finds no place, is a failure of which somebody hears; else all that follow are passed over.
      activeDeadlineSeconds: 82800
      {{- with .found }}
      # Kubernetes gives what ends so a reason of its own, by which an alert knows it. It is gone once the next night's has ended, or it would
      # be told of for as long as no other failed.
      podFailurePolicy:
        rules:
          - action: FailJob
            onExitCodes: {containerName: {{ $.part }}, operator: In, values: [{{ . }}]}
      ttlSecondsAfterFinished: 93600
      {{- end }}
      template:
        metadata:
          {{- include "refbus.podMetadata" . | nindent 10 }}
        spec:
          {{- include "refbus.pod" .root | nindent 10 }}
          restartPolicy: Never
          containers:
            - name: {{ .part }}
              image: {{ include "refbus.image" (dict "root" .root "service" .image) }}
              imagePullPolicy: {{ .root.Values.image.pullPolicy }}
              command: {{ toJson .command }}
              env:
                {{- include "refbus.common" . | nindent 16 }}
                {{- if .database_url }}
                - {name: REFBUS_DATABASE_URL_FILE, value: /run/refbus/secrets/database_url}
                {{- end }}
              resources: {{- toYaml .values.resources | nindent 16 }}
              securityContext: {{- include "refbus.confined" .root | nindent 16 }}
              {{- if or .database_url .folder (include "refbus.kafkaMount" .) }}
              volumeMounts:
                {{- if .database_url }}
                - {name: secrets, mountPath: /run/refbus/secrets, readOnly: true}
                {{- end }}
                {{- include "refbus.kafkaMount" . | nindent 16 }}
                {{- with .folder }}
                - {name: {{ base . }}, mountPath: {{ . }}}
                {{- end }}
          volumes:
            {{- if .database_url }}
            - name: secrets
              projected:
                defaultMode: 0440
                sources:
                  {{- include "refbus.source" (dict "reference" .database_url "path" "database_url") | nindent 18 }}
            {{- end }}
            {{- include "refbus.kafkaVolume" . | nindent 12 }}
            {{- with .folder }}
            - name: {{ base . }}
              {{- toYaml $.values.volume | nindent 14 }}
            {{- end }}
              {{- end }}
{{- end -}}

{{/* The template of a service's pods: a dictionary of root and service. */}}
{{- define "refbus.template" -}}
{{- $root := .root -}}
{{- $service := .service -}}
{{- $values := index .root.Values $service -}}
{{- $given := index (include "refbus.given" . | fromYaml) $service -}}
{{- $http := has $service (include "refbus.http" . | fromJsonArray) -}}
{{- $drain := ternary $root.Values.drain_seconds 0 $http -}}
metadata:
  {{- include "refbus.podMetadata" (dict "root" $root "part" $service) | nindent 2 }}
spec:
  {{- include "refbus.pod" $root | nindent 2 }}
  # What waits before the stop, the stop itself, and something for the process to end.
  terminationGracePeriodSeconds: {{ add (ceil $drain) (ceil $root.Values.stop_seconds) 5 }}
  topologySpreadConstraints:
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "refbus.selector" $root | nindent 10 }}
          app.kubernetes.io/component: {{ $service }}
    {{- end }}
  containers:
    - name: {{ $service }}
      image: {{ include "refbus.image" . }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command: [python, -m, services.{{ $service }}]
      env:
        {{- include "refbus.common" (dict "root" $root "part" $service) | nindent 8 }}
        - {name: REFBUS_LOG_LEVEL, value: {{ $root.Values.log_level }}}
        - {name: REFBUS_STOP_SECONDS, value: {{ $root.Values.stop_seconds | toJson | quote }}}
        - {name: REFBUS_HOST, value: 0.0.0.0}
        - {name: REFBUS_OPERATIONS_PORT, value: "9090"}
        {{- if $http }}
        - {name: REFBUS_PORT, value: "8080"}
        - {name: REFBUS_JWKS, value: {{ $root.Values.jwks.url | default "/run/refbus/secrets/jwks" | quote }}}
        {{- end }}
        {{- if eq $service "matching" }}
        - {name: REFBUS_DATA_DIR, value: /var/lib/refbus}
        {{- end }}
        {{- if eq $service "intake" }}
        - {name: REFBUS_REPLICATION, value: {{ $root.Values.topics.replication | quote }}}
        {{- end }}
        {{- with $root.Values.certificates }}
        {{- $paths := dict }}
        {{- range $name, $_ := . }}{{ $_ := set $paths $name (printf "/run/refbus/certificates/%s.pem" $name) }}{{ end }}
        - {name: REFBUS_CERTIFICATES, value: {{ $paths | toJson | quote }}}
        {{- end }}
        {{- with $root.Values.write_schemas_up_to }}
        - {name: REFBUS_WRITE_SCHEMAS_UP_TO, value: {{ . | quote }}}
        {{- end }}
        {{- with $root.Values.traces.url }}
        - {name: REFBUS_TRACES, value: {{ . | quote }}}
        - {name: REFBUS_TRACES_SHARE, value: {{ $root.Values.traces.share | toJson | quote }}}
        {{- end }}
        {{- range concat (list "database_url") $given }}
        - {name: REFBUS_{{ upper . }}_FILE, value: /run/refbus/secrets/{{ . }}}
        {{- end }}
        {{- range $name, $value := $values.settings }}
        - {name: REFBUS_{{ upper $name }}, value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}}
        {{- end }}
      ports:
        - {name: operations, containerPort: 9090}
        {{- if $http }}
        - {name: http, containerPort: 8080}
        {{- end }}
      # The operations listener answers before the service has anything to serve. A service that loads is alive, and is not ready.
      startupProbe:
        httpGet: {path: /livez, port: operations}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /livez, port: operations}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      readinessProbe:
        httpGet: {path: /readyz, port: operations}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      {{- if gt (int $drain) 0 }}
      lifecycle:
        preStop:
          sleep: {seconds: {{ $drain }}}
      {{- end }}
      resources: {{- toYaml $values.resources | nindent 8 }}
      securityContext: {{- include "refbus.confined" . | nindent 8 }}
      volumeMounts:
        - {name: secrets, mountPath: /run/refbus/secrets, readOnly: true}
        {{- include "refbus.kafkaMount" (dict "root" $root "part" $service) | nindent 8 }}
        {{- if $root.Values.certificates }}
        - {name: certificates, mountPath: /run/refbus/certificates, readOnly: true}
        {{- end }}
        {{- if eq $service "matching" }}
        - {name: snapshots, mountPath: /var/lib/refbus}
        {{- end }}
  volumes:
    - name: secrets
      projected:
        defaultMode: 0440
        sources:
          {{- include "refbus.source" (dict "reference" $values.database_url "path" "database_url") | nindent 10 }}
          {{- range $given }}
          {{- include "refbus.source" (dict "reference" (index $root.Values.secrets .) "path" .) | nindent 10 }}
          {{- end }}
          {{- if and $http (not $root.Values.jwks.url) }}
          {{- include "refbus.source" (dict "reference" $root.Values.secrets.jwks "path" "jwks") | nindent 10 }}
          {{- end }}
    {{- include "refbus.kafkaVolume" (dict "root" $root "part" $service) | nindent 4 }}
    {{- with $root.Values.certificates }}
    - name: certificates
      projected:
        defaultMode: 0444
        sources:
          {{- range $name, $reference := . }}
          {{- include "refbus.source" (dict "reference" $reference "path" (printf "%s.pem" $name)) | nindent 10 }}
          {{- end }}
    {{- end }}
    {{- if and (eq $service "matching") (not $values.snapshots.persistent) }}
    - name: snapshots
      emptyDir: {sizeLimit: {{ $values.snapshots.size }}}
    {{- end }}
{{- end -}}

{{/* Says what is wrong where there would be more processes than partitions: a dictionary of root and service. */}}
{{- define "refbus.bounded" -}}
{{- $values := index .root.Values .service -}}
{{- $most := ternary $values.autoscaling.maxReplicas $values.replicas .root.Values.autoscaling.enabled -}}
{{- if and (ne .service "intake") (gt (int $most) (int .root.Values.topics.partitions)) -}}
{{- fail (printf "%s would have %d replicas and the ledger %d partitions: the others would have nothing to do. Set fewer." .service (int $most) (int .root.Values.topics.partitions)) -}}
{{- end -}}
{{- if gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas) -}}
{{- fail (printf "%s.autoscaling.minReplicas is above maxReplicas" .service) -}}
{{- end -}}
{{- end -}}
