#!/usr/bin/env bash
# Generates the Kubernetes objects of manifests/monitoring from the plain files beside them:
#
#   wylis.rules.yaml        -> prometheus-rule.yaml             (PrometheusRule)
#   grafana-dashboard.json  -> grafana-dashboard-configmap.yaml (ConfigMap)
#
# --check only compares. An argument names another folder.
#
# For several clusters in one Prometheus, all files in a new folder, with the label that tells them apart:
#
#   CLUSTER_LABEL=cluster scripts/monitoring.sh FOLDER
set -euo pipefail

check=false
if [ "${1:-}" = --check ]; then
    check=true
    shift
fi
source=$(cd "$(dirname "$0")/.." && pwd)/manifests/monitoring
folder=${1:-$source}
label=${CLUSTER_LABEL:-}

fail() {
    echo "monitoring: $1" >&2
    exit 2
}

# Every aggregation and every join within one cluster.
clustered_rules() {
    sed -E \
        -e "s/\\b(by|on) \\(/\\1 ($label, /g" \
        -e "s/\\b(min|max|sum|avg|count)\\(/\\1 by ($label) (/g" \
        -e "s/absent\\((\\w+)\\)/group by ($label) (last_over_time(\\1[1d])) unless on ($label) \\1/" \
        -e "s/='%s'\\}([^|]*) \\| query/='%s',$label='%s'}\\1 \\\$labels.$label | query/" \
        -e "s/^( *summary: .*)/\\1 ({{ \\\$labels.$label }})/" \
        "$source/wylis.rules.yaml"
}

# A variable for the cluster, of which every query reads one.
clustered_dashboard() {
    local selector="$label=~\\\\\"\$$label\\\\\""
    sed -E \
        -e "/\"(expr|query)\": /s/\\b((wylis|process|scrape)_[a-z_]+)\\{/\\1{$selector,/g" \
        -e "/\"(expr|query)\": /s/\\b((wylis|process|scrape)_[a-z_]+)([^a-z_{])/\\1{$selector}\\3/g" \
        "$source/grafana-dashboard.json" | sed "/\"name\": \"source\"/{
            i \\        \"name\": \"$label\",
            i \\        \"label\": \"Cluster\",
            i \\        \"type\": \"query\",
            i \\        \"datasource\": {\"type\": \"prometheus\", \"uid\": \"\${datasource}\"},
            i \\        \"query\": {\"query\": \"label_values(wylis_build_info, $label)\", \"refId\": \"A\"},
            i \\        \"refresh\": 2,
            i \\        \"sort\": 1,
            i \\        \"multi\": false,
            i \\        \"includeAll\": false,
            i \\        \"options\": [],
            i \\        \"hide\": 0,
            i \\        \"skipUrlSync\": false
            i \\      },
            i \\      {
        }"
}

clustered_alertmanager() {
    sed -E "s/(equal: \\[|group_by: \\[)/\\1$label, /" "$source/alertmanager-example.yaml"
}

if [ -n "$label" ]; then
    [[ $label =~ ^[a-zA-Z_][a-zA-Z0-9_]*$ ]] || fail "CLUSTER_LABEL: $label is no name of a label"
    $check && fail "CLUSTER_LABEL: the files of several clusters have no sources beside them to check"
    [ "$#" = 1 ] || fail "CLUSTER_LABEL: the argument is the folder for the files of several clusters"
    mkdir -p "$folder"
    [ "$(cd "$folder" && pwd)" != "$source" ] || fail "CLUSTER_LABEL: $folder has the files of one cluster"
    clustered_rules >"$folder/wylis.rules.yaml"
    clustered_dashboard >"$folder/grafana-dashboard.json"
    clustered_alertmanager >"$folder/alertmanager-example.yaml"
    cp "$source/pod-monitor.yaml" "$folder/"
fi

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
