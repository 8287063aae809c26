#!/usr/bin/env bash
# The agent on a real Kubernetes. Where KUBECONFIG names a cluster, that one is used: it must have the
# manifests' image, and the same once more as `wylis:next` (or what WYLIS_NEXT_IMAGE says) to update
# to. Otherwise clusters are brought up on this machine, and taken down at the end.
#
#   e2e.sh              all tests
#   e2e.sh ARGUMENTS…   in one cluster, what these choose, as `cargo test` takes them: rolling:: --skip cost::
#
# WYLIS_CLUSTER is the number of our first cluster.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh

# Nearly all of it is waiting, so three clusters run beside each other. Two take the files in tests/e2e
# that take longest, and the first takes all the others. What they print comes whole.
if [ -z "${KUBECONFIG:-}" ] && [ $# = 0 ]; then
    cargo test --locked --test e2e --no-run
    tests/cluster/build.sh >/dev/null
    WYLIS_MONITORING=$(tests/cluster/build.sh monitoring)
    export WYLIS_MONITORING
    logs=$(mktemp -d)
    parts=()
    part() {
        # In a group of its own, so that it can be ended with all that it has started.
        WYLIS_CLUSTER=$((${WYLIS_CLUSTER:-0} + ${#parts[@]})) setsid scripts/e2e.sh "$@" >"$logs/${#parts[@]}" 2>&1 &
        parts+=($!)
    }
    end_all() {
        local leader
        for leader in "${parts[@]}"; do kill -- "-$leader" 2>/dev/null || true; done
        wait
        rm -rf "$logs"
    }
    trap end_all EXIT
    part --skip nodes:: --skip outage:: --skip rolling::
    part nodes::
    part outage:: rolling::
    # Prometheus finds pods that are mere objects as well as those on nodes.
    WYLIS_CLUSTER=9 setsid scripts/control-plane.sh --ignored >"$logs/${#parts[@]}" 2>&1 &
    parts+=($!)
    failed=false
    for number in "${!parts[@]}"; do
        wait "${parts[number]}" || failed=true
        cat "$logs/$number"
    done
    echo "e2e: everything in $SECONDS s"
    if $failed; then
        echo "e2e: failed" >&2
        exit 1
    fi
    exit
fi

if [ -z "${KUBECONFIG:-}" ]; then
    cluster=$PWD/tests/cluster/cluster.sh
    trap '"$cluster" down' EXIT
    "$cluster" up "${WYLIS_CLUSTER_NODES:-3}"
    KUBECONFIG=$("$cluster" kubeconfig)
    WYLIS_KUBECTL=$(tests/cluster/build.sh --path)/kubectl
    export KUBECONFIG WYLIS_KUBECTL WYLIS_CLUSTER_SCRIPT=$cluster
fi
# They share one cluster, so one after another.
cargo test --locked --test e2e -- --test-threads=1 --nocapture "$@"
echo "e2e: ${*:-everything} in $SECONDS s"
