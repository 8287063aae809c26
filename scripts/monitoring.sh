#!/usr/bin/env bash
# Generates the Kubernetes objects of manifests/monitoring from the plain files beside them:
#
#   wylis.rules.yaml        -> prometheus-rule.yaml             (PrometheusRule)
#   grafana-dashboard.json  -> grafana-dashboard-configmap.yaml (ConfigMap)
#
# --check only compares. An argument names another folder.
set -euo pipefail
cd "$(dirname "$0")/.."

check=false
if [ "${1:-}" = --check ]; then
    check=true
    shift
fi
folder=${1:-manifests/monitoring}

indented() { sed 's/./'"$1"'&/' "$2"; }

rule() {
    cat <<'HEAD'
# Generated from wylis.rules.yaml by scripts/monitoring.sh; edit that file.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: wylis
  namespace: wylis
  labels:
    app.kubernetes.io/name: wylis
spec:
HEAD
    indented '  ' "$folder/wylis.rules.yaml"
}

dashboard() {
    cat <<'HEAD'
# Generated from grafana-dashboard.json by scripts/monitoring.sh; edit that file. Grafana's sidecar finds it by
# the label, and in this namespace only if it searches all of them (searchNamespace: ALL).
apiVersion: v1
kind: ConfigMap
metadata:
  name: wylis-grafana-dashboard
  namespace: wylis
  labels:
    app.kubernetes.io/name: wylis
    grafana_dashboard: "1"
data:
  wylis.json: |
HEAD
    indented '    ' "$folder/grafana-dashboard.json"
}

# make FILE PART
make_file() {
    if $check; then
        "$2" | diff -u "$folder/$1" - || { echo "monitoring: $1 is out of date: run scripts/monitoring.sh" >&2; exit 1; }
    else
        "$2" >"$folder/$1"
    fi
}

make_file prometheus-rule.yaml rule
make_file grafana-dashboard-configmap.yaml dashboard
