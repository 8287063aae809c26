#!/usr/bin/env bash
# The agents before a real API server, without nodes: brings up etcd and kube-apiserver on this machine
# (as root; built from Go modules, once), runs tests/control_plane against them, and takes them down.
# Arguments go to the tests. Where this machine cannot, it says why and exits with 3.
set -euo pipefail
cd "$(dirname "$0")/.."

export WYLIS_CLUSTER_SCRIPT=$PWD/tests/cluster/cluster.sh
# Not the one that a person may look at meanwhile; and one at a time, whoever else tests here.
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
# They share one server. Beside us, so that we hear who tells us to stop.
cargo test --locked --test control_plane -- --test-threads=1 --nocapture "$@" 8>&- &
tests=$!
wait "$tests" || exit 1
tests=
