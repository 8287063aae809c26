#!/usr/bin/env bash
# Runs tests/control_plane against a real API server without nodes: starts etcd and kube-apiserver on this
# machine (as root; built once from Go modules), runs the tests and stops both. Arguments go to the tests.
# If this machine lacks a requirement, the script prints it and exits with 3.
set -euo pipefail
cd "$(dirname "$0")/.."

export WYLIS_CLUSTER_SCRIPT=$PWD/tests/cluster/cluster.sh
# Another number than that of `make cluster-up`. The lock admits one run at a time.
export WYLIS_CLUSTER=${WYLIS_CLUSTER:-9}
exec 8>"/tmp/wylis-control-$WYLIS_CLUSTER.lock"
flock 8

tests=
finish() {
    local status=$?
    [ $status != 3 ] || exit 3
    [ -z "$tests" ] || kill "$tests" 2>/dev/null || true
    [ $status = 0 ] || "$WYLIS_CLUSTER_SCRIPT" logs 20 >&2 || true
    "$WYLIS_CLUSTER_SCRIPT" down || true
    exit $status
}
trap finish EXIT
trap 'exit 143' TERM
"$WYLIS_CLUSTER_SCRIPT" up-plane 8>&-
# One test at a time: they share the server. In the background, so that the traps run at once.
cargo test --locked --test control_plane -- --test-threads=1 --nocapture "$@" 8>&- &
tests=$!
wait "$tests" || exit 1
tests=
