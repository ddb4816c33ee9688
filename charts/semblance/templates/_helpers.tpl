{{- define "semblance.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "semblance.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "semblance.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "semblance.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "semblance.selectorLabels" -}}
app.kubernetes.io/name: {{ include "semblance.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "semblance.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "semblance.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "semblance.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "semblance.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "semblance.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "semblance.claim" -}}
{{- default (printf "%s-store" (include "semblance.fullname" .)) .Values.storage.existingClaim -}}
{{- end -}}

{{- define "semblance.databaseEnvironment" -}}
- name: SEMBLANCE_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.existingSecret }}
      key: {{ .Values.database.key }}
{{- end -}}

{{- define "semblance.environment" -}}
{{ include "semblance.databaseEnvironment" . }}
- name: SEMBLANCE_BROKER_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.broker.existingSecret }}
      key: {{ .Values.broker.key }}
{{- range .Values.secretEnvironment }}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end }}
{{- end -}}

{{/* For the processes that speak DICOM: certificate, key and authorities of TLS. */}}
{{- define "semblance.tlsEnvironment" -}}
{{- if .Values.dicomTls.existingSecret -}}
SEMBLANCE_DICOM_TLS_CERTIFICATE: /etc/semblance/dicom-tls/tls.crt
SEMBLANCE_DICOM_TLS_KEY: /etc/semblance/dicom-tls/tls.key
SEMBLANCE_DICOM_TLS_AUTHORITIES: /etc/semblance/dicom-tls/ca.crt
{{- else -}}
{}
{{- end -}}
{{- end -}}

{{- define "semblance.tlsMounts" -}}
{{- with .Values.dicomTls.existingSecret -}}
- name: dicom-tls
  path: /etc/semblance/dicom-tls
  source:
    secret:
      secretName: {{ . }}
{{- else -}}
[]
{{- end -}}
{{- end -}}

{{/* One Deployment. Takes: root, component, values (of the component), command, and optionally image,
     runtimeClassName, gpus, environment, port, portName, and mounts: a list of read-only
     volumes, each a dict of name, path and source (a volume source). */}}
{{- define "semblance.deployment" -}}
{{- $root := .root -}}
{{- $autoscaled := and .values.autoscaling .values.autoscaling.enabled -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "semblance.fullname" $root }}-{{ .component }}
  labels:
    {{- include "semblance.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  {{- if not $autoscaled }}
  replicas: {{ .values.replicas }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "semblance.selectorLabels" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
  template:
    metadata:
      labels:
        {{- include "semblance.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
        {{- with $root.Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        checksum/settings: {{ include (print $root.Template.BasePath "/configmap.yaml") $root | sha256sum }}
        {{- with $root.Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "semblance.serviceAccount" $root }}
      automountServiceAccountToken: false
      # A service called semblance-api would otherwise set SEMBLANCE_API_PORT to a URL.
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
      {{- with .runtimeClassName }}
      runtimeClassName: {{ . }}
      {{- end }}
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      securityContext:
        {{- toYaml $root.Values.podSecurityContext | nindent 8 }}
      containers:
        - name: {{ .component }}
          image: {{ default (include "semblance.image" $root) .image | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: {{ toJson .command }}
          envFrom:
            - configMapRef:
                name: {{ include "semblance.fullname" $root }}
          env:
            {{- include "semblance.environment" $root | nindent 12 }}
            {{- range $name, $value := .environment }}
            - name: {{ $name }}
              value: {{ $value | quote }}
            {{- end }}
          ports:
            {{- if .port }}
            - name: {{ .portName }}
              containerPort: {{ .port }}
              protocol: TCP
            {{- end }}
            - name: operations
              containerPort: 9464
              protocol: TCP
          startupProbe:
            httpGet: {path: /readyz, port: operations}
            periodSeconds: 2
            timeoutSeconds: 10
            failureThreshold: 90
          readinessProbe:
            httpGet: {path: /readyz, port: operations}
            periodSeconds: 10
            timeoutSeconds: 10
            failureThreshold: 2
          livenessProbe:
            httpGet: {path: /healthz, port: operations}
            periodSeconds: 30
            timeoutSeconds: 10
            failureThreshold: 4
          securityContext:
            {{- toYaml $root.Values.securityContext | nindent 12 }}
          resources:
            {{- $resources := deepCopy .values.resources }}
            {{- if .gpus }}
            {{- $_ := set $resources "limits" (merge (dict "nvidia.com/gpu" (int .gpus)) (default dict $resources.limits)) }}
            {{- end }}
            {{- toYaml $resources | nindent 12 }}
          volumeMounts:
            - name: store
              mountPath: /var/lib/semblance
            - name: tmp
              mountPath: /tmp
            {{- range .mounts }}
            - name: {{ .name }}
              mountPath: {{ .path }}
              readOnly: true
            {{- end }}
            {{- range $root.Values.extraVolumes }}
            - name: {{ .name }}
              mountPath: {{ .mountPath }}
              readOnly: true
            {{- end }}
      volumes:
        {{- range .mounts }}
        - name: {{ .name }}
          {{- toYaml .source | nindent 10 }}
        {{- end }}
        {{- range $root.Values.extraVolumes }}
        - name: {{ .name }}
          {{- toYaml (omit . "name" "mountPath") | nindent 10 }}
        {{- end }}
        - name: store
          persistentVolumeClaim:
            claimName: {{ include "semblance.claim" $root }}
        - name: tmp
          emptyDir: {}
      {{- with .values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end -}}
